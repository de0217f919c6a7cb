"""Runs that are recorded in one framework and compared without any."""

# ruff: noqa: E402  (PyTorch first: it must be loaded before TensorFlow)

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from resattn import Mapped, compare, record, trace
from resattn.checking.draws import random_arrays
from resattn.recording import environment, training
from resattn.recording.file import read_run, write_run
from resattn.tracing.sampling import STATISTICS, Recorded, Sample, draw_positions, is_small
from resattn.training.trainer import Trainer
from shared_tests.recording_cases import (
    RECORDED_BLOCK,
    RECORDED_NETWORK,
    SIDES,
    draw_recorded,
    record_ours,
)
from shared_tests.test_imports import ALL_FRAMEWORKS, FRAMEWORK_MODULES, ROOT, blocking
from shared_tests.trace_cases import change_array, swap_arrays
from shared_tests.trace_plants import PLANTS, make_case
from weights import SGD, Adam, Recipe, preset, write
from weights.errors import ArgumentError, WeightsError
from weights.fingerprint import fingerprint
from weights.live import build

CONFIGS = {"block": RECORDED_BLOCK, "network": RECORDED_NETWORK}


@pytest.fixture(scope="module")
def runs():
    """Runs by framework and config, each recorded once."""
    made = {}

    def get(framework, name="block"):
        if (framework, name) not in made:
            made[framework, name] = record_ours(framework, CONFIGS[name])
        return made[framework, name]

    return get


# The same weights


@pytest.mark.parametrize("name", CONFIGS)
def test_all_pairs_are_equal(all_frameworks, runs, name):
    for pair in combinations(all_frameworks, 2):
        found = compare(*(runs(framework, name) for framework in pair), names=pair)
        assert found.ok, str(found)
        assert found.apart == found.partings == ()
        ways = {row.quantity for row in found.trace.rows}
        assert ways == {
            f"{mode} {way}" for mode in ("eval", "train") for way in ("forward", "backward")
        } | {"train statistics"}
        assert {each.what for each in found.environment if each.differs} >= {"framework"}
        assert "weights" not in {each.what for each in found.environment if each.differs}
        (each,) = found.pairs
        assert 0 < each.worst.relative < 1e-4
    if len(all_frameworks) == 3:
        three = compare(*(runs(each, name) for each in all_frameworks), names=all_frameworks)
        assert three.ok
        assert len(three.pairs) == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_float64(name):
    one = record_ours("torch", CONFIGS[name], "float64", steps=2)
    again = record_ours("torch", CONFIGS[name], "float64", steps=2)
    found = compare(one, again)
    assert found.ok, str(found)
    assert max(row.relative for row in found.trace.rows) < 1e-12
    assert found.pairs[0].equal == found.pairs[0].count
    assert "equal to the last bit" in str(found)


def test_equal_infinities(runs):
    run = runs("torch")
    held = run.modes["eval"]
    sample = held.sampled_values["conv1"]
    values = sample.held.copy()
    values[0, :3] = np.inf, -np.inf, np.nan
    sampled = {**held.sampled_values, "conv1": replace(sample, held=values)}
    whole = {**held.values, "output": np.full_like(held.values["output"], np.inf)}
    modes = {**run.modes, "eval": replace(held, values=whole, sampled_values=sampled)}
    infinite = replace(run, modes=modes)
    (pair,) = compare(infinite, infinite).pairs
    assert pair.worst.relative == 0
    assert str(pair).endswith(f"{pair.count} of {pair.count} tensors are equal to the last bit")
    (pair,) = compare(run, infinite).pairs
    assert pair.worst.relative == np.inf
    assert not compare(run, infinite).ok


def test_what_is_recorded(runs):
    run = runs("torch", "network")
    assert run.inputs.shape == (3, 3, *SIDES)
    assert set(run.environment) >= {
        "framework", "device", "precision", "threads", "code", "NumPy", "Python", "variables",
    }  # fmt: skip
    assert run.environment["device"] == "cpu"
    for mode in ("eval", "train"):
        held = run.modes[mode]
        assert held.values["classifier"].shape == (3, 5)
        assert "stages.0.0.conv1" in held.sampled_values
        assert "stages.0.0.conv1" in held.sampled_slopes
        assert "stages.0.0.attention.fc1" in held.values  # too small for a sample
    assert set(run.modes["train"].statistics) == {
        name for name in random_arrays(RECORDED_NETWORK) if "running" in name
    }
    assert run.training.losses.shape == (3,)
    assert run.training.losses[0] > run.training.losses[2]
    assert set(run.training.tensors) == set(random_arrays(RECORDED_NETWORK))


