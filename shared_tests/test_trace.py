"""The trace: what is recorded of a model, and what the report shows."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from resattn.checking.backends import Backend, precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.draws import random_arrays, random_cotangent
from resattn.oracle import evaluation as reference
from resattn.tracing.trace import Mapped, last_stage, trace, trace_frameworks
from shared_tests.cases import NETWORKS, name_of
from shared_tests.trace_cases import (
    BLOCK,
    IN_WEIGHTS,
    PLAIN,
    SIZE,
    change_array,
    check_only,
    images,
    make_torch_model,
    swap_arrays,
    trace_changed,
)
from weights import BlockConfig, export, load, schema
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build, part
from weights.stages import Recording

CASES = [
    (BLOCK, SIZE),
    (BlockConfig(5, 5, (5, 3), attention="none", conv_bias=False), (7, 6)),
    NETWORKS[1],
]
KINDS = [
    (attention_block(kind, variants[-1]), (9, 8))
    for kind, variants in KINDS_AND_OPTIONS.items()
    if kind not in ("none", "se")
]


def record(model, config, x, training):
    framework = next(
        name
        for name in FRAMEWORKS
        if FRAMEWORKS[name].package == type(model).__module__.split(".")[0]
    )
    cotangent = {"training": training, "last": last_stage(config)}
    return part(framework, "bridge.recorder").trace(
        model, x, lambda shape: random_cotangent(shape, "float32"), **cotangent
    )


# What is recorded


@pytest.mark.parametrize(("config", "size"), CASES + KINDS, ids=name_of)
def test_stages_equal_those_of_the_oracle(backend, config, size):
    """Names, order and shapes are the same, forward and backward, and the model does not change."""
    arrays = random_arrays(config)
    x = images(config, size)
    with precise((backend.framework,), "float32"):
        model = backend.build(config, arrays)
        found = trace({"model": model}, x, modes=("train",))
    assert all((array == arrays[name]).all() for name, array in export(model).items())
    state = reference.stages(config, arrays, x, training=True)
    forward = [row.tensor for row in found.rows if row.quantity == "train forward"]
    assert {row.expected for row in found.rows} == {"oracle"}
    assert set(forward) <= set(state.stages)
    modules = {parameter.module for parameter in schema(config)} - {"attention.conv"}
    assert modules <= {state.stages[name].module for name in forward} | {"attention.conv"}
    assert forward[-1] == last_stage(config)
    statistics = {row.tensor for row in found.rows if row.quantity == "train statistics"}
    assert statistics == set(state.state.statistics)
    assert found.ok, str(found)
    assert all(row.ok for row in found.rows if row.quantity != "train backward"), str(found)


@pytest.mark.parametrize(("config", "size"), [*CASES[:1], *KINDS[:2]], ids=name_of)
def test_the_same_stages_in_every_framework(all_frameworks, config, size):
    """Including the inputs of functions, which the oracle does not have."""
    x = images(config, size)
    recordings = [
        record(build(config, random_arrays(config), name), config, x, False)
        for name in all_frameworks
    ]
    names = [list(recording.values) for recording in recordings]
    assert names[0] == names[1] == names[2]
    assert len({frozenset(recording.slopes) for recording in recordings}) == 1
    for recording in recordings[1:]:
        for name, value in recording.values.items():
            assert np.abs(value - recordings[0].values[name]).max() <= 2e-6 * np.abs(value).max(), (
                name
            )


def test_statistics_are_restored_after_an_error(torch):
    model = build(BLOCK, random_arrays(BLOCK), "torch")
    model.conv2.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trace({"model": model}, images(), modes=("train",))
    assert (export(model)["bn1.running_mean"] == random_arrays(BLOCK)["bn1.running_mean"]).all()


def test_without_gradients(torch):
    """Within torch.no_grad there are gradients nevertheless. A model that detaches its output has
    values only.
    """
    model = build(BLOCK, random_arrays(BLOCK), "torch")
    with torch.no_grad():
        assert any(
            row.quantity == "eval backward"
            for row in trace({"model": model}, images(), modes=("eval",)).rows
        )
    deaf, stages = make_torch_model(torch, PLAIN, random_arrays(PLAIN))
    deaf.requires_grad_(False)
    deaf.last.forward = lambda x: x.detach().relu()
    found = trace(
        {"deaf": Mapped(deaf, stages)},
        images(PLAIN),
        config=PLAIN,
        arrays=random_arrays(PLAIN),
        modes=("eval",),
    )
    assert found.ok, str(found)


def test_nan_in_the_checkpoint_is_no_mistake(torch):
    for name in ("bn1.running_var", "conv1.weight"):
        arrays = random_arrays(BLOCK)
        arrays[name].flat[0] = np.nan
        found = trace({"ours": build(BLOCK, arrays, "torch")}, images(), modes=("eval",))
        assert [finding for finding in found.findings if not finding.backward] == [], str(found)


def test_a_recording_is_of_evaluation(torch):
    arrays, x = random_arrays(BLOCK), images()
    state = reference.stages(BLOCK, arrays, x, training=False)
    values = {
        name: stage.output.value.astype("f")
        for name, stage in state.stages.items()
        if name != "input"
    }
    assert trace({"theirs": Recording(values)}, x, config=BLOCK, arrays=arrays).ok
    stored = {"output": values["output"].astype("float16")}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=stored)
    check_only(found, "output", "rounded output")
    assert "rounds its output to float16" in found.first.explanations[0].words


def test_functions_are_restored(framework):
    """Functions and classes are restored, also after an error."""
    package = FRAMEWORKS[framework].package
    block = __import__(f"{package}.block", fromlist=["relu"])
    before = block.relu, type(build(BLOCK, random_arrays(BLOCK), framework)).__call__
    model = build(BLOCK, random_arrays(BLOCK), framework)
    trace({"model": model}, images(), modes=("eval",))
    with pytest.raises(ValueError, match="batch norm in training"):
        trace({"model": model}, images(size=(1, 2), batch=1), modes=("train",))
    assert (block.relu, type(model).__call__) == before
    assert (export(model)["bn1.running_mean"] == random_arrays(BLOCK)["bn1.running_mean"]).all()


# Reports


def test_reports_are_json_and_text(torch):
    found = trace_changed(
        "torch", IN_WEIGHTS["transposed"][2], IN_WEIGHTS["no offset"][2], modes=("eval", "train")
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["ok"] is False
    assert [each["stage"] for each in plain["findings"]] == ["conv1", "shortcut.1"] * 2
    assert plain["findings"][0]["explanations"][0]["cause"] == "transposed kernel"
    text = str(found)
    assert text.count("reads the kernel's axes") == 1  # both modes in one
    assert "theirs, eval and train: diverges at conv1" in text
    marked = [line for line, kind in found.lines() if kind == "bad" and "<-" in line]
    assert [line.split()[0] for line in marked] == ["conv1", "shortcut.1"] * 2
    assert "diverges first" in marked[0]
    assert "first" not in marked[1]
    unclear = trace_changed("torch", change_array("conv1.weight", lambda w: w * np.nan))
    json.dumps(unclear.to_dict(), allow_nan=False)


def test_long_reports_are_shortened():
    from resattn.tracing.findings import Finding, Trace
    from weights import difference

    rows = [
        difference(
            np.ones(2),
            np.ones(2),
            tolerance=1,
            quantity="eval forward",
            tensor=f"s{n}",
            names=("m", "oracle"),
        )
        for n in range(100)
    ]
    finding = Finding("m", "eval", "s50", ("s49", 0.0), rows[50], "everywhere")
    lines = [line for line, _ in Trace("t", tuple(rows), (finding,)).lines()]
    assert sum(line.startswith("  s") for line in lines) < 15
    assert any(line.startswith("  s50 ") and "m diverges first" in line for line in lines)
    hidden = [int(line.split()[1]) for line in lines if line.startswith("  ... ")]
    assert sum(hidden) + sum(line.startswith("  s") for line in lines) == 101
    assert (
        sum(
            line.startswith("  s")
            for line, _ in Trace("t", tuple(rows), (finding,)).lines(every=True)
        )
        == 101
    )


def test_two_live_models(all_frameworks):
    """Of three models one has another padding; the others agree."""
    arrays = random_arrays(BLOCK)
    models = {name: build(BLOCK, arrays, name) for name in all_frameworks}
    models["jax"].conv1.padding = "SAME"
    found = trace(models, images(), modes=("eval",))
    check_only(found, "conv1", "SAME padding")
    assert found.first.model == "jax"


def test_a_changed_copy_of_a_live_model(framework):
    """The first model is the target of the others."""
    backend = Backend(framework, "cpu")
    model = backend.build(BLOCK, random_arrays(BLOCK))
    other = backend.build(BLOCK, random_arrays(BLOCK))
    arrays = copy.deepcopy(export(other))
    swap_arrays("bn2.weight", "bn2.bias")(arrays)
    load(other, arrays)
    found = trace({"right": model, "wrong": other}, images(), modes=("eval",))
    check_only(found, "bn2", "gamma and beta swapped")
    assert found.first.model == "wrong"
    assert adapter(framework).is_training(other) is False
