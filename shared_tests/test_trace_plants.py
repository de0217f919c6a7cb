"""Mistakes as people make them (`trace_plants.py`), and right models that must have no finding."""

# ruff: noqa: E402  (PyTorch first: it must be loaded before TensorFlow)

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from resattn.tracing.trace import Mapped, trace
from shared_tests.plain_model import (
    blocks_of,
    build_plain,
    gate_by_linear,
    map_plain,
    pad_in_layers,
)
from shared_tests.trace_plants import (
    ALONE,
    AMONG,
    BLOCK,
    NETWORK,
    OUTPUT,
    SIZES,
    contradicts_table,
    fold,
    is_listed,
    list_cases,
    pose,
    reset,
    run_case,
)
from shared_tests.unexplained import FALSE, UNEXPLAINED
from weights.stages import Recording

# AMONG contains what INSIDE does. `python -m shared_tests.trace_plants` runs the rest, which takes
# minutes: a search that ends without an answer is the longest.
CASES = [
    (name, scope)
    for name, scope in list_cases()
    if name != "another checkpoint everywhere"
    and (scope in (ALONE, AMONG) or (scope == OUTPUT and not is_listed(name, scope)))
]


@pytest.mark.parametrize(("name", "scope"), CASES, ids=[" @ ".join(case) for case in CASES])
def test_plants(name, scope):
    """The right cause at the right place or, for those that are listed, "unexplained"."""
    outcome = run_case(name, scope)
    if contradicts_table(name, scope, outcome.verdict):
        pytest.fail(f"{outcome.verdict}, not as UNEXPLAINED says\n{outcome.text}")


def test_what_is_listed_exists():
    listed = {
        (name, scope)
        for table in (*UNEXPLAINED.values(), *FALSE.values())
        for name, scopes in table.items()
        for scope in scopes
    }
    assert listed <= set(list_cases())


# Right models


def leave(model):
    pass


def pool_in_place(model):
    """In place and channels last."""
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = True
    model.to(memory_format=torch.channels_last)


def drop_in_training(model):
    """Dropout, which evaluation turns off."""
    if hasattr(model, "drop"):
        model.drop = torch.nn.Dropout(0.5).eval()
    for block in blocks_of(model):
        block.se = torch.nn.Sequential(block.se, torch.nn.Dropout(0.2)).eval()


def slice_before(model):
    """A shortcut that takes every second pixel before its convolution."""

    def forward(conv, x):
        return torch.nn.functional.conv2d(x[:, :, ::2, ::2], conv.weight, conv.bias)

    for block in blocks_of(model):
        if block.down is not None:
            block.down[0].forward = lambda x, conv=block.down[0]: forward(conv, x)


def classify_by_convolution(model):
    """A classifier that is a convolution, and gives (batch, classes, 1, 1)."""
    if hasattr(model, "fc"):
        linear = model.fc
        model.fc = torch.nn.Conv2d(linear.in_features, linear.out_features, 1).to(
            linear.weight.dtype
        )
        model.fc.weight.data = linear.weight.data[:, :, None, None]
        model.fc.bias.data = linear.bias.data
        model.flat = torch.nn.Identity()


def pad_and_gate(model):
    pad_in_layers(model)
    gate_by_linear(model)


RIGHT = {
    "as it is": leave,
    "in place and channels last": pool_in_place,
    "padded by layers": pad_in_layers,
    "gated by linear layers": gate_by_linear,
    "padded by layers and gated by linear ones": pad_and_gate,
    "dropout in evaluation": drop_in_training,
    "sliced shortcut": slice_before,
    "classified by a convolution": classify_by_convolution,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", [BLOCK, NETWORK], ids=["block", "network"])
@pytest.mark.parametrize("way", RIGHT)
def test_right_models(way, config, dtype):
    arrays, x = pose(config, SIZES[type(config)], dtype)
    model = build_plain(config, arrays, dtype)
    stages = map_plain(model)
    RIGHT[way](model)
    stages = map_plain(model) if way != "dropout in evaluation" else {
        stage: path for stage, path in stages.items() if ".attention" not in f".{stage}"
    }  # fmt: skip
    modes = ("eval",) if way == "dropout in evaluation" else ("eval", "train")
    found = trace({"theirs": Mapped(model, stages)}, x, config=config, arrays=arrays, modes=modes)
    assert found.ok, str(found)
    assert not any("changes its input" in note for note in found.notes), found.notes


def test_a_folded_model_has_the_right_output():
    arrays, x = pose(NETWORK, SIZES[type(NETWORK)])
    model = build_plain(NETWORK, arrays)
    pairs = [(model.conv1, model.bn1)]
    for block in blocks_of(model):
        pairs += [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        pairs += [tuple(block.down)] if block.down is not None else []
    for conv, norm in pairs:
        fold(conv, norm)
        reset(norm)
    with torch.no_grad():
        output = Recording({"classifier": model(torch.tensor(x)).numpy()})
    found = trace({"theirs": output}, x, config=NETWORK, arrays=arrays, modes=("eval",))
    assert found.ok, str(found)


def test_a_model_that_is_right_inside_a_larger_one():
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])
    model = build_plain(BLOCK, arrays)
    pad_in_layers(model)
    whole = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, 1, 1), model)
    stages = {stage: f"1.{path}" for stage, path in map_plain(model).items()}
    found = trace({"theirs": Mapped(whole, {**stages, "output": "1"})}, x, config=BLOCK,
                  arrays=arrays, modes=("eval",))  # fmt: skip
    assert found.ok, str(found)