def list_state(model, framework):
    """Everything that a model holds, also what is no parameter, and its gradients."""
    if framework == "torch":
        held = dict(model.state_dict())
        held |= {f"{name} slope": each.grad for name, each in model.named_parameters()}
    elif framework == "tf":
        held = {f"{n} {each.path}": each.numpy() for n, each in enumerate(model.variables)}
    else:
        held = dict(enumerate(jax_leaves(model)))
    return {name: None if each is None else np.array(each) for name, each in held.items()}


def jax_leaves(model):
    import jax
    from flax import nnx

    return jax.tree.leaves(nnx.state(model))


def test_the_model_is_not_changed(framework):
    model = build(RECORDED_BLOCK, random_arrays(RECORDED_BLOCK), framework)
    slope = None
    if framework == "torch":
        slope = torch.ones_like(model.conv1.weight)
        model.conv1.weight.grad = slope
    elif framework == "jax":
        own = jax_leaves(model)
    before = list_state(model, framework)
    record(model, draw_recorded(RECORDED_BLOCK), steps=2)
    after = list_state(model, framework)
    assert after.keys() == before.keys()
    for name, array in before.items():
        assert (array is None) == (after[name] is None), name
        assert array is None or np.array_equal(after[name], array), name
    if framework == "torch":
        assert model.conv1.weight.grad is slope
    elif framework == "jax":
        assert not any(array.is_deleted() for array in own)


def test_a_full_recording_holds_everything(runs, tmp_path):
    full = record_ours("torch", full=True)
    write_run(tmp_path / "full.safetensors", full)
    read = read_run(tmp_path / "full.safetensors")
    assert not read.modes["eval"].sampled_values
    assert all(np.array_equal(read.arrays[name], array) for name, array in full.arrays.items())
    assert compare(read, runs("torch")).ok


def test_size():
    """A default recording is small beside the weights."""
    config = preset("resnet20")
    arrays = random_arrays(config)
    run = record(build(config, arrays, "torch"), steps=2)
    size = sum(array.nbytes for array in arrays.values())
    held = sum(
        each.held.nbytes
        for recording in run.modes.values()
        for kind in (recording.sampled_values, recording.sampled_slopes)
        for each in kind.values()
    )
    assert held < size / 6


def test_size_of_the_file(tmp_path):
    config = preset("resnet20")
    arrays = random_arrays(config)
    record(build(config, arrays, "torch"), to=tmp_path / "a.safetensors")
    size = sum(array.nbytes for array in arrays.values())
    assert (tmp_path / "a.safetensors").stat().st_size < 0.4 * size


# Mistakes

# As in trace_plants.py: in evaluation or, where a plant says so, in training.
MISTAKES = (
    "eps of one stage", "odd eps of one stage", "no first norm", "no shortcut", "no relu inside",
    "relu before the first norm", "attention after the sum", "blocks exchanged", "dilation",
    "train mode in one stage", "statistics exchanged", "tanh for sigmoid", "silu in the block",
    "scaled branch", "leaky slope from nowhere", "norm folded and applied again",
)  # fmt: skip


def outline(finding):
    return finding.stage, finding.mode, [str(each) for each in finding.explanations]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_as_the_trace_finds_them(name):
    scope = "inside"
    model, x, config, arrays = make_case(name, scope)
    mode = PLANTS[name].mode
    expected = trace({"theirs": model}, x, config=config, arrays=arrays, modes=(mode,))
    right = record(build(config, arrays, "torch"), x, steps=0)
    wrong = record(model, x, config=config, arrays=arrays)
    found = compare(right, wrong, names=("ours", "theirs"), arrays=arrays)
    assert not found.ok
    assert expected.first is not None
    mine = [each for each in found.trace.findings if each.mode == mode]
    assert outline(mine[0]) == outline(expected.first)
    assert [each.stage for each in mine] == [each.stage for each in expected.findings]
    assert {each.model for each in mine} == {"theirs"}


