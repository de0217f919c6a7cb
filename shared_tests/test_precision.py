"""bfloat16 and float16, in mixed precision and with everything low: judged by what rounding
explains. Weights are carried bit for bit.
"""

from dataclasses import replace
from functools import cache
from itertools import permutations

import ml_dtypes
import numpy as np
import pytest

from resattn.checking.backends import Backend
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.precision import REGIMES, measure_format, precision, table
from resattn.checking.problem import pose
from resattn.oracle import evaluation as reference
from shared_tests.cases import NETWORKS, name_of
from shared_tests.test_errors import raises
from shared_tests.test_roundtrip import FIXED, NETWORK, same
from weights import BlockConfig, Report, WeightsError, export, load, port, read, schema, write
from weights.convert import BFLOAT16
from weights.convert import LOW as FORMATS
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, adapter, build

BLOCK = BlockConfig(3, 5, (3, 1), (2, 1), attention_options={"hidden_channels": 2})
KINDS = [attention_block(kind, variants[0]) for kind, variants in KINDS_AND_OPTIONS.items()]
SHORT = pytest.mark.parametrize("form", FORMATS)


def low(config, form, statistics=np.float32, seed=0):
    """Random parameters in a format, and statistics in float32."""
    trainable = {parameter.name for parameter in schema(config) if parameter.trainable}
    arrays = random_arrays(config, "float32", seed)
    return {
        name: array.astype(form if name in trainable else statistics)
        for name, array in arrays.items()
    }


# How far from the oracle


@cache
def problem(config, form, regime):
    dtype = f"mixed_{form}" if regime == "mixed" else form
    return pose(config, random_arrays(config), random_input(config, (9, 8), 8, "float32"), 0, dtype)


def check_within(backend, posed, *parts):
    """Checks the quantities that contain one of the words `parts`, or all."""
    rows = measure_format(backend, posed)
    chosen = [row for row in rows if not parts or any(part in row.quantity for part in parts)]
    report = Report("", tuple(chosen))
    assert report.ok, str(report)


