"""Models as people call them: an answer or one clear error for whatever they return."""

# ruff: noqa: E402  (PyTorch first: it must be loaded before TensorFlow)

from __future__ import annotations

import re
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from resattn.tracing.trace import Mapped, trace, trace_frameworks
from shared_tests.plain_model import build_plain, map_plain
from shared_tests.test_trace_plants import FLAT_STAGES, flax_block, keras_block
from shared_tests.trace_plants import BLOCK, NETWORK, SIZES, pose
from weights.convert import BFLOAT16
from weights.errors import ArgumentError, ModelError


def traced(model, stages, config=BLOCK, modes=("eval",)):
    arrays, x = pose(config, SIZES[type(config)])
    return trace({"theirs": Mapped(model, stages)}, x, config=config, arrays=arrays, modes=modes)


def make_plain(config=BLOCK):
    arrays, _ = pose(config, SIZES[type(config)])
    model = build_plain(config, arrays)
    return model, map_plain(model)


class Wrapped(torch.nn.Module):
    """What a model returns, as `how` makes it."""

    def __init__(self, model, how):
        super().__init__()
        self.model, self.how = model, how

    def forward(self, x):
        return self.how(self.model(x))


@dataclass
class Answer:
    logits: Any
    hidden_states: Any = None


Pair = namedtuple("Pair", "first loss")

CONTAINERS = {
    "tuple": lambda y: (y, None),
    "list": lambda y: [y],
    "named tuple": lambda y: Pair(y, 3),
    "dictionary": lambda y: {"features": y, "loss": None},
    "logits among others": lambda y: {"hidden": y * 2, "logits": y},
    "data class": lambda y: Answer(y, (y, y)),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind):
    model, stages = make_plain()
    inside = {stage: f"model.{path}" for stage, path in stages.items()}
    found = traced(Wrapped(model, CONTAINERS[kind]), inside, modes=("eval", "train"))
    assert found.ok, str(found)
    assert {"output", "bn1.running_var"} <= {row.tensor for row in found.rows}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_inside(kind):
    """The model goes on with its own container, and gradients flow through it."""
    model, stages = make_plain()
    wrapped = Wrapped(model.se, CONTAINERS[kind])

    def wire(block, x):
        y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
        held = block.se(y)
        held = held if isinstance(held, (tuple, list, dict)) else vars(held)
        y = held[0] if isinstance(held, (tuple, list)) else held.get("logits", held.get("features"))
        return block.act2(y + block.shorten(x))

    model.se, model.wire = wrapped, wire
    stages = {
        stage: path.replace("se.", "se.model.") if "attention." in stage else path
        for stage, path in stages.items()
    }
    found = traced(model, stages, modes=("eval", "train"))
    assert found.ok, str(found)
    assert ("eval backward", "bn2") in {(row.quantity, row.tensor) for row in found.rows}


def detach(y):
    return y.detach()


@pytest.mark.parametrize("how", [detach, torch.no_grad()(lambda y: y + 0)])
def test_without_gradients(how):
    model, _ = make_plain()
    found = traced(Wrapped(model, how), {})
    assert found.ok
    assert {row.quantity for row in found.rows} == {"eval forward"}


NO_ARRAY = {
    "two arrays": (lambda y: (y, 2 * y), "expected one array, got tuple with 2 arrays (0, 1)"),
    "none": (lambda y: None, "the output of output: expected one array, got NoneType"),
    "numpy": (lambda y: y.detach().numpy(), "expected one array, got ndarray"),
    "nothing in it": (lambda y: {"loss": 3.0}, "expected one array, got dict; wrap the model"),
}


@pytest.mark.parametrize("kind", NO_ARRAY)
def test_outputs_that_are_no_array(kind):
    how, message = NO_ARRAY[kind]
    model, _ = make_plain()
    with pytest.raises(ArgumentError, match=re.escape(message)):
        traced(Wrapped(model, how), {})


# Half precision


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_half_precision(form):
    """Every finding says that it is the format."""
    model, stages = make_plain(NETWORK)
    found = traced(model.to(getattr(torch, form)), stages, NETWORK)
    explained = [each for finding in found.findings for each in finding.explanations]
    assert explained
    assert all(form in each.words for each in explained), str(found)


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_expected_outputs_in_half_precision(form):
    """The outputs of a right model in the format are rounded outputs."""
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])
    model, _ = make_plain()
    with torch.no_grad():
        output = model(torch.tensor(x)).numpy().astype(BFLOAT16 if form == "bfloat16" else form)
    found = trace_frameworks(
        BLOCK, arrays, frameworks=("torch",), inputs=x, expected={"output": output}
    )
    assert {each.cause for each in found.first.explanations} == {"rounded output"}, str(found)
    assert form in found.first.explanations[0].words


def test_a_model_in_double_precision_is_right():
    model, stages = make_plain()
    assert traced(model.double(), stages, modes=("eval", "train")).ok


# Models that cannot be recorded as they are


def raising(error):
    def how(y):
        raise error

    return how


class Two(torch.nn.Module):
    def forward(self, x, mask):
        return x