# Mistakes in the weights of ours, so in every framework.
IN_ARRAYS = {
    "transposed kernel": (
        "conv2",
        change_array("conv2.weight", lambda w: w.transpose(1, 0, 2, 3)),
    ),
    "gamma and beta swapped": ("bn1", swap_arrays("bn1.weight", "bn1.bias")),
    "missing bias": ("conv1", change_array("conv1.bias", np.zeros_like)),
    "flipped kernel": ("conv1", change_array("conv1.weight", lambda w: w[:, :, ::-1, ::-1])),
}


def change_weights(change):
    arrays = random_arrays(RECORDED_BLOCK)
    change(arrays)
    return arrays


@pytest.mark.parametrize("cause", IN_ARRAYS)
def test_mistakes_in_every_framework(framework, runs, cause):
    stage, change = IN_ARRAYS[cause]
    wrong = record_ours(framework, held=change_weights(change), steps=0)
    found = compare(
        runs("torch"), wrong, names=("ours", "theirs"), arrays=random_arrays(RECORDED_BLOCK)
    )
    first = found.trace.first
    assert (first.model, first.stage, first.mode) == ("theirs", stage, "eval"), str(found)
    assert [each.cause for each in first.explanations] == [cause]
    assert all(each.left <= 2e-6 for each in first.explanations)


@pytest.mark.parametrize(("change", "cause"), [
    ({"bn_eps": 1e-3}, "batch norm eps"),
    ({"bn_decay": 0.1}, "batch norm decay"),
    ({"stride": (2, 1)}, None),
])  # fmt: skip
def test_models_of_another_config(framework, runs, change, cause):
    """The config says what the model should be; this one is built otherwise."""
    right = random_arrays(RECORDED_BLOCK)
    model = build(replace(RECORDED_BLOCK, **change), right, framework)
    options = {"config": RECORDED_BLOCK, "arrays": right, "steps": 0}
    if cause is None:
        with pytest.raises(ArgumentError, match=r"conv1: expected .* its stride, padding"):
            record(model, draw_recorded(RECORDED_BLOCK), **options)
        return
    wrong = record(model, draw_recorded(RECORDED_BLOCK), **options)
    found = compare(runs("torch"), wrong, names=("ours", "theirs"), arrays=right)
    assert {each.cause for f in found.trace.findings for each in f.explanations} == {cause}
    modes = {finding.mode for finding in found.trace.findings}
    assert modes == ({"train"} if cause == "batch norm decay" else {"eval", "train"})


def test_without_the_weights_the_stage_is_known_and_not_the_cause(runs):
    change = IN_ARRAYS["flipped kernel"][1]
    wrong = record_ours("torch", held=change_weights(change), steps=0)
    found = compare(runs("torch"), wrong, names=("ours", "theirs"))
    assert outline(found.trace.first) == ("conv1", "eval", [])
    assert "its cause was not searched" in str(found)
    assert f"the hash {wrong.weights_hash}" in str(found)
    full = record_ours("torch", full=True, steps=0)
    found = compare(full, wrong, names=("ours", "theirs"))
    assert outline(found.trace.first)[2] == [
        "flipped kernel: the kernel is rotated by 180 degrees (convolution instead of "
        "cross-correlation)"
    ]


def test_a_gradient_that_differs_alone(runs):
    """Forward all agrees; the gradient of a stage is another one."""

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, slope):
            return slope / 2

    arrays = random_arrays(RECORDED_BLOCK)
    model = build(RECORDED_BLOCK, arrays, "torch")
    forward = model.bn1.forward
    model.bn1.forward = lambda x: forward(Halved.apply(x))
    wrong = record(model, draw_recorded(RECORDED_BLOCK), steps=0)
    found = compare(runs("torch"), wrong, names=("ours", "theirs"))
    first = found.trace.first
    assert (first.stage, first.backward) == ("conv1", True)
    assert "gradient of conv1" in str(found)


# What differs around the runs