# Every kind in one format and mixed precision, every other with everything low, the formats taking
# turns.
MIXED = [(config, FORMATS[number % 2]) for number, config in enumerate([*KINDS, NETWORKS[0][0]])]
LOW_ONES = [(config, FORMATS[number // 2 % 2]) for number, config in enumerate(KINDS) if number % 2]


@pytest.mark.parametrize(("config", "form"), MIXED, ids=name_of)
def test_mixed_precision(backend, config, form):
    check_within(backend, problem(config, form, "mixed"))


@pytest.mark.parametrize(("config", "form"), LOW_ONES, ids=name_of)
def test_everything_low(backend, config, form):
    check_within(backend, problem(config, form, "low"))


@SHORT
@pytest.mark.parametrize("regime", REGIMES)
def test_everything_that_is_computed_comes_in_the_format(backend, form, regime):
    arrays, x = (random_arrays(BLOCK), random_input(BLOCK, (5, 6), 2, "float32"))
    given = (arrays, x) if regime == "mixed" else (low(BLOCK, form), x.astype(form))
    model = backend.build(BLOCK, given[0], form if regime == "mixed" else None)
    assert LiveModel.of(model).forward(given[1], training=True).dtype == form
    assert {name: array.dtype for name, array in export(model).items()} == {
        n: a.dtype for n, a in given[0].items()
    }
    identity = BlockConfig(
        4, 4, attention="none"
    )  # nothing but the sum puts the input and what was computed together
    model = backend.build(identity, random_arrays(identity), form)
    assert (
        LiveModel.of(model)
        .forward(random_input(identity, (5, 6), 2, "float32"), training=False)
        .dtype
        == form
    )


# Sums over many positions


@SHORT
def test_slopes_of_biases_and_gates_are_summed_in_float32(backend, form):
    """8 images of 40 x 40 positions: added up in the format, half of a sum is lost. Nothing
    cancels, no gate saturates.
    """
    config = BlockConfig(2, 3, 1, attention="se", attention_options={"hidden_channels": 2})
    arrays = random_arrays(config)
    for name in ("bn1.bias", "bn2.bias", "shortcut.1.bias"):
        arrays[name] = np.full_like(arrays[name], 8)  # no relu changes sides
    for name in ("bn1.weight", "bn2.weight", "shortcut.1.weight"):
        arrays[name] = np.abs(arrays[name])
    arrays["attention.fc1.bias"] = np.full(2, 3, "float32")
    for number in (1, 2):
        arrays[f"attention.fc{number}.weight"] *= 0.1
    x = random_input(config, (40, 40), 8, "float32")
    slopes = (
        np.random.default_rng(5).integers(1, 5, (8, 3, 40, 40)).astype("float32") / 512
    )  # sums within float16
    posed = pose(config, arrays, x, 0, f"mixed_{form}")
    rows = measure_format(backend, replace(posed, exact=replace(posed.exact, cotangent=slopes)))
    summed = ("conv2.bias", "bn2.bias", "attention.fc2.bias", "shortcut.0.bias", "shortcut.1.bias")
    report = Report(
        "", tuple(row for row in rows if "eval" in row.quantity and row.tensor in summed)
    )
    assert len(report.rows) == len(summed)
    assert report.ok, str(report)


@pytest.mark.parametrize("regime", REGIMES)
def test_large_values_do_not_overflow(backend, regime):
    """300 squared is beyond float16, whose greatest number is 65,504: in a batch norm, and in
    simam, which squares again.
    """
    config = BlockConfig(3, 4, 3, attention="simam")
    arrays = random_arrays(config)
    arrays["bn2.weight"] *= 300
    x = 300 * random_input(config, (6, 5), 4, "float32")
    posed = pose(config, arrays, x, 0, "mixed_float16" if regime == "mixed" else "float16")
    check_within(backend, posed, "train output", "train statistics")


@SHORT
def test_a_small_eps_is_not_lost(backend, form):
    """1e-5 beside a variance of 1e-5, in float16 where numbers are 6e-8 apart, and in bfloat16 with
    its three digits.
    """
    config = BlockConfig(3, 4, 3, attention="none")
    arrays = random_arrays(config)
    for name, array in arrays.items():
        if name.endswith("running_var"):
            array[:] = 1e-5
        elif (
            name.split(".")[0].startswith("conv")
            or name.startswith("shortcut.0")
            or name.endswith("running_mean")
        ):
            array *= 0.005
    x = random_input(config, (6, 5), 4, "float32")
    check_within(backend, pose(config, arrays, x, 0, f"mixed_{form}"), "output", "statistics")


@SHORT
def test_statistics_arrive(backend, form):
    """Held in bfloat16, a running mean stops where a tenth of the way is less than half a unit in
    its last place.
    """
    config = BlockConfig(3, 4, 3, attention="none", conv_bias=False)
    arrays = low(config, form)
    arrays["bn1.running_mean"] += 4
    x = random_input(config, (9, 8), 8, "float32").astype(form)
    model = backend.build(config, arrays)
    for _ in range(60):
        LiveModel.of(model).forward(x, training=True)
    wide = {name: array.astype("float64") for name, array in arrays.items()} | {
        "bn1.running_mean": np.zeros(4)
    }
    mean = (
        reference.run(config, wide, x.astype("float64"), training=True).statistics[
            "bn1.running_mean"
        ]
        / 0.1
    )
    start = np.abs(arrays["bn1.running_mean"] - mean).max()
    assert (
        np.abs(export(model)["bn1.running_mean"] - mean).max()
        < 2 * 0.9**60 * start + 2e-3 * np.abs(mean).max()
    )


# What must be seen


@SHORT
def test_a_mistake_of_a_few_eps_is_seen(backend, form, monkeypatch):
    """Outputs that are off by ten units of eps."""
    inner = LiveModel.gradients

    def coarse(self, *arguments, **mode):
        y, slopes = inner(self, *arguments, **mode)
        eps = float(ml_dtypes.finfo(form).eps)
        return (y.astype("float32") * (1 + 10 * eps)).astype(y.dtype), slopes

    monkeypatch.setattr(LiveModel, "gradients", coarse)
    report = Report("", tuple(measure_format(backend, problem(BLOCK, form, "mixed"))))
    assert {row.quantity for row in report.failures} == {"eval output", "train output"}


@pytest.mark.parametrize(
    ("form", "scale", "shift"), [("float16", 300, 0), ("bfloat16", 1, 40), ("float16", 1, 40)]
)
def test_batch_norms_in_the_format_are_seen(torch, monkeypatch, form, scale, shift):
    """E[x^2] - E[x]^2 in the format: values around 300 overflow float16, and means of 40 cancel."""
    from pytorch_impl import BatchNorm

    def naive(self, x):
        if not self.training:
            return inner(self, x)
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = (x * x).mean((0, 2, 3), keepdim=True) - mean * mean
        weight, bias = (part[:, None, None].to(x.dtype) for part in (self.weight, self.bias))
        return (x - mean) / (variance + self.eps).sqrt() * weight + bias

    inner = BatchNorm.forward
    config, backend = BlockConfig(3, 4, 3, attention="none"), Backend("torch", "cpu")
    x = scale * random_input(config, (6, 5), 4, "float32") + shift
    posed = pose(config, random_arrays(config), x, 0, f"mixed_{form}")
    check_within(backend, posed, "train output")
    monkeypatch.setattr(BatchNorm, "forward", naive)
    with pytest.raises(AssertionError, match="OVER"):
        check_within(backend, posed, "train output")


@SHORT
def test_sums_in_the_format_are_seen(jax, form, monkeypatch):
    import jax_impl.layers as layers

    def naive(arrays, *, dtype):
        return tuple(None if array is None else array.astype(dtype) for array in arrays)

    monkeypatch.setattr(layers, "cast_operands", naive)
    with pytest.raises(AssertionError, match="OVER"):
        test_slopes_of_biases_and_gates_are_summed_in_float32(Backend("jax", "cpu"), form)


# Weights


@SHORT
@pytest.mark.parametrize("config", [NETWORK, FIXED], ids=["network", "fixed"])
@pytest.mark.parametrize(("source", "target"), list(permutations(FRAMEWORKS, 2)))
def test_every_ordered_pair(all_frameworks, source, target, config, form):
    arrays = low(config, form, seed=3)
    first = build(config, arrays, source)
    second = port(first, to=target)
    for model in (first, second, port(second, to=source)):
        same(export(model), arrays)


@SHORT
@pytest.mark.parametrize("statistics", ["float32", "the format"])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_files(tmp_path, form, suffix, statistics, request):
    if suffix == ".pt":
        request.getfixturevalue("torch")
    arrays = low(BLOCK, form, np.float32 if statistics == "float32" else form)
    write(tmp_path / f"file{suffix}", BLOCK, arrays)
    config, back = read(tmp_path / f"file{suffix}")
    assert config == BLOCK
    same(back, arrays)


@SHORT
def test_keras_files(keras, tmp_path, form):
    arrays = low(NETWORK, form)
    write(tmp_path / "model.keras", NETWORK, arrays)
    same(export(keras.models.load_model(tmp_path / "model.keras")), arrays)


def test_npz_files_say_what_their_bits_are(tmp_path):
    write(tmp_path / "file.npz", BLOCK, low(BLOCK, "bfloat16"))
    with np.load(tmp_path / "file.npz", allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    assert held["conv1.weight"].dtype == np.uint16
    assert "conv1.weight" in held["resattn.bfloat16"]
    assert "bn1.running_mean" not in held["resattn.bfloat16"]
    np.savez(
        tmp_path / "wrong.npz", **{**held, "conv1.weight": held["conv1.weight"].astype("float32")}
    )
    with raises(WeightsError, "expected the bits of bfloat16, as uint16:\n  'conv1.weight'"):
        read(tmp_path / "wrong.npz")
    np.savez(tmp_path / "bytes.npz", **low(BLOCK, "bfloat16"))
    with raises(
        WeightsError,
        "conv1.weight: expected one of bfloat16, float16, float32, float64, got void16",
    ):
        read(tmp_path / "bytes.npz", BLOCK)


@SHORT
def test_low_statistics_are_widened(framework, form):
    """PyTorch's own batch norm holds them in the format: such a checkpoint is read, exactly."""
    arrays = low(BLOCK, form, form)
    model = build(BLOCK, arrays, framework)
    held = export(model)
    assert all((held[name] == array.astype("float32")).all() for name, array in arrays.items())
    assert held["bn1.running_mean"].dtype == np.float32
    load(model, low(BLOCK, form, seed=1))
    same(export(model), low(BLOCK, form, seed=1))
    with raises(WeightsError, f"conv1.weight: expected {form}, got float32"):
        load(model, random_arrays(BLOCK))


@SHORT
def test_torch_idioms(torch, form):
    """.to(), .half() and dtype= leave the statistics in float32, their values untouched; .double()
    takes them along.
    """
    from pytorch_impl import ResidualBlockWithAttention

    dtype = getattr(torch, form)
    arrays = random_arrays(BLOCK)
    model = build(BLOCK, arrays, "torch").to(dtype)
    assert (export(model)["bn1.running_var"] == arrays["bn1.running_var"]).all()
    assert model.bn1.weight.dtype == model.conv1.weight.dtype == dtype
    assert ResidualBlockWithAttention(3, 5, dtype=dtype).bn1.running_mean.dtype == torch.float32
    assert model.double().bn1.running_mean.dtype == torch.float64
    assert model.half().bn1.running_mean.dtype == torch.float32
    assert model.float().bn1.num_batches_tracked.dtype == torch.int64
    fresh = ResidualBlockWithAttention(3, 5, dtype=dtype)
    fresh.load_state_dict(ResidualBlockWithAttention(3, 5).to(dtype).state_dict())
    model.train()(torch.ones(2, 3, 4, 5).requires_grad_()).sum().backward()
    assert model.bn1.num_batches_tracked == 1


def test_flax_dtypes(jax):
    """As Flax' own: dtype is computed in, param_dtype is held; a kind of your own is given it only
    where it was given.
    """
    import jax.numpy as jnp
    from flax import nnx

    from jax_impl import ResidualBlockWithAttention

    def shapes(**arguments):
        return nnx.eval_shape(
            lambda: ResidualBlockWithAttention(
                3, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0), **arguments
            )
        )

    for kind, variants in KINDS_AND_OPTIONS.items():
        options = {
            name: (4, 5) if name == "size" else value for name, value in variants[-1].items()
        }
        for held, expected in ((None, "bfloat16"), (jnp.float32, "float32")):
            model = shapes(attention=kind, attention_options=options, param_dtype=held)
            assert {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {
                expected
            }, kind
            assert {
                leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))
            } == {"float32"}, kind


# Asking


def test_precision_reports(backend):
    config = BlockConfig(3, 4, attention="none")
    options = {"frameworks": (backend.framework,), "size": (5, 6)}
    report = precision(config, formats=("bfloat16",), regimes=("mixed",), **options)
    assert report.ok, str(report)
    assert len({row.quantity for row in report.rows}) == 5
    lines = "\n".join(table(report))
    assert "mixed_bfloat16 eval gradient" in lines
    assert "mixed_bfloat16 train statistics" in lines
    given = precision(config, low(config, "bfloat16"), regimes=("low",), **options)
    assert given.ok, str(given)
    assert given.dtypes == ("bfloat16", "float16")


def test_gradients_that_rounding_decides_are_said(torch):
    """A network in a format of three digits: notes say what it cannot determine."""
    config = NETWORKS[0][0]
    report = precision(config, frameworks=("torch",), formats=("bfloat16",), regimes=("mixed",))
    assert report.ok, str(report)
    assert any(note.startswith("mixed_bfloat16 cannot decide") for note in report.notes)
    assert any(note.startswith("mixed_bfloat16 cannot determine") for note in report.notes)


def test_what_cannot_be_asked(framework):
    for options, message in (
        ({"formats": ("float8",)}, "formats: expected one of bfloat16, float16, got 'float8'"),
        ({"regimes": ("high",)}, "regimes: expected one of mixed, low, got 'high'"),
    ):
        with raises(ValueError, message):
            precision(BLOCK, frameworks=(framework,), **options)
    with raises(ValueError, "compute: expected one of bfloat16, float16"):
        build(BLOCK, random_arrays(BLOCK), framework, compute="float32")


def test_keras_has_mixed_policies_for_float32_alone(keras):
    with raises(
        ValueError,
        "compute: Keras computes in bfloat16 with parameters in float32, got parameters in float16",
    ):
        build(BLOCK, low(BLOCK, "float16"), "tf", compute="bfloat16")


def test_low_weights_are_crosschecked_in_float32(framework):
    report = crosscheck(BLOCK, low(BLOCK, BFLOAT16), frameworks=(framework,), size=(5, 6), batch=3)
    assert "in float64 and float32" in report.title
    assert report.ok, str(report)


def test_adapters_read_what_they_are_given(framework):
    """bfloat16 is a dtype of its own in NumPy: it comes back as it went in."""
    model = build(BLOCK, low(BLOCK, BFLOAT16), framework)
    assert (
        adapter(framework).forward(model, random_input(BLOCK, (5, 6), 2, BFLOAT16)).dtype
        == BFLOAT16
    )
