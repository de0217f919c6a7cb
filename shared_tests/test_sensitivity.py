"""The cross-check must fail: for each single tensor that is a little off, and for each convention
that is another.
"""

from functools import cache

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.crosscheck import check_model, crosscheck
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from shared_tests.cases import NETWORKS
from weights import BlockConfig, NetworkConfig, export, load, schema
from weights.frameworks import framework_named
from weights.live import build, build_live

# Square kernels and equal channels, so that transposed and swapped tensors have shapes that fit.
BLOCK = BlockConfig(6, 6, 3, 2, attention_options={"hidden_channels": 6})
SIZE = (8, 6)


@cache
def problem(config=BLOCK, size=SIZE, dtype="float64"):
    return draw_problem(config, random_arrays(config, dtype), size, 4, dtype)


def outcome(backend, change, config=BLOCK, size=SIZE, dtype="float64"):
    """The report on a model whose arrays were changed, or that was itself changed."""
    posed = problem(config, size, dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(config, posed.arrays)
        arrays = {name: array.copy() for name, array in posed.arrays.items()}
        change(arrays)
        load(model, arrays)
    return check_model(backend, model, posed)


def nudged(name, part=1e-6):
    """One number of one tensor, by a part of the tensor's magnitude: the one that does most, since
    behind a relu that is off for every image a weight does nothing."""
    slopes = problem().expected["eval gradient"]
    position = int(np.abs(slopes[name]).argmax()) if name in slopes else 0

    def change(arrays):
        arrays[name].flat[position] += arrays[name].dtype.type(part) * np.abs(arrays[name]).max()

    return change


def swapped(first, second):
    def change(arrays):
        arrays[first], arrays[second] = arrays[second], arrays[first]

    return change


def reordered(name, *axes):
    def change(arrays):
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(axes))

    return change


def flipped(name, axis):
    def change(arrays):
        arrays[name] = np.ascontiguousarray(np.flip(arrays[name], axis))

    return change


NAMES = [parameter.name for parameter in schema(BLOCK)]
KERNELS = ("conv1.weight", "conv2.weight")
BATCH_NORMS = ("bn1", "bn2", "shortcut.1")


def test_it_passes_when_nothing_is_changed(backend):
    assert outcome(backend, lambda arrays: None).ok


@pytest.mark.parametrize("name", NAMES)
def test_one_number_of_any_tensor(backend, name):
    report = outcome(backend, nudged(name))
    assert not report.ok
    # and it is found by what the model computes, not only by reading the weights back
    assert any(row.quantity != "weights" for row in report.failures), report


@pytest.mark.parametrize("name", NAMES)
def test_one_number_in_float32(backend, name):
    report = outcome(backend, nudged(name, 1e-3), dtype="float32")
    assert any(row.quantity != "weights" for row in report.failures), report