def test_other_weights_are_said_first(runs):
    arrays = random_arrays(RECORDED_BLOCK, seed=1)
    other = {**random_arrays(RECORDED_BLOCK), "conv1.weight": arrays["conv1.weight"]}
    run = record_ours("torch", held=other, arrays=other, steps=0)
    found = compare(runs("torch"), run, names=("a", "b"))
    words = "a and b: the weights differ: 1 of 22 parameters, conv1.weight"
    assert found.lines()[1] == (words, "bad")
    assert not found.ok
    assert found.trace.ok  # each is right for its own weights
    assert found.pairs == ()
    assert "FAILED: the runs are not of the same model and inputs." in str(found)


@pytest.mark.parametrize(("options", "words"), [
    ({"inputs": draw_recorded(RECORDED_BLOCK) + 1}, "the inputs differ, by up to 1"),
    ({"inputs": draw_recorded(RECORDED_BLOCK)[:2]}, "the inputs differ: (3, 4, 25, 22) and (2, "),
    ({"dtype": "float64"}, "the dtypes differ: float32 and float64"),
    ({"seed": 1}, "the seeds differ, and with them the gradients: 0 and 1"),
    ({"recipe": Adam(), "steps": 1}, "the recipes of training differ: optimizer: "),
])  # fmt: skip
def test_what_makes_outputs_differ(runs, options, words):
    run = record_ours("torch", **{"steps": 0, **options})
    found = compare(runs("torch"), run)
    assert not found.ok
    assert any(words in line for line in found.apart), found.apart


def test_another_config(runs):
    config = replace(RECORDED_BLOCK, bn_eps=1e-3)
    run = record_ours("torch", config, steps=0)
    found = compare(runs("torch"), run)
    assert found.apart[0] == "run 1 and run 2: the configs differ: bn_eps 1e-05 and 0.001"


# Training


@pytest.mark.parametrize("recipe", [SGD(0.05, momentum=0.9), Adam(1e-3)])
def test_training_agrees(all_frameworks, recipe):
    found = compare(
        *(record_ours(framework, recipe=recipe) for framework in all_frameworks),
        record_ours("torch", recipe=recipe),
    )
    assert found.ok, str(found)
    assert all(len(losses) == 3 for losses in found.losses.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mistake_in_the_optimizer(monkeypatch, dtype):
    """A momentum of 0.1 instead of 0.9 shows at the second step."""
    recipe = SGD(0.05, momentum=0.9)

    class Confused(Trainer):
        def __init__(self, model, given, examples):
            optimizer = replace(given.optimizer, momentum=0.1)
            super().__init__(model, replace(given, optimizer=optimizer), examples)

    right = record_ours("torch", dtype=dtype, recipe=recipe)
    monkeypatch.setattr(training, "Trainer", Confused)
    wrong = record_ours("torch", dtype=dtype, recipe=recipe)
    found = compare(right, wrong, names=("ours", "theirs"))
    assert found.trace.ok
    (parting,) = found.partings
    assert (parting.name, parting.step) == ("theirs", 2)
    assert parting.apart > 10 * parting.limit
    assert "theirs: training parts from the oracle at step 2" in str(found)
    assert not found.ok


def test_training_of_a_model_that_is_wrong(runs):
    """The oracle trains what the model should be, so training parts, too."""
    right = random_arrays(RECORDED_BLOCK)
    model = build(replace(RECORDED_BLOCK, bn_eps=1e-1), right, "torch")
    wrong = record(model, draw_recorded(RECORDED_BLOCK), config=RECORDED_BLOCK, arrays=right)
    found = compare(runs("torch"), wrong, names=("ours", "theirs"))
    assert [(each.name, each.step) for each in found.partings] == [("theirs", 1)]


def test_a_recipe_of_several_batches():
    recipe = Recipe(SGD(0.05), batch_size=1, seed=3)
    run = record_ours("torch", recipe=recipe)
    assert run.training.recipe == recipe
    assert compare(run, record_ours("torch", recipe=recipe)).ok


def test_chance_is_left_out():
    config = replace(RECORDED_NETWORK, drop_path=0.2)
    arrays = random_arrays(config)
    run = record(build(config, arrays, "torch"), draw_recorded(config))
    assert set(run.modes) == {"eval"}
    assert run.training is None
    assert run.notes == ("training was not recorded: drop_path and dropout draw random numbers",)


# Samples


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 7, 40, 31), (4, 300), (100, 20, 5, 5)])
def test_a_sample_differs_by_no_more_than_the_whole(shape):
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1e-2, 10.0):
        one = rng.normal(1, 2, shape)
        other = one + scale * rng.normal(size=shape)
        sample = Sample.of(one, "a")
        whole, part = np.abs(one - other).max(), np.abs(sample.held - sample.observe(other)).max()
        assert 0 < part <= whole * (1 + 1e-9)
        assert np.abs(sample.held).max() == np.abs(one).max()


