"""Models as people write them are read: their operations, shapes, parameters and places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resattn.reading.form import label_of, size_of
from resattn.reading.models import read_model, read_operations
from resattn.reading.sources import read_line
from shared_tests.cases import ATTENTION_VARIANTS, REPRESENTATIVE, name_of
from shared_tests.handmade_cases import FILES, import_sketch, make_net, make_sketch
from weights.errors import ModelError
from weights.live import adapter

NORM = {"weight", "bias", "mean", "variance"}
# op, module, roles of the parameters
BLOCK = [
    ("image", "", set()),
    ("convolution", "conv_a", {"weight", "bias"}),
    ("batch_norm", "norm_a", NORM),
    ("relu", "", set()),
    ("convolution", "conv_b", {"weight", "bias"}),
    ("batch_norm", "norm_b", NORM),
    ("average", "", set()),
    ("linear", "gate.squeeze", {"weight", "bias"}),
    ("relu", "", set()),
    ("linear", "gate.excite", {"weight", "bias"}),
    ("sigmoid", "", set()),
    ("product", "", set()),
    ("convolution", "skip.0", {"weight", "bias"}),
    ("batch_norm", "skip.1", NORM),
]


def summarize_steps(reading):
    return [
        (step.op, step.module.replace("skip.layers.", "skip."), set(step.roles))
        for step in reading.steps
    ]


def sizes_of(step):
    """The sizes of the output by the names of its axes."""
    return {label_of(axis): size_of(axis) for axis in step.axes if axis}


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_read(framework, stride):
    found = read_model(make_sketch(framework, stride, 1), (20, 14))
    assert found.failure is None
    assert (found.framework, found.title, found.size) == (framework, "ResidualBlock", (20, 14))
    assert summarize_steps(found) == [*BLOCK, ("sum", "", set()), ("relu", "", set())]
    last = sizes_of(found.steps[-1])
    assert last == {"batch": 2, "channels": 64, "rows": 20 // stride, "cols": 14 // stride}
    windows = [step.settings["window"] for step in found.steps if step.op == "convolution"]
    assert [tuple(each.stride) for each in windows] == [(stride,) * 2, (1, 1), (stride,) * 2]
    eps = [step.settings["eps"] for step in found.steps if step.op == "batch_norm"]
    assert eps == pytest.approx([1e-5] * 3)


def test_places(framework):
    """Module, class, file and line of each operation."""
    found = read_model(make_sketch(framework, 2, 1), (16, 16))
    file = Path(import_sketch(framework).__file__)
    called = {"conv_a": "conv_a(", "norm_b": "norm_b(", "gate.excite": ".excite("}
    for step in found.steps[1:]:
        assert Path(step.origin.file) == file
        text = read_line(step.origin.file, step.origin.line)
        if step.module in called:
            assert called[step.module] in text
            assert step.origin.module == step.module
            assert step.origin.kind in ("Conv2d", "Conv", "Conv2D", "BatchNorm2d", "BatchNorm",
                                        "BatchNormalization", "Linear", "Dense")  # fmt: skip
    addition = next(step for step in found.steps if step.op == "sum")
    assert "+" in read_line(addition.origin.file, addition.origin.line)
    assert (addition.origin.module, addition.origin.kind) == ("", "ResidualBlock")
    product = next(step for step in found.steps if step.op == "product")
    assert (product.origin.module, product.origin.kind) == ("gate", "AttentionModule")


def test_arrays_are_canonical(framework):
    found = read_model(make_sketch(framework, 2, 1), (16, 16))
    shapes = {
        step.module.split(".")[-1]: found.arrays[step.roles["weight"]].shape
        for step in found.steps
        if step.op in ("convolution", "linear")
    }
    assert shapes["conv_a"] == (64, 32, 3, 3)
    assert shapes["squeeze"] == (4, 64)
    assert shapes["0"] == (64, 32, 1, 1)


def test_the_sketch_fails_at_stride_2(framework):
    """It is read up to the addition, which gets two shapes."""
    found = read_model(make_sketch(framework, 2), (16, 16))
    assert summarize_steps(found) == [*BLOCK, ("unknown", "", set())]
    failure = found.failure
    assert failure is not None
    assert (failure.operation, failure.shapes) == ("sum", ((64, 4, 4), (64, 8, 8)))
    assert Path(failure.file) == Path(import_sketch(framework).__file__)
    assert "+" in read_line(failure.file, failure.line)
    assert "\n" not in failure.message
    first, second = found.steps[-1].inputs
    assert (first.op, second.op) == ("product", "batch_norm")
    assert found.steps[-1].origin.line == failure.line


def test_a_network_is_read(framework):
    found = read_model(make_net(framework))
    assert found.size == (224, 224)
    assert found.failure is None
    ops = [step.op for step in found.steps]
    assert ops.count("convolution") == 6
    assert ops.count("sum") == 2
    assert "unknown" not in ops
    assert ops[-2:] == ["average", "linear"]
    assert found.arrays[found.steps[-1].roles["weight"]].shape == (10, 64)


@pytest.mark.parametrize(("config", "size"), [*ATTENTION_VARIANTS, *REPRESENTATIVE], ids=name_of)
def test_ours_are_read_without_their_config(framework, config, size):
    """As with it, but for the names."""
    model = adapter(framework).create(config, dtype="float32")
    found = read_model(model, size)
    expected = read_operations(model, size)
    assert [step.op for step in found.steps] == [step.op for step in expected]
    assert [step.what for step in found.steps] == [step.what for step in expected]
    roles = [set(step.roles) for step in found.steps]
    assert roles == [set(step.roles) for step in expected]


def test_what_is_unknown_is_an_operation(torch):
    class Sorted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return torch.relu(torch.cumsum(self.conv(x), dim=2))

    found = read_model(Sorted(), (6, 5))
    assert [step.op for step in found.steps] == ["image", "convolution", "unknown", "relu"]
    assert found.steps[2].settings == {"primitive": "cumsum"}
    assert sizes_of(found.steps[2]) == {"batch": 2, "channels": 4, "rows": 6, "cols": 5}
    assert [each.op for each in found.steps[2].inputs] == ["convolution"]


def test_changes_in_place_are_followed(torch):
    """A name that was given before a change in place means the changed values."""

    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x):
            y = self.conv(x)
            torch.nn.functional.relu_(y)
            return y * 3

    found = read_model(InPlace(), (6, 5))
    assert [step.op for step in found.steps] == ["image", "convolution", "relu", "a x + b"]
    assert found.steps[-1].settings == {"a": pytest.approx(3), "b": pytest.approx(0)}


@pytest.mark.parametrize(
    ("activation", "op"),
    [
        ("SiLU", "silu"),
        ("GELU", "gelu"),
        ("Mish", "mish"),
        ("LeakyReLU", "leaky_relu"),
        ("ELU", "elu"),
        ("ReLU6", "relu6"),
        ("Hardswish", "hard_swish"),
    ],
)
def test_activations(torch, activation, op):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), getattr(torch.nn, activation)())
    assert [step.op for step in read_model(model, (6, 5)).steps][-1] == op


@pytest.mark.parametrize("activation", ["silu", "gelu", "leaky_relu", "elu", "relu6", "softplus"])
def test_activations_of_jax(jax, activation):
    from flax import nnx

    class Activated(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (1, 1), rngs=rngs)

        def __call__(self, x):
            return getattr(jax.nn, activation)(self.conv(x))

    op = "gelu_tanh" if activation == "gelu" else activation
    assert read_model(Activated(nnx.Rngs(0)), (6, 5)).steps[-1].op == op


def test_the_mode_is_restored(framework):
    model = make_sketch(framework, 1)
    if framework == "torch":
        model.train()
        model.norm_a.eval()
    before = [array.copy() for array in read_model(model, (8, 8)).arrays.values()]
    if framework == "torch":
        assert (model.training, model.norm_a.training, model.norm_b.training) == (True, False, True)
    after = read_model(model, (8, 8)).arrays.values()
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_model_without_convolutions_is_refused(torch):
    with pytest.raises(ModelError, match=r"Linear: has no convolution.*in_channels"):
        read_model(torch.nn.Linear(3, 4))


def test_a_model_for_other_images_is_refused(torch):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(36, 2)
    )
    assert read_model(model, (3, 3)).steps[-1].op == "linear"
    found = read_model(model, (4, 3))
    assert found.failure is not None
    assert found.failure.operation == "matrix_product"


def test_something_else_is_refused():
    with pytest.raises(ModelError, match="expected a PyTorch module, a Flax module or a Keras"):
        read_model(object())


def test_files_of_every_framework():
    assert set(FILES) == {"torch", "jax", "tf"}


def test_zeros_around_a_map_that_is_never_negative(keras):
    """Keras' ResNet50 pads with zeros before its maximum pooling, after a relu: the padding never
    is the maximum.
    """

    def read(*layers):
        image = keras.Input((9, 9, 3))
        y = keras.layers.Conv2D(4, 1)(image)
        for layer in layers:
            y = layer(y)
        return read_model(keras.Model(image, y, name="net"))

    pad, pool = keras.layers.ZeroPadding2D(1), keras.layers.MaxPooling2D(3, 2)
    found = read(keras.layers.ReLU(), pad, pool)
    assert found.title == "net"
    assert found.steps[-1].kind == "max_pool 3x3, stride 2x2, padding 1x1"
    other = read(pad, pool)
    assert other.steps[-1].kind == "max_pool 3x3, stride 2x2, padding 1x1, padded with zeros"


def test_what_is_shown_of_a_reading_is_short(torch):
    """Not everything that a step is computed from, with everything that this is computed from."""
    found = read_model(make_net("torch"), (20, 18))
    assert len(repr(found)) < 200
    assert len(repr(found.steps[-1])) < 200
    assert len(repr(found.steps[-1].primitives)) < 200