def flax_block(arrays):
    """Padded by hand, pooled without axes, gated by linear layers."""
    import jax.numpy as jnp
    from flax import nnx

    def convolution(name, stride):
        kernel = arrays[f"{name}.weight"].transpose(2, 3, 1, 0)
        rows, cols, inner, outer = kernel.shape
        layer = nnx.Conv(inner, outer, (rows, cols), stride, padding="VALID", rngs=nnx.Rngs(0))
        layer.kernel[...], layer.bias[...] = kernel, arrays[f"{name}.bias"]
        return layer

    def norm(name):
        layer = nnx.BatchNorm(4, epsilon=1e-5, momentum=0.9, rngs=nnx.Rngs(0),
                              use_running_average=True)  # fmt: skip
        for mine, leaf in (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"),
                           ("var", "running_var")):  # fmt: skip
            getattr(layer, mine)[...] = arrays[f"{name}.{leaf}"]
        return layer

    def linear(name):
        kernel = arrays[f"{name}.weight"][:, :, 0, 0].T
        layer = nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0))
        layer.kernel[...], layer.bias[...] = kernel, arrays[f"{name}.bias"]
        return layer

    class Theirs(nnx.Module):
        def __init__(self):
            self.conv1, self.conv2 = convolution("conv1", (2, 2)), convolution("conv2", (1, 1))
            self.down = convolution("shortcut.0", (2, 2))
            self.bn1, self.bn2, self.bn3 = norm("bn1"), norm("bn2"), norm("shortcut.1")
            self.fc1, self.fc2 = linear("attention.fc1"), linear("attention.fc2")

        def __call__(self, x):
            y = nnx.relu(self.bn1(self.conv1(pad(x))))
            y = self.bn2(self.conv2(pad(y)))
            gate = nnx.sigmoid(self.fc2(nnx.relu(self.fc1(y.mean((1, 2))))))
            return nnx.relu(y * gate[:, None, None] + self.bn3(self.down(x)))

    def pad(x):
        return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    return Theirs()


FLAT_STAGES = {
    "conv1": "conv1",
    "bn1": "bn1",
    "conv2": "conv2",
    "bn2": "bn2",
    "attention.fc1": "fc1",
    "attention.fc2": "fc2",
    "shortcut.0": "down",
    "shortcut.1": "bn3",
}


def test_a_right_flax_model(jax):
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])
    found = trace({"theirs": Mapped(flax_block(arrays), FLAT_STAGES)}, x, config=BLOCK,
                  arrays=arrays, modes=("eval",))  # fmt: skip
    assert found.ok, str(found)


def keras_block(keras, arrays, size, norms=None):
    """Padded by layers, pooled without axes, gated by Dense layers. norms: classes of some."""
    layers = keras.layers
    inputs = keras.Input((*size, 4))

    def convolve(x, name, stride, margin):
        x = layers.ZeroPadding2D(margin)(x) if margin else x
        kernel = arrays[{"down": "shortcut.0"}.get(name, name) + ".weight"].shape[2]
        return layers.Conv2D(4, kernel, stride, padding="valid", name=name)(x)

    def normalise(x, name):
        kind = (norms or {}).get(name, layers.BatchNormalization)
        return kind(epsilon=1e-5, momentum=0.9, name=name)(x)

    y = layers.ReLU()(normalise(convolve(inputs, "conv1", 2, 1), "bn1"))
    y = normalise(convolve(y, "conv2", 1, 1), "bn2")
    gate = layers.GlobalAveragePooling2D()(y)
    gate = layers.Dense(4, activation="relu", name="fc1")(gate)
    gate = layers.Dense(4, activation="sigmoid", name="fc2")(gate)
    y = layers.Multiply()([y, layers.Reshape((1, 1, 4))(gate)])
    short = normalise(convolve(inputs, "down", 2, 0), "bn3")
    model = keras.Model(inputs, layers.ReLU()(layers.Add()([y, short])))
    for stage, name in FLAT_STAGES.items():
        weight, *others = (
            arrays[f"{stage}.{leaf}"]
            for leaf in ("weight", "bias", "running_mean", "running_var")
            if f"{stage}.{leaf}" in arrays
        )
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)
        target = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([weight.reshape(target[0].shape), *others])
    return model


def test_a_right_keras_model(keras):
    """The gate's Dense layers hold their activations, so they are the stages after these."""
    arrays, x = pose(BLOCK, SIZES[type(BLOCK)])
    stages = {**FLAT_STAGES, "attention.relu": "fc1", "attention.sigmoid": "fc2"}
    del stages["attention.fc1"], stages["attention.fc2"]
    model = keras_block(keras, arrays, x.shape[2:])
    found = trace({"theirs": Mapped(model, stages)}, x, config=BLOCK, arrays=arrays,
                  modes=("eval",))  # fmt: skip
    assert found.ok, str(found)


def test_wrong_padding_of_a_layer_is_found(keras):
    """TensorFlow's SAME, by a layer that pads the end alone."""
    arrays, x = pose(BLOCK, (12, 8))
    model = build_plain(BLOCK, arrays)
    pad_in_layers(model)
    model.conv1.pad = torch.nn.ZeroPad2d((0, 1, 0, 1))
    found = trace({"theirs": Mapped(model, map_plain(model))}, x, config=BLOCK, arrays=arrays,
                  modes=("eval",))  # fmt: skip
    assert [finding.stage for finding in found.findings] == ["conv1"], str(found)
    assert found.first.explanations[0].cause == "SAME padding"