def test_positions_are_the_same_everywhere_and_at_the_border():
    shape = (2, 16, 32, 30)
    positions = draw_positions(shape, "conv1")
    assert np.array_equal(positions, draw_positions(shape, "conv1"))
    assert positions[:5].tolist() == [35, 304, 368, 389, 963]  # in every version of ours
    assert not np.array_equal(positions, draw_positions(shape, "conv2"))
    _, row, col = np.unravel_index(positions, shape[1:])
    border = (row == 0) | (row == 31) | (col == 0) | (col == 29)
    assert 0.4 < border.mean() < 0.7
    assert is_small((2, 16))
    assert not is_small(shape)


def test_the_place_of_a_difference():
    values = np.zeros((2, 5, 9, 8))
    sample = Sample.of(values, "a")
    assert sample.locate(1, 0, "batch channel row col") == ((1,), f"batch, {STATISTICS[0]}")
    place, axes = sample.locate(1, len(STATISTICS) + 2, "batch channel row col")
    assert np.ravel_multi_index(place[1:], (5, 9, 8)) == sample.positions[2]
    assert (place[0], axes) == (1, "batch channel row col")


# The environment


def test_the_state_of_the_code(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path,
                       check=True, capture_output=True)  # fmt: skip

    assert environment.describe_code(str(tmp_path)) == "not in a git repository"
    git("init")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-m", "a")
    assert environment.describe_code(str(tmp_path)).endswith(", unchanged")
    (tmp_path / "a.py").write_text("2")
    assert environment.describe_code(str(tmp_path)).endswith(", 1 file differs")
    (tmp_path / "b.py").write_text("2")
    assert environment.describe_code(str(tmp_path)).endswith(", 2 files differ")


def test_only_some_variables_are_recorded(monkeypatch, runs):
    monkeypatch.setenv("SOME_TOKEN", "do not record")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    said = environment.describe_environment("torch", torch.nn.Linear(1, 1))
    assert "OMP_NUM_THREADS=3" in said["variables"]
    assert "do not record" not in str(said)


def test_fingerprints():
    a = np.arange(6, dtype="float32").reshape(2, 3)
    assert fingerprint(a) == fingerprint(a.astype(">f4"))
    assert fingerprint(a) == fingerprint(np.asfortranarray(a))
    others = {fingerprint(each) for each in (a, a.T, a.astype("float64"), a + 1)}
    assert len(others) == 4


# Without a framework


COMPARE = """
import sys
from resattn.cli.app import main
sys.argv = ["resattn", "compare", *ARGUMENTS]
main()
"""


def compare_without_frameworks(*arguments):
    blocked = blocking(*ALL_FRAMEWORKS, *FRAMEWORK_MODULES)
    code = f"{blocked}\n{COMPARE.replace('*ARGUMENTS', f'*{list(map(str, arguments))}')}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_comparing_needs_no_framework(runs, tmp_path):
    write_run(tmp_path / "ours.safetensors", runs("torch"))
    change = IN_ARRAYS["transposed kernel"][1]
    wrong = record_ours("torch", held=change_weights(change), steps=0)
    write_run(tmp_path / "theirs.safetensors", wrong)
    write(tmp_path / "w.safetensors", RECORDED_BLOCK, random_arrays(RECORDED_BLOCK))
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    done = compare_without_frameworks(ours, theirs, "--weights", tmp_path / "w.safetensors")
    assert done.returncode == 1, done.stderr
    assert "theirs, eval and train" in done.stdout
    assert "diverges at conv2" in done.stdout
    assert "transposed kernel: " in done.stdout
    done = compare_without_frameworks(ours, ours)
    assert done.returncode == 0, done.stderr
    assert "The same: ours 1, ours 2 compute what the weights say." in done.stdout
    assert compare_without_frameworks(ours).returncode == 2


