"""Outputs from elsewhere: the trace finds the mistake from a few stages or the output alone."""

from __future__ import annotations

import re

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from resattn.oracle import evaluation as reference
from resattn.tracing.computation import StageSpec, compute
from resattn.tracing.trace import Mapped, trace, trace_frameworks
from shared_tests.trace_cases import BLOCK, check_only, images
from weights.live import build
from weights.stages import Recording


@pytest.fixture(scope="module")
def posed():
    arrays = random_arrays(BLOCK)
    return arrays, images()


EVERYWHERE = {
    "eps": ({"eps": 1e-3}, "batch_norm", "batch norm eps"),
    "train mode": ({"training": True}, "batch_norm", "train or evaluation mode"),
    "SAME": ({"same": True}, "convolution", "SAME padding"),
    "TF32": ({"format": "TF32"}, "convolution", "reduced precision"),
    "silu": ({"activation": "silu"}, "relu", "activation"),
}


def compute_wrongly(arrays, x, settings, kind, only_at=None):
    """The oracle's stages, with changed settings in all stages of a kind or in one."""

    def altered(stage):
        leaves = {
            n.rpartition(".")[2]: a.astype(float)
            for n, a in arrays.items()
            if n.rpartition(".")[0] == stage.module
        }
        step = StageSpec(stage.kind, leaves, {**stage.settings, **settings})
        return compute(step, tuple(node.value for node in stage.inputs))

    plain = reference.stages(BLOCK, arrays, x, training=False)
    sites = [
        name
        for name, stage in plain.stages.items()
        if stage.kind == kind and only_at in (None, name)
    ]
    state = reference.stages(
        BLOCK, arrays, x, training=False, altered=dict.fromkeys(sites, altered)
    )
    return {
        name: stage.output.value.astype("f")
        for name, stage in state.stages.items()
        if name != "input"
    }


@pytest.mark.parametrize("mistake", EVERYWHERE)
def test_expected_outputs(torch, posed, mistake):
    """The output alone is enough if the same mistake is made everywhere."""
    arrays, x = posed
    settings, kind, cause = EVERYWHERE[mistake]
    expected = {"output": compute_wrongly(arrays, x, settings, kind)["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    assert [(finding.model, finding.stage) for finding in found.findings] == [
        ("expected", "output")
    ]
    assert found.first.explanations[0].cause == cause, str(found)
    words, places = found.first.explanations[0].words, found.first.explanations[0].places
    assert places
    assert {places[0], places[-1]} <= set(re.findall(r"[\w.]+", words))
    # At stride 1 both paddings are the same, so conv1 alone can have it.
    assert words.endswith(", at conv1") if mistake == "SAME" else "in all of" in words


def test_expected_outputs_of_one_wrong_stage(torch, posed):
    arrays, x = posed
    expected = {"output": compute_wrongly(arrays, x, {"eps": 1e-2}, "batch_norm", "bn2")["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    check_only(found, "output", "batch norm eps")
    assert found.first.explanations[0].words == "eps 0.01 instead of 1e-05, at bn2"
    assert found.first.explanations[0].places == ("bn2",)


def test_expected_stages(torch, posed):
    """With more stages fewer causes are tried, and the finding names the stage."""
    arrays, x = posed
    wrong = compute_wrongly(arrays, x, {"eps": 1e-3}, "batch_norm", "bn1")
    found = trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=x,
        expected={name: wrong[name] for name in ("conv1", "bn1", "output")},
    )
    check_only(found, "bn1", "batch norm eps")
    assert found.first.agrees[0] == "conv1"


def test_expected_two_mistakes(torch, posed):
    arrays, x = posed
    bgr = x[:, ::-1]
    expected = {"output": compute_wrongly(arrays, bgr, {"eps": 1e-3}, "batch_norm")["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    check_only(found, "output", "channel order of the image and batch norm eps")


def test_expected_that_agree_or_are_unexplained(torch, posed):
    arrays, x = posed
    right = compute_wrongly(arrays, x, {}, "relu")["output"]
    for array in (right, np.moveaxis(right, 1, -1)):
        found = trace_frameworks(
            BLOCK, arrays, frameworks=("torch",), inputs=x, expected={"output": array}
        )
        assert found.ok, str(found)
    assert "its axes were taken as (batch row col channel)" in found.notes[-1]
    found = trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=x,
        expected={"output": right + np.float32(0.01)},
    )
    check_only(found, "output")


# Errors


def test_expected_that_do_not_fit(torch, posed):
    arrays, x = posed
    for outputs, message in (
        ({"bn9": x}, "there is no stage 'bn9'; the stages are conv1, bn1"),
        (
            {"output": x[..., 0, 0]},
            "expected: output: expected (3, 4, 4, 3) (batch channel row col), got (3, 4)",
        ),
        ({"output": x > 0}, "expected: output: expected an array of real numbers, got bool"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=outputs)
    with pytest.raises(
        ValueError, match="expected: the outputs belong to certain inputs; give these, too"
    ):
        trace_frameworks(BLOCK, arrays, frameworks=("torch",), expected={})
    with pytest.raises(ValueError, match="expected the output or stages by name, got none"):
        trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected={})


def test_models_that_do_not_fit(torch, posed):
    arrays, x = posed
    model = build(BLOCK, arrays, "torch")

    def mapped(**stages):
        return {"a": model, "b": Mapped(model, stages)}

    for error, models, message in (
        (ValueError, {}, "expected at least one model and some of eval, train"),
        (
            ValueError,
            {"a": Recording({})},
            "none of them is ours, so config and arrays are needed",
        ),
        (TypeError, {"a": torch.nn.ReLU()}, "ReLU (PyTorch) has no residual block"),
        (TypeError, {"a": 3}, "expected a PyTorch module, a Flax module or a Keras layer, got"),
        (
            TypeError,
            {"a": model, "b": Mapped(3, {})},
            "expected a PyTorch module, a Flax module or a Keras layer, got",
        ),
        (
            ValueError,
            mapped(bn1="bm1"),
            "stages: there is no 'bm1' in pytorch_impl.block.ResidualBlockWithAttention on the way",
        ),
        (
            ValueError,
            mapped(norm="bn1"),
            "stages: b: there is no stage 'norm'; the stages are input, conv1",
        ),
        (
            ValueError,
            mapped(bn1="bn1.weight"),
            "stages: 'bn1.weight' is Parameter, not a module that is called",
        ),
        (
            ValueError,
            mapped(bn1="bn1", bn2="bn1"),
            "stages: bn1 and bn2 are one module, 'bn1', so which of its calls",
        ),
        (ValueError, mapped(input="conv1"), "stages: b: the input is not a stage; map conv1"),
        (ValueError, {"oracle": model}, "models: 'oracle' is the name of NumPy in the report"),
        (
            ValueError,
            mapped(conv1="conv1", bn1="attention.fc1"),
            "b: bn1: expected (3, 4, 4, 3) (batch channel row col), got (3, 4, 1, 1): its stride, "
            "padding or channels",
        ),
    ):
        with pytest.raises(error, match=re.escape(message)):
            trace(models, x)
    with pytest.raises(ValueError, match=re.escape("and some of eval, train, got ['test']")):
        trace({"a": model}, x, modes=("test",))
    with pytest.raises(ValueError, match=re.escape("inputs: expected (batch, 4, height, width)")):
        trace({"a": model}, x[:, :2])
