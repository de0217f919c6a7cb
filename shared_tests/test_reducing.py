"""A stage that differs becomes a small script, which fails; without the mistake it passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays
from resattn.cli.app import app
from resattn.oracle import evaluation as reference
from resattn.reducing.case import FailingCase, make_case
from resattn.reducing.reduction import reduce_trace
from resattn.reducing.shrinking import list_parts, shrink
from resattn.tracing.computation import StageSpec, compute
from resattn.tracing.judge import specify_stage
from resattn.tracing.trace import trace_frameworks
from weights import BlockConfig, write
from weights.errors import ArgumentError

BLOCK = BlockConfig(5, 6, 3, 2)
ARRAYS = random_arrays(BLOCK, "float32", 3)
X = np.random.default_rng(0).normal(size=(3, 5, 9, 8)).astype("float32")
ROOT = Path(__file__).parent.parent

# stage, what is done to its specification, the most numbers and lines of the script
MISTAKES = {
    "eps": ("bn1", lambda spec: spec.with_settings(eps=1e-2), 5, 20),
    "SAME": ("conv1", lambda spec: spec.with_settings(same=True), 20, 20),
    "flipped": ("conv2", lambda spec: spec.with_parameters(
        weight=spec.parameters["weight"][:, :, ::-1, ::-1]), 25, 21),
    "swapped": ("bn2", lambda spec: spec.with_parameters(
        weight=spec.parameters["bias"], bias=spec.parameters["weight"]), 6, 22),
    "no bias": ("conv1", lambda spec: spec.with_parameters(
        bias=np.zeros_like(spec.parameters["bias"])), 8, 20),
    "another activation": ("relu", lambda spec: StageSpec(
        "hard_swish", spec.parameters, spec.settings), 2, 16),
}  # fmt: skip


def expect(mistake):
    """What a model gives that makes a mistake: the stage, and what it says."""
    stage, change, *_ = MISTAKES[mistake]
    made = reference.stages(BLOCK, ARRAYS, X, training=False).stages[stage]
    wrong = change(specify_stage(made, ARRAYS, False))
    return {stage: compute(wrong, tuple(node.value for node in made.inputs)).astype("float32")}


def run(script, folder):
    path = folder / "reduced.py"
    path.write_text(script)
    return subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_becomes_a_script(framework, mistake, tmp_path):
    expected = expect(mistake)
    found = trace_frameworks(
        BLOCK, ARRAYS, frameworks=(framework,), inputs=X, expected=expected, seed=0
    )
    reduction = reduce_trace(found, BLOCK, ARRAYS, X, framework)
    stage, _, most_numbers, most_lines = MISTAKES[mistake]
    assert reduction.finding.stage == stage
    assert reduction.count <= most_numbers
    assert len(reduction.script.splitlines()) <= most_lines
    assert "resattn" not in reduction.script.replace("`resattn check --reduce`", "")
    done = run(reduction.script, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "AssertionError: they differ by" in done.stderr
    assert done.stdout.startswith("expected [")
    repaired = reduction.script.replace('print("expected"', 'found = expected\nprint("expected"')
    assert run(repaired, tmp_path).returncode == 0


def test_what_a_script_cannot_show():
    found = trace_frameworks(BLOCK, ARRAYS, frameworks=(), inputs=X, expected=expect("eps"))
    noise = np.random.default_rng(1).normal(size=(3, 6, 5, 4)).astype("float32")
    strange = trace_frameworks(BLOCK, ARRAYS, frameworks=(), inputs=X, expected={"bn1": noise})
    with pytest.raises(ArgumentError, match=r"cannot be reduced to a script: bn1 \(expected\): no"):
        reduce_trace(strange, BLOCK, ARRAYS, X, "torch")
    right = reference.stages(BLOCK, ARRAYS, X, training=False).stages["bn1"].computed.value
    same = {"bn1": right.astype("float32")}
    found = trace_frameworks(BLOCK, ARRAYS, frameworks=(), inputs=X, expected=same)
    with pytest.raises(ArgumentError, match="there is nothing to reduce"):
        reduce_trace(found, BLOCK, ARRAYS, X, "torch")


def test_float64(torch, tmp_path):
    """The numbers of a script have the format of the check."""
    arrays = random_arrays(BLOCK, "float64", 3)
    made = reference.stages(BLOCK, arrays, X.astype(float), training=False).stages["bn1"]
    spec = specify_stage(made, arrays, False).with_settings(eps=1e-5 + 1e-9)
    wrong = {"bn1": compute(spec, tuple(node.value for node in made.inputs))}
    found = trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=X.astype(float),
        expected=wrong,
        dtype="float64",
    )
    reduction = reduce_trace(found, BLOCK, arrays, X.astype(float), "torch", "float64")
    assert "torch.float64" in reduction.script
    assert run(reduction.script, tmp_path).returncode == 1


def test_shrinking_keeps_the_failure():
    """A difference in one channel of many: one channel is left."""
    rng = np.random.default_rng(0)
    held = {name: rng.uniform(0.5, 2, 8) for name in ("weight", "bias")}
    held |= {"running_mean": rng.normal(size=8), "running_var": rng.uniform(0.5, 2, 8)}
    right = StageSpec("batch_norm", held, {"eps": 1e-5, "training": False})
    changed = held["weight"].copy()
    changed[5] *= 2
    wrong = right.with_parameters(weight=changed)
    case = make_case(right, wrong, (rng.normal(size=(4, 8, 6, 5)),), "float32")

    def fails(each: FailingCase) -> bool:
        one, other = each.outputs
        return bool(np.abs(one - other).max() > 0.1)

    smallest = shrink(case, fails)
    assert smallest.inputs[0].shape == (1, 1, 1, 1)
    assert fails(smallest)
    assert smallest.complexity < case.complexity


def test_parts_of_an_axis():
    parts = list(list_parts(5))
    assert parts[:5] == [[0], [1], [2], [3], [4]]
    assert [0, 1, 2, 4] in parts
    assert all(0 < len(part) < 5 for part in parts)
    assert list(list_parts(1)) == []


def test_on_the_command_line(torch, tmp_path):
    write(tmp_path / "block.safetensors", BLOCK, ARRAYS)
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "theirs.npz", **expect("eps"))
    target = tmp_path / "reduced.py"
    words = ["check", tmp_path / "block.safetensors", "--inputs", tmp_path / "x.npy"]
    words += ["--frameworks", "torch", "--reduce", target]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0
    assert "There is nothing to reduce." in done.output
    assert not target.exists()
    words += ["--expected", tmp_path / "theirs.npz"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1
    assert "bn1 in 19 lines" in done.output
    assert run(target.read_text(), tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reduce", "a.txt"), "--reduce: expected a .py file, got a.txt"),
        (("--reduce", "a.py", "--grid"), "--reduce: cannot be combined with --grid"),
        (("--reduce", "a.py", "--dtype", "bfloat16"), "--dtype bfloat16: cannot be combined with"),
    ],
)
def test_options(words, said):
    done = CliRunner().invoke(app, ["check", *words])
    assert isinstance(done.exception, ArgumentError)
    assert said in str(done.exception)