# Errors


def test_errors_of_compare(runs):
    run = runs("torch")
    with pytest.raises(ArgumentError, match="expected two or more recordings, got 1"):
        compare(run)
    with pytest.raises(ArgumentError, match="names: expected one for each of the 2 runs, all diff"):
        compare(run, run, names=("a", "a"))
    with pytest.raises(
        ArgumentError, match=r"weights: expected those of .*, whose hash is .* 22 of 22 "
    ):
        compare(run, run, arrays=random_arrays(RECORDED_BLOCK, seed=4))
    with pytest.raises(WeightsError, match="missing"):
        compare(run, run, arrays={})


def test_a_block_inside_a_larger_model(tmp_path):
    """Its input is not that of the model, and so recorded as well."""
    arrays = random_arrays(RECORDED_BLOCK)
    block = build(RECORDED_BLOCK, arrays, "torch")
    torch.manual_seed(0)
    whole = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 1, 1), block).eval()
    stages = {"conv1": "1.conv1", "bn1": "1.bn1", "output": "1"}
    x = np.random.default_rng(0).normal(size=(3, 3, *SIDES)).astype("float32")
    options = {"config": RECORDED_BLOCK, "arrays": arrays}
    right = record(Mapped(whole, stages), x, to=tmp_path / "a.safetensors", **options)
    assert compare(right, tmp_path / "a.safetensors").ok
    block.bn1.eps = 1e-2
    wrong = record(Mapped(whole, stages), x, to=tmp_path / "b.safetensors", **options)
    assert not wrong.trace.ok
    found = compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors", arrays=arrays)
    assert outline(found.trace.first) == (
        "bn1", "eval", ["batch norm eps: eps 0.01 instead of 1e-05"],
    )  # fmt: skip


def test_runs_of_other_modes_have_nothing_in_common(runs):
    run = runs("torch")
    one, other = (replace(run, modes={mode: run.modes[mode]}) for mode in ("eval", "train"))
    assert compare(one, other).pairs == ()


def test_errors_of_record():
    arrays = random_arrays(RECORDED_BLOCK)
    model = build(RECORDED_BLOCK, arrays, "torch")
    with pytest.raises(ArgumentError, match="record: expected config and arrays, which say what"):
        record(Mapped(model, {}), draw_recorded(RECORDED_BLOCK))
    with pytest.raises(ArgumentError, match="steps"):
        record(model, steps=-1)
    with pytest.raises(ArgumentError, match="inputs: expected"):
        record(model, np.zeros((2, 3, 5, 5), "float32"))
    with pytest.raises(ArgumentError, match=r"x\.pt: a recording is a \.safetensors file"):
        record(model, draw_recorded(RECORDED_BLOCK), steps=0, to="x.pt")


def test_a_recording_that_is_not_of_the_model():
    """Shapes of stages are compared with those of the config."""
    run = record_ours("torch", steps=0)
    held = run.modes["eval"]
    sample = replace(held.sampled_values["conv1"], shape=(3, 4, 9, 9))
    other = replace(held, sampled_values={**held.sampled_values, "conv1": sample})
    wrong = record_ours("torch", held=change_weights(IN_ARRAYS["missing bias"][1]), steps=0)
    finding = wrong.trace.findings[0]
    bad = replace(
        run,
        modes={**run.modes, "eval": other},
        trace=replace(run.trace, findings=(finding,)),
    )
    with pytest.raises(ArgumentError, match=r"conv1: expected \(3, 4, 13, 11\)"):
        compare(run, bad, arrays=random_arrays(RECORDED_BLOCK))


def test_a_recording_of_somebody_else_in_the_trace():
    """`trace` takes recordings in both modes beside live models."""
    run = record_ours("torch", steps=0)
    model = build(RECORDED_BLOCK, random_arrays(RECORDED_BLOCK), "torch")
    found = trace({"live": model, "recorded": Recorded(run.modes)}, run.inputs)
    assert found.ok
    assert {row.actual for row in found.rows} == {"live", "recorded"}