def mixed():
    model, _ = make_plain()
    model.conv1.half()
    return model


FAILING = {
    "its own error": (
        lambda: Wrapped(make_plain()[0], raising(RuntimeError("out of order\nmore"))),
        "Wrapped, called with the images alone, of the shape (4, 4, 12, 9) (batch channel row "
        "col), raised RuntimeError: out of order",
    ),
    "two arguments": (Two, "raised TypeError: Two.forward() missing 1 required"),
    "mixed formats": (mixed, "raised RuntimeError: Input type"),
    "other channels": (lambda: make_plain(NETWORK)[0], "raised RuntimeError: Given groups=1"),
    "no values": (lambda: make_plain()[0].to("meta"), "its parameters have no values"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_models_that_fail(kind):
    make, message = FAILING[kind]
    with pytest.raises(ModelError, match=re.escape(message)):
        traced(make(), {})


class Broken(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x + 0

    @staticmethod
    def backward(context, slope):
        raise RuntimeError("no way back")


def test_gradients_that_fail():
    """What was computed forward is not lost."""
    model, stages = make_plain()
    model.bn2.eps = 1e-3
    inside = {stage: f"model.{path}" for stage, path in stages.items()}
    found = traced(Wrapped(model, Broken.apply), inside)
    assert {row.quantity for row in found.rows} == {"eval forward"}
    assert causes_of(found) == {("bn2", "batch norm eps")}
    assert found.notes == ("theirs: no gradients, because they raised RuntimeError: no way back",)


class Plain(torch.nn.Module):
    """A block that torch.jit.script compiles."""

    def __init__(self):
        super().__init__()
        model, _ = make_plain()
        self.conv1, self.bn1, self.act1 = model.conv1, model.bn1, model.act1
        self.conv2, self.bn2, self.act2 = model.conv2, model.bn2, model.act2
        self.se, self.down = model.se, model.down

    def forward(self, x):
        y = self.se(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        return self.act2(y + self.down(x))


def compiled(way):
    model = Plain().eval()
    x = torch.tensor(pose(BLOCK, SIZES[type(BLOCK)])[1])
    return torch.jit.trace(model, x) if way == "traced" else torch.jit.script(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["scripted", "traced"])
def test_compiled_by_jit(way):
    model = compiled(way)
    assert traced(model, {}).ok
    with pytest.raises(ArgumentError, match="stages: conv1, bn2: the model was scripted or traced"):
        traced(model, {"conv1": "conv1", "bn2": "bn2"})


@pytest.mark.filterwarnings("ignore")
def test_frozen_by_jit():
    model = torch.jit.freeze(torch.jit.script(Plain().eval()))
    assert traced(model, {}).ok
    with pytest.raises(ArgumentError, match="stages: there is no 'conv1' in"):
        traced(model, {"conv1": "conv1"})


def test_a_stride_at_the_wrong_place():
    """Stages of another size are not compared; those after them are, and explain it."""
    model, stages = make_plain()
    model.conv1.stride, model.conv2.stride = (1, 1), (2, 2)
    found = traced(model, stages)
    assert found.notes == (
        "theirs: conv1, bn1, relu: of another size than they should be, as with a stride at "
        "another place; not compared",
    )
    assert {"the stride is at conv2 instead of conv1"} == {
        each.words for finding in found.findings for each in finding.explanations
    }


def test_a_stride_by_slicing_is_right():
    """A convolution without its stride, of which every second pixel is taken."""
    model, stages = make_plain()
    model.conv1.stride = (1, 1)
    model.bn1 = torch.nn.Sequential(Slice(), model.bn1).eval()
    stages["bn1"] = "bn1.1"
    found = traced(model, stages)
    assert found.ok, str(found)
    assert "theirs: conv1: of another size" in found.notes[0]


class Slice(torch.nn.Module):
    def forward(self, x):
        return x[:, :, ::2, ::2]


def test_a_stage_of_any_other_size():
    model, stages = make_plain()
    model.conv1.padding = (2, 2)
    model.down[0].padding = (1, 1)
    message = "theirs: conv1: expected (4, 4, 6, 5) (batch channel row col), got (4, 4, 7, 6)"
    with pytest.raises(ArgumentError, match=re.escape(message)):
        traced(model, stages)


# The mode is the model's own


MODE = "train or evaluation mode"


def causes_of(found):
    return {
        (finding.stage, each.cause) for finding in found.findings for each in finding.explanations
    }


def test_left_in_training_mode():
    model, stages = make_plain()
    model.train()
    before = {name: array.clone() for name, array in model.state_dict().items()}
    found = traced(model, stages)
    assert causes_of(found) == {(norm, MODE) for norm in ("bn1", "bn2", "shortcut.1")}
    assert model.training
    assert all(torch.equal(array, before[name]) for name, array in model.state_dict().items())


def test_one_norm_left_in_training_mode():
    model, stages = make_plain()
    model.bn2.train()
    assert causes_of(traced(model, stages)) == {("bn2", MODE)}
    assert causes_of(traced(model, {})) == {("output", MODE)}


def test_a_norm_without_running_statistics():
    model, stages = make_plain()
    model.bn1.running_mean = model.bn1.running_var = None
    model.bn1.track_running_stats = False
    assert causes_of(traced(model, stages)) == {("bn1", MODE)}


def test_dropout_in_training_mode_alone():
    """In training the model is in training mode, with its dropout."""
    model, stages = make_plain()
    model.act1 = torch.nn.Sequential(model.act1, torch.nn.Dropout(0.4)).eval()
    assert traced(model, stages).ok
    found = traced(model, stages, modes=("train",))
    assert [finding.stage for finding in found.findings] == ["relu"]


def test_flax_left_in_training_mode(jax):
    from flax import nnx

    arrays, _ = pose(BLOCK, SIZES[type(BLOCK)])
    model = flax_block(arrays)
    model.bn1.use_running_average = False
    found = traced(model, FLAT_STAGES)
    assert causes_of(found) == {("bn1", MODE)}
    assert model.bn1.use_running_average is False
    np.testing.assert_array_equal(model.bn1.mean[...], arrays["bn1.running_mean"])
    assert isinstance(model, nnx.Module)


def test_keras_layers_that_train_on_their_own(keras):
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])

    class Training(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=True, mask=mask)

    model = keras_block(keras, arrays, x.shape[2:], norms={"bn1": Training})
    assert causes_of(traced(model, keras_stages())) == {("bn1", MODE)}


def test_keras_models_that_train_unless_they_are_asked_not_to(keras):
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras_block(keras, arrays, x.shape[2:])

        def call(self, inputs, training=True):
            return {"logits": self.inner(inputs, training=training)}

    stages = {stage: f"inner.{path}" for stage, path in keras_stages().items()}
    found = traced(Model(), stages)
    assert causes_of(found) == {(norm, MODE) for norm in ("bn1", "bn2", "shortcut.1")}


def keras_stages():
    stages = {**FLAT_STAGES, "attention.relu": "fc1", "attention.sigmoid": "fc2"}
    del stages["attention.fc1"], stages["attention.fc2"]
    return stages


def test_flax_models_keep_their_mode(jax):
    from flax import nnx

    arrays, _ = pose(BLOCK, SIZES[type(BLOCK)])
    model = nnx.Sequential(flax_block(arrays), nnx.Dropout(0.3, rngs=nnx.Rngs(0)))
    model.eval()
    stages = {stage: f"layers.0.{path}" for stage, path in FLAT_STAGES.items()}
    found = traced(model, stages, modes=("eval", "train"))
    assert {finding.mode for finding in found.findings} == {"train"}
    assert "output" in {finding.stage for finding in found.findings}
    assert model.layers[1].deterministic
    assert model.layers[0].bn1.use_running_average


def test_flax_outputs_in_a_dictionary(jax):
    from flax import nnx

    arrays, _ = pose(BLOCK, SIZES[type(BLOCK)])

    class Model(nnx.Module):
        def __init__(self):
            self.inner = flax_block(arrays)

        def __call__(self, x):
            return {"logits": self.inner(x), "features": x}

    found = traced(Model(), {stage: f"inner.{path}" for stage, path in FLAT_STAGES.items()})
    assert found.ok, str(found)


def test_flax_models_that_fail(jax):
    from flax import nnx

    class Model(nnx.Module):
        def __call__(self, x):
            return x if x.sum() > 0 else -x  # not under jax.jit

    with pytest.raises(ModelError, match="raised TracerBoolConversionError: "):
        traced(Model(), {})


def test_keras_models_that_fail(keras):
    model = keras.Sequential([keras.Input((12, 9, 7)), keras.layers.Conv2D(4, 1)])
    with pytest.raises(
        ModelError, match=r"Sequential, called with the images.* raised ValueError: "
    ):
        traced(model, {})


# TensorFlow's crash


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_one_pixel_with_a_stride(keras, padding):
    """The gradient of a 1x1 convolution with stride 2, of one image of even size, would end the
    process in TensorFlow 2.21.
    """
    from weights import BlockConfig

    config = BlockConfig(8, 8, 3, 2, attention="none")
    arrays, x = pose(config, (16, 16))
    inputs = keras.Input((16, 16, 8))
    layer = keras.layers.Conv2D(8, 1, 2, padding=padding, name="down")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights(
        [arrays["shortcut.0.weight"].transpose(2, 3, 1, 0), arrays["shortcut.0.bias"]]
    )
    found = trace(
        {"theirs": Mapped(model, {"shortcut.0": "down"})}, x[:1], config=config, arrays=arrays
    )
    rows = {row.quantity: row for row in found.rows if row.tensor == "shortcut.0"}
    assert rows["eval forward"].ok
    assert layer.strides == (2, 2)
    assert "convolution_op" not in vars(layer)


def test_our_own_shortcut_of_one_image(keras):
    from weights import BlockConfig
    from weights.live import build

    config = BlockConfig(8, 8, 3, 2)
    arrays, x = pose(config, (16, 16))
    assert trace({"ours": build(config, arrays, "tf")}, x[:1]).ok
