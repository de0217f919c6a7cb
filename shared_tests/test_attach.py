"""Attention attached to a trained network: the output stays, every new parameter learns."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.checking.backends import Backend, precise
from resattn.checking.cases import KINDS_AND_OPTIONS
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.cli.app import app
from resattn.oracle import evaluation as reference
from resattn.training.trainer import Trainer
from shared_tests import training_cases
from weights import BlockConfig, BottleneckConfig, NetworkConfig, attach, preset, read, write
from weights.attach import attachments
from weights.attention import ATTENTION
from weights.errors import ArgumentError, WeightsError
from weights.files.formats import read_checkpoint
from weights.live import LiveModel
from weights.parameters import convolution
from weights.recipe import SGD, Recipe
from weights.schema import schema

one_thread, short = training_cases.one_thread, training_cases.short

FACTORS = {
    **dict.fromkeys(("se", "ese", "eca", "ge", "triplet"), 2),
    **dict.fromkeys(("cbam", "coordinate"), 4),
    **dict.fromkeys(("scse", "gc", "nonlocal"), 1),
    "bam": 2 / 3,
}
REFUSED = ("none", "simam", "mhsa")


def refused(kind, options):
    """ge without parameters has nothing to learn, and a folded module lacks its norms."""
    idle = kind == "ge" and options.get("gather") != "convolution" and not options.get("mlp")
    return kind in REFUSED or idle or options.get("folded")


VARIANTS = [
    (kind, options)
    for kind, variants in KINDS_AND_OPTIONS.items()
    for options in variants
    if not refused(kind, options)
]
# Each kind once, with the options that have the most layers.
ONCE = {kind: options for kind, options in VARIANTS if "size" not in options}
SIZES = ((9, 8), (8, 7), (8, 10), (11, 9))
NETWORK = NetworkConfig(3, 5, (6, 8), (1, 2), attention="none", stem_channels=4)


def is_exact(kind, options):
    return kind != "bam" and not (kind == "triplet" and options.get("spatial", True))


def sized(options, rows, cols):
    return {name: (rows, cols) if name == "size" else value for name, value in options.items()}


def largest_difference(before, after, x, training):
    """Of the outputs of all blocks, relative to the greatest value of each.

    Running statistics and logits must be as near: those are sums, whose order NumPy chooses by how
    a map lies in memory.
    """
    one, other = (reference.stages(*model, x, training=training) for model in (before, after))
    found = 0.0
    for name in before[0].named_blocks():
        expected, actual = (made.stages[name or "output"].output.value for made in (one, other))
        found = max(found, float(np.abs(actual - expected).max() / np.abs(expected).max()))
    scale = np.abs(one.output.value).max()
    assert np.abs(one.output.value - other.output.value).max() <= (10 * found + 1e-15) * scale
    for name, array in one.state.statistics.items():
        error = np.abs(other.state.statistics[name] - array).max()
        assert error <= (10 * found + 1e-15) * np.abs(array).max()
    return found


# The output


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_the_output_of_a_block(kind, options, size, training):
    config = BlockConfig(4, 6, 3, 2, attention="none")
    arrays = random_arrays(config, "float64")
    options = sized(options, -(-size[0] // 2), -(-size[1] // 2))
    after = attach(config, arrays, kind, options, seed=3)
    x = random_input(config, size, 3, "float64")
    difference = largest_difference((config, arrays), after, x, training)
    assert difference == 0 if is_exact(kind, options) else 0 < difference < 1e-15


PLAIN = {
    "bottleneck": BottleneckConfig(4, 8, 3, 2, attention="none", groups=2),
    "group-norm": BlockConfig(4, 6, 3, (2, 1), attention="none", norm="group", norm_groups=2),
    "relu": BottleneckConfig(8, 8, 3, 1, attention="none", relu_before_attention=True),
    "average": BlockConfig(4, 6, 3, 2, attention="none", shortcut="average", antialias="blur"),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("form", PLAIN)
@pytest.mark.parametrize("kind", ONCE)
def test_the_output_of_other_blocks(kind, form, training):
    config = PLAIN[form]
    arrays = random_arrays(config, "float64")
    after = attach(config, arrays, kind, ONCE[kind])
    assert type(after[0]) is type(config)
    x = random_input(config, (8, 10), 3, "float64")
    difference = largest_difference((config, arrays), after, x, training)
    assert difference == 0 if is_exact(kind, ONCE[kind]) else difference < 1e-15


@pytest.mark.parametrize("kind", ONCE)
def test_the_output_of_a_network(kind):
    arrays = random_arrays(NETWORK, "float64")
    after = attach(NETWORK, arrays, kind, ONCE[kind])
    assert (after[0].attention, dict(after[0].attention_options)) == (kind, ONCE[kind])
    x = random_input(NETWORK, (9, 10), 4, "float64")
    for training in (False, True):
        difference = largest_difference((NETWORK, arrays), after, x, training)
        assert difference == 0 if is_exact(kind, ONCE[kind]) else difference < 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["cbam", "triplet", "bam"])
def test_lower_formats(kind, dtype):
    """The oracle computes in float64, so what differs is the rounding of the arrays: for a power of
    2 none, for the 2/3 of bam half a unit in the last place.
    """
    arrays = random_arrays(NETWORK, dtype)
    config, found = attach(NETWORK, arrays, kind)
    assert {array.dtype for array in found.values()} <= {np.dtype(dtype), np.dtype(np.float32)}
    trainable = {each.name for each in schema(config) if each.trainable}
    assert {found[name].dtype for name in trainable} == {np.dtype(dtype)}
    difference = largest_difference(
        (NETWORK, arrays), (config, found), random_input(NETWORK, (9, 8), 2, "float64"), False
    )
    unit = float(ml_dtypes.finfo(dtype).eps)
    assert (
        difference == 0 if kind == "cbam" else difference < (2 * unit if kind == "bam" else 1e-14)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_output_in_each_framework(backend, dtype):
    config = preset("resnet20", widths=(4, 6, 8))
    arrays = random_arrays(config, dtype)
    x = random_input(config, (9, 10), 2, dtype)
    outputs = []
    with precise((backend.framework,), dtype):
        for model in ((config, arrays), attach(config, arrays, "cbam")):
            live = backend.build_live(*model)
            outputs.append(live.forward(x, training=False))
    assert np.isfinite(outputs[0]).all()
    np.testing.assert_array_equal(*outputs)


# The arrays


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_the_plain_arrays_are_kept(kind, options):
    config = BlockConfig(4, 6, attention="none")
    arrays = random_arrays(config)
    copies = {name: array.copy() for name, array in arrays.items()}
    target, found = attach(config, arrays, kind, sized(options, 9, 8))
    assert list(found) == [parameter.name for parameter in schema(target)]
    (each,) = attachments(config, target)
    factor = {"maximum": 2, "scale": 2, "both": 2}.get(options.get("fusion"), FACTORS[kind])
    assert each.start.factor == factor
    assert each.start.exact == is_exact(kind, options)
    for name, array in copies.items():
        np.testing.assert_array_equal(arrays[name], array)  # not mutated
        scaled = array * np.float64(factor) if name in ("bn2.weight", "bn2.bias") else array
        np.testing.assert_array_equal(found[name], scaled.astype(np.float32))


def test_chosen_stages():
    arrays = random_arrays(NETWORK)
    options = ({"reduction": 2}, None)
    first, found = attach(NETWORK, arrays, ("se", "none"), options)
    assert first.attention == ("se", "none")
    changed = {name for name, array in arrays.items() if (found[name] != array).any()}
    assert changed == {"stages.0.0.bn2.weight", "stages.0.0.bn2.bias"}
    assert set(found) - set(arrays) == {
        f"stages.0.0.attention.{layer}.{leaf}"
        for layer in ("fc1", "fc2")
        for leaf in ("weight", "bias")
    }
    both, more = attach(first, found, ("none", "eca"))
    assert both.attention == ("se", "eca")
    assert [dict(each) for each in both.attention_options] == [{"reduction": 2}, {}]
    x = random_input(NETWORK, (9, 8), 2, "float64")
    assert largest_difference((NETWORK, arrays), (both, more), x, True) == 0


def test_the_seed():
    arrays = random_arrays(NETWORK)
    first, again, other = (attach(NETWORK, arrays, "se", seed=seed)[1] for seed in (0, 0, 1))
    name = "stages.1.0.attention.fc1.weight"
    np.testing.assert_array_equal(first[name], again[name])
    assert (first[name] != other[name]).any()
    assert (first[name] != first["stages.1.1.attention.fc1.weight"]).any()


# Gradients


def gates(config, arrays, x):
    made = reference.stages(config, arrays, x, training=True)
    return [
        stage.output.value
        for name, stage in made.stages.items()
        if ".attention" in name and stage.kind in ("sigmoid", "hard_sigmoid")
    ]


def idle(config, arrays, x):
    """The parameters whose gradient is zero by definition, as a bias before a batch norm."""
    shape = reference.run(config, arrays, x, training=True).output.shape
    slope = random_cotangent(shape, "float64")
    return reference.run(config, arrays, x, slope, training=True).vanishing


def assert_learns(backend, kind, options, config=NETWORK):
    """Eight steps of SGD on one batch: each attention parameter has moved and the loss fell."""
    config, arrays = attach(config, random_arrays(config, "float64"), kind, options)
    x = random_input(config, (9, 8), 8, "float64")
    labels = np.arange(8) % config.classes
    assert all((gate == 0.5).all() for gate in gates(config, arrays, x))
    with precise((backend.framework,), "float64"):
        model = backend.build(config, arrays)
        trainer = Trainer(model, Recipe(SGD(0.02), batch_size=8), 8)
        losses = trainer.train(x, labels, 8)
        after = LiveModel.of(model).export()
    assert losses[-1] < losses[0]
    new = [each.name for each in schema(config) if each.trainable and ".attention." in each.name]
    still = [name for name in new if np.abs(after[name] - arrays[name]).max() < 1e-9]
    assert set(still) <= idle(config, after, x)
    for gate in gates(config, after, x):
        assert 0.02 < gate.min() < gate.max() < 0.98


@pytest.mark.parametrize("kind", ONCE)
def test_every_new_parameter_learns(backend, short, kind):
    assert_learns(backend, kind, ONCE[kind])


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_every_variant_learns(torch, kind, options):
    if "size" in options:
        options = ({**options, "size": (9, 8)}, {**options, "size": (5, 4)})
    assert_learns(Backend("torch", "cpu"), kind, options)


@pytest.mark.parametrize("kind", ONCE)
def test_bottlenecks_learn(torch, kind):
    config = NetworkConfig(
        **{**NETWORK.to_dict(), "widths": (8, 8), "form": "bottleneck", "hidden_widths": (3, 4)}
    )
    assert_learns(Backend("torch", "cpu"), kind, ONCE[kind], config)


@pytest.mark.parametrize("seed", range(8))
def test_a_single_hidden_channel_is_alive(seed):
    """Its sign is chosen so that the relu after it lets the average image through."""
    config = BlockConfig(4, 6, attention="none")
    arrays = random_arrays(config, "float64", seed)
    target, found = attach(config, arrays, "se", {"hidden_channels": 1}, seed)
    assert (found["attention.fc1.weight"][:, :, 0, 0] @ arrays["bn2.bias"] > 0).all()
    x = random_input(config, (9, 8), 16, "float64", seed)
    hidden = reference.stages(target, found, x, training=True).stages["attention.relu"].output
    assert (hidden.value > 0).any()


# Errors


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mhsa", {"size": (9, 8), "heads": 1}, "no path past"),
        ("simam", {}, "no parameters"),
        ("ge", {}, "give it mlp=True"),
        ("none", {}, "expected a kind to attach"),
        ("cbamm", {}, "expected one of none, se"),
        ("se", {"kernel_size": 3}, "has no 'kernel_size'"),
        (("se", "none"), None, "a block has one kind"),
    ],
)
def test_what_is_refused(kind, options, message):
    config = BlockConfig(4, 6, attention="none")
    with pytest.raises(ArgumentError, match=message):
        attach(config, random_arrays(config), kind, options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (("se",), None, "each of the 2 stages, got 1 and 2"),
        (("none", "none"), None, "expected a kind to attach"),
        (("none", "se"), ({"reduction": 2}, None), "stages.0 gets no attention"),
    ],
)
def test_what_is_refused_of_stages(kind, options, message):
    with pytest.raises(ArgumentError, match=message):
        attach(NETWORK, random_arrays(NETWORK), kind, options)


def test_attention_that_is_there():
    config = preset("se-resnet20", widths=(4, 4, 4), attention_options={"hidden_channels": 2})
    with pytest.raises(ArgumentError, match=r"stages.0 \(se\), stages.1 \(se\)"):
        attach(config, random_arrays(config), "eca")


def test_a_kind_of_a_user():
    from weights import register_attention

    register_attention("mine", lambda channels: convolution("fc", channels, channels), torch=object)
    config = BlockConfig(4, 6, attention="none")
    with pytest.raises(ArgumentError, match="does not say how it begins"):
        attach(config, random_arrays(config), "mine")


def test_arrays_that_do_not_fit():
    arrays = random_arrays(NETWORK)
    del arrays["stem.conv.weight"]
    with pytest.raises(WeightsError, match=r"stem.conv.weight: missing"):
        attach(NETWORK, arrays, "se")


def test_values_too_large_for_the_format():
    config = BlockConfig(4, 6, attention="none")
    arrays = random_arrays(config, "float16")
    arrays["bn2.bias"][2] = 30_000
    with pytest.raises(ArgumentError, match=r"bn2.bias: 4 times its values .* float16"):
        attach(config, arrays, "cbam")


def test_every_kind_has_a_start_or_a_reason():
    default = ATTENTION["none"].refusal
    for name, kind in ATTENTION.items():
        assert (kind.start is None) == (name in REFUSED)
        assert name == "none" or kind.start is not None or kind.refusal != default


# The command


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.safetensors"
    write(path, NETWORK, random_arrays(NETWORK), origin={"license": "mit"})
    return path


def test_the_command(plain, tmp_path):
    target = tmp_path / "cbam.safetensors"
    result = run("attach", plain, target, "--attention", "cbam", "--options", '{"kernel_size": 3}')
    assert result.exit_code == 0, result.output
    found = read_checkpoint(target)
    new = [name for name in found.arrays if ".attention." in name]
    numbers = sum(found.arrays[name].size for name in new)
    assert f"3 blocks (stages.0.0 to stages.1.1): {len(new)} new arrays, {numbers:,} numbers" in (
        result.output
    )
    assert "bn2 before it are multiplied by 4\n" in result.output
    assert "the same output bit for bit" in result.output
    assert f"Next: resattn check {target}" in result.output.replace("\n", "")
    assert found.origin["license"] == "mit"
    assert "attached cbam" in found.origin["attention"]
    config, arrays = attach(NETWORK, read(plain)[1], "cbam", {"kernel_size": 3})
    assert found.config == config
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_the_command_with_stages(plain, tmp_path):
    target, other = tmp_path / "one.npz", tmp_path / "two.npz"
    assert run("attach", plain, target, "--attention", "bam", "--stages", "1").exit_code == 0
    result = run("attach", target, other, "--attention", "gc", "--stages", "0", "--seed", "2")
    assert "begins as the identity" in result.output
    found = read_checkpoint(other)
    assert found.config.attention == ("gc", "bam")
    assert "0.666667 (rounded)" in found.origin["attention"]
    assert "attached gc" in found.origin["attention"]
    result = run(
        *("attach", plain, other, "--force", "--attention", "ge", "--options"),
        '[{"gather": "convolution", "size": [9, 8]}, {"gather": "convolution", "size": [5, 4]}]',
    )
    assert result.exit_code == 0, result.output
    assert read(other)[0].input_size == (9, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--attention", "se", "--stages", "2"), "--stages: expected some of 0, 1, got 2"),
        (("--attention", "se", "--options", "3"), "--options: expected a JSON object"),
        (("--attention", "se", "--options", "{"), "--options: expected a JSON object"),
        (("--attention", "simam"), "no parameters"),
        (("--attention", "ESE"), "expected one of none, se"),
    ],
)
def test_arguments_that_are_wrong(plain, tmp_path, arguments, message):
    result = run("attach", plain, tmp_path / "out.npz", *arguments)
    assert isinstance(result.exception, ArgumentError)
    assert message in str(result.exception)
    assert not (tmp_path / "out.npz").exists()


def test_a_file_that_is_there_and_a_block(plain, tmp_path):
    result = run("attach", plain, plain, "--attention", "se")
    assert "exists already; pass --force" in str(result.exception)
    block = BlockConfig(4, 6, attention="none")
    write(tmp_path / "block.npz", block, random_arrays(block))
    arguments = ("attach", tmp_path / "block.npz", tmp_path / "out.npz", "--attention", "triplet")
    result = run(*arguments)
    assert "attached triplet to the block" in result.output
    assert "unchanged up to rounding" in result.output
    result = run(*arguments, "--force", "--stages", "0")
    assert "--stages: a block has none" in str(result.exception)


@pytest.mark.parametrize("kind", ["cbam", "nonlocal", "bam"])
def test_a_real_checkpoint(torch, tmp_path, kind, checkpoint):
    target = tmp_path / "out.safetensors"
    result = run("attach", checkpoint, target, "--attention", kind)
    assert result.exit_code == 0, result.output
    x = random_input(preset("resnet20"), (33, 32), 2, "float64")
    difference = largest_difference(read(checkpoint), read(target), x, False)
    assert difference == 0 if is_exact(kind, {}) else difference < 1e-6