WRONG = {
    **{
        f"{name} in and out": reordered(name, 1, 0, 2, 3)
        for name in (*KERNELS, "attention.fc1.weight", "shortcut.0.weight")
    },
    **{f"{name} rows and cols": reordered(name, 0, 1, 3, 2) for name in KERNELS},
    **{f"{name} upside down": flipped(name, 2) for name in KERNELS},
    **{f"{name} mirrored": flipped(name, 3) for name in KERNELS},
    **{
        f"{name} rolled channels": flipped(name, 0)
        for name in (*KERNELS, *(f"{bn}.running_mean" for bn in BATCH_NORMS))
    },
    **{f"{bn} gamma and beta": swapped(f"{bn}.weight", f"{bn}.bias") for bn in BATCH_NORMS},
    "conv1 and conv2": swapped("conv1.weight", "conv2.weight"),
    "conv1 and conv2 biases": swapped("conv1.bias", "conv2.bias"),
    "fc1 and fc2": swapped("attention.fc1.weight", "attention.fc2.weight"),
    "fc1 and fc2 biases": swapped("attention.fc1.bias", "attention.fc2.bias"),
    **{
        f"bn1 and bn2 {leaf}": swapped(f"bn1.{leaf}", f"bn2.{leaf}")
        for leaf in ("weight", "bias", "running_mean", "running_var")
    },
    "bn2 and shortcut": swapped("bn2.weight", "shortcut.1.weight"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_tensors_in_the_wrong_place_or_order(backend, mistake):
    report = outcome(backend, WRONG[mistake])
    assert any(row.quantity != "weights" for row in report.failures), report


def test_mean_and_variance_swapped(backend):
    def change(arrays):
        arrays["bn1.running_mean"], arrays["bn1.running_var"] = (
            arrays["bn1.running_var"],
            np.abs(arrays["bn1.running_mean"]),
        )

    assert any(row.quantity == "eval output" for row in outcome(backend, change).failures)


@pytest.mark.parametrize(
    "name",
    ["stem.conv.weight", "stages.1.0.bn2.running_var", "stages.1.1.bn1.weight", "classifier.bias"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_number_of_a_network(backend, name, dtype):
    config, size = NETWORKS[0]

    def change(arrays):
        arrays[name].flat[0] += arrays[name].dtype.type(1e-3) * np.abs(arrays[name]).max()

    assert any(
        row.quantity != "weights" for row in outcome(backend, change, config, size, dtype).failures
    )


def misbuilt(backend, dtype="float64", **fields):
    """A model of another config than the oracle's, with the same weights."""
    posed = problem(dtype=dtype)
    other = BlockConfig.from_dict({**BLOCK.to_dict(), **fields})
    with precise((backend.framework,), dtype):
        model = build(other, posed.arrays, backend.framework, backend.device)
    return check_model(backend, model, posed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_eps(backend, dtype):
    failing = {row.quantity for row in misbuilt(backend, dtype, bn_eps=1e-3).failures}
    assert {"eval output", "train output", "train gradient", "eval gradient"} <= failing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_decay(backend, dtype):
    failing = {row.quantity for row in misbuilt(backend, dtype, bn_decay=0.99).failures}
    assert failing == {"train statistics"}


def test_same_padding(backend):
    """TensorFlow's and JAX's SAME at stride 2 on an even size: (0, 1) where PyTorch has (1, 1)."""
    posed = problem()
    with precise((backend.framework,), "float64"):
        model = backend.build(BLOCK, posed.arrays)
        if backend.framework == "torch":
            from torch.nn import functional

            conv = type(model.conv1)
            shifted = type("Same", (conv,), {
                "forward": lambda self, x: functional.conv2d(
                    functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride
                )
            })  # fmt: skip
            model.conv1.__class__ = shifted
        elif backend.framework == "jax":
            model.conv1.padding = "SAME"
        else:
            from keras import ops

            same = {
                "strides": model.conv1.strides,
                "padding": "same",
                "data_format": "channels_last",
            }
            model.conv1.convolution_op = lambda x, kernel: ops.conv(x, kernel, **same)
    failing = {row.quantity for row in check_model(backend, model, posed).failures}
    assert {
        "eval output",
        "train output",
        "train statistics",
        "train gradient",
        "eval gradient",
    } <= failing


def test_same_padding_on_odd_sizes_is_no_mistake(jax):
    """Why sizes must be even too: at odd sizes SAME pads as PyTorch does, and a test on them alone
    would pass.
    """
    posed = draw_problem(BLOCK, random_arrays(BLOCK, "float64"), (9, 7), 4, "float64")
    from resattn.checking.backends import Backend

    backend = Backend("jax", "cpu")
    with precise(("jax",), "float64"):
        model = backend.build(BLOCK, posed.arrays)
        model.conv1.padding = "SAME"
    assert check_model(backend, model, posed).ok


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_biased_variance(backend, dtype, monkeypatch):
    # A config of its own: JAX would take what it compiled for another test's, and leave what it
    # compiles here to others.
    config = BlockConfig.from_dict({**BLOCK.to_dict(), "bn_decay": 0.75})
    posed = problem(config, dtype=dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(config, posed.arrays)
        if backend.framework == "torch":
            for bn in (model.bn1, model.bn2, model.shortcut[1]):
                bn.register_forward_hook(keep_biased_variance)
        else:
            normalization = __import__(
                f"{framework_named(backend.framework).package}.normalization",
                fromlist=["unbias_variance"],
            )
            monkeypatch.setattr(normalization, "unbias_variance", lambda variance, n: variance)
        report = check_model(backend, model, posed)
    assert {row.quantity for row in report.failures} == {"train statistics"}
    assert all(row.tensor.endswith("running_var") for row in report.failures)


def keep_biased_variance(bn, inputs, output):
    if bn.training:
        n = inputs[0].numel() / inputs[0].shape[1]
        batch = inputs[0].var(dim=(0, 2, 3), unbiased=True).detach()
        bn.running_var.data -= bn.momentum * batch / n


@pytest.mark.parametrize("where", ["bn1", "bn2"])
def test_train_mode_left_on(torch, where):
    """A batch norm that normalises with the batch in evaluation."""
    from resattn.checking.backends import Backend

    backend = Backend("torch", "cpu")
    model = backend.build(BLOCK, problem().arrays)
    bn = getattr(model, where)
    bn.train = lambda mode=True: bn
    bn.training = True
    assert any(
        row.quantity == "eval output" for row in check_model(backend, model, problem()).failures
    )


def test_the_whole_cross_check_sees_one_wrong_framework(all_frameworks, monkeypatch):
    """One framework of three is off: the rows that name it fail, and no others."""
    from resattn.checking import backends

    def build_with_a_mistake(config, arrays, framework, device=None, compute=None):
        arrays = {name: array.copy() for name, array in arrays.items()}
        if framework == "jax":
            arrays["conv2.weight"][0, 0, 0, 0] += 0.01
        return build_live(config, arrays, framework, device, compute)

    config = BlockConfig(3, 5, 3, 2)
    assert crosscheck(config, batch=2).ok
    monkeypatch.setattr(backends, "build_live", build_with_a_mistake)
    report = crosscheck(config, batch=2)
    assert not report.ok
    assert all("jax cpu" in (row.actual, row.expected) for row in report.failures)
    assert {"torch cpu", "tf cpu", "oracle"} <= {row.actual for row in report.failures} | {
        row.expected for row in report.failures
    }
    assert "FAILED" in str(report)
    assert "conv2.weight" in str(report)


def test_nothing_compared_is_not_a_success():
    from weights import Report

    assert not Report("empty", ()).ok


def test_nan_is_never_equal(framework):
    def change(model):
        arrays = export(model)
        arrays["conv1.weight"][0, 0, 0, 0] = np.nan
        load(model, arrays)

    from resattn.checking.backends import Backend

    posed = problem(dtype="float32")
    model = build(BLOCK, posed.arrays, framework)
    change(model)
    report = check_model(Backend(framework, "cpu"), model, posed)
    assert report.worst(quantity="eval output").relative == float("inf")


def test_what_a_format_cannot_decide_is_said(torch):
    """Kinks within rounding and gradients made of rounding errors are notes and no failures."""
    from resattn.checking.problem import pose

    config = NetworkConfig(
        1, 2, (2,), (1,), attention_options={"hidden_channels": 1}, conv_bias=True
    )
    arrays = random_arrays(config, "float32")
    x = np.random.default_rng(0).normal(size=(2, 1, 5, 6)).astype("float32")
    from resattn.oracle.evaluation import stages

    # Shift the hidden unit of the attention so that it is hardly on: its slopes are then made of
    # rounding errors.
    made = stages(config, arrays, x, training=False).stages
    hidden = made["stages.0.0.attention.fc1"].computed.value
    arrays["stages.0.0.attention.fc1.bias"] -= np.float32(hidden.max() - 1e-7)
    assert not any(pose(config, arrays, x, dtype="float64").rounding.undecided.values())
    report = crosscheck(config, arrays, frameworks="torch", inputs=x)
    assert report.ok, str(report)
    notes = "\n".join(report.notes)
    assert "float32 cannot decide the side of" in notes
    assert "float32 cannot determine eval gradient" in notes
    assert "float64" not in notes
