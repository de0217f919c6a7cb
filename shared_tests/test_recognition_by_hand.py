"""Blocks and attentions as people write them, in all three frameworks, and a trained network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resattn.reading.models import read_model
from resattn.recognition.proof import prove_recognition
from resattn.recognition.recognition import recognise_model
from shared_tests.libraries import make_cifar_resnet
from weights import BlockConfig, read_checkpoint
from weights.frameworks import FRAMEWORKS

SIZE = (9, 8)
OURS = BlockConfig(
    6, 8, stride=2, attention="se", attention_options={"reduction": 4}, conv_bias=False
)


def torch_attentions(torch: Any) -> dict[str, Any]:
    """Popular definitions of attention modules, by whom they are used."""
    nn, functional = torch.nn, torch.nn.functional

    class Squeeze(nn.Module):
        """With linear layers and views."""

        def __init__(self, channels: int, bias: bool = True):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Sequential(
                nn.Linear(channels, channels // 4, bias=bias), nn.ReLU(inplace=True),
                nn.Linear(channels // 4, channels, bias=bias), nn.Sigmoid(),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            batch, channels, _, _ = x.size()
            y = self.fc(self.pool(x).view(batch, channels)).view(batch, channels, 1, 1)
            return x * y.expand_as(x)

    class Efficient(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

        def forward(self, x: Any) -> Any:
            y = self.conv(self.pool(x).squeeze(-1).transpose(-1, -2))
            return x * torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1)).expand_as(x)

    class Convolutional(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.fc = nn.Sequential(
                nn.Conv2d(channels, channels // 4, 1, bias=False), nn.ReLU(),
                nn.Conv2d(channels // 4, channels, 1, bias=False),
            )  # fmt: skip
            self.conv, self.norm = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)

        def forward(self, x: Any) -> Any:
            average, greatest = functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d
            x = torch.sigmoid(self.fc(average(x, 1)) + self.fc(greatest(x, 1))) * x
            y = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
            return torch.sigmoid(self.norm(self.conv(y))) * x

    class Simple(nn.Module):
        """The variance as a total over n - 1."""

        def forward(self, x: Any) -> Any:
            squares = (x - x.mean((2, 3), keepdim=True)).pow(2)
            variance = squares.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
            return x * torch.sigmoid(squares / (4 * (variance + 1e-4)) + 0.5)

    class NonLocal(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.half = channels // 2
            self.a, self.b, self.c = (nn.Conv2d(channels, self.half, 1) for _ in range(3))
            self.out = nn.Sequential(nn.Conv2d(self.half, channels, 1), nn.BatchNorm2d(channels))

        def forward(self, x: Any) -> Any:
            flat = x.shape[0], self.half, -1
            here = self.a(x).view(flat).permute(0, 2, 1)
            weights = torch.softmax(torch.matmul(here, self.b(x).view(flat)), dim=-1)
            y = torch.matmul(weights, self.c(x).view(flat).permute(0, 2, 1))
            y = y.permute(0, 2, 1).contiguous().view(x.shape[0], self.half, *x.shape[2:])
            return self.out(y) + x

    return {
        "se": lambda channels: Squeeze(channels),
        "se without biases": lambda channels: Squeeze(channels, bias=False),
        "eca": Efficient,
        "cbam": Convolutional,
        "simam": lambda channels: Simple(),
        "nonlocal": NonLocal,
    }


def torch_block(torch: Any, attention: Any) -> Any:
    """With one relu for all, and a sum in place."""
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.m = nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
            self.b, self.n = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace=True)
            self.gate = attention(8)
            self.down = nn.Sequential(nn.Conv2d(6, 8, 1, 2, bias=False), nn.BatchNorm2d(8))

        def forward(self, x: Any) -> Any:
            residual = x
            y = self.relu(self.m(self.a(x)))
            y = self.gate(self.n(self.b(y)))
            y += self.down(residual)
            return self.relu(y)

    torch.manual_seed(0)
    model = Residual().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for leaf in (part.weight.data, part.running_var):
                leaf.uniform_(0.5, 2)
            for leaf in (part.bias.data, part.running_mean):
                leaf.normal_()
    return model


ATTENTIONS: dict[str, dict[str, Any]] = {
    "se": {"reduction": 4},
    "eca": {},
    "cbam": {"reduction": 4, "bias": False},
    "simam": {},
    "nonlocal": {},
}


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attentions_of_others(torch, kind):
    model = torch_block(torch, torch_attentions(torch)[kind])
    found = recognise_model(read_model(model, SIZE))
    assert found.config is not None
    assert found.config.attention == kind
    assert dict(found.config.attention_options) == ATTENTIONS[kind]
    assert prove_recognition(found, model).ok


def test_an_attention_that_is_nearly_ours(torch):
    model = torch_block(torch, torch_attentions(torch)["se without biases"])
    found = recognise_model(read_model(model, SIZE))
    assert found.nearest == OURS
    places = [(each.key, each.stage, each.origin.module) for each in found.differences]
    assert places == [
        ("bias", "attention.fc1", "gate.fc.0"), ("bias", "attention.fc2", "gate.fc.2")
    ]  # fmt: skip


def flax_block(**options: Any) -> Any:
    import jax.numpy as jnp
    from flax import nnx

    class Gate(nnx.Module):
        def __init__(self, channels: int, rngs: Any):
            self.a = nnx.Linear(channels, channels // 4, rngs=rngs)
            self.b = nnx.Linear(channels // 4, channels, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            y = nnx.sigmoid(self.b(nnx.relu(self.a(jnp.mean(x, axis=(1, 2))))))
            return x * y[:, None, None, :]

    class Residual(nnx.Module):
        def __init__(self, rngs: Any, relu: Any = nnx.relu, eps: float = 1e-5):
            conv = {"use_bias": False, "rngs": rngs}
            self.a = nnx.Conv(6, 8, (3, 3), 2, padding=1, **conv)
            self.b = nnx.Conv(8, 8, (3, 3), padding="SAME", **conv)
            self.c = nnx.Conv(6, 8, (1, 1), 2, **conv)
            self.m, self.n = (nnx.BatchNorm(8, epsilon=e, rngs=rngs) for e in (eps, 1e-5))
            self.o = nnx.BatchNorm(8, epsilon=1e-5, rngs=rngs)
            self.gate, self.relu = Gate(8, rngs), relu

        def __call__(self, x: Any) -> Any:
            y = self.gate(self.n(self.b(self.relu(self.m(self.a(x))))))
            return nnx.relu(y + self.o(self.c(x)))

    model = Residual(nnx.Rngs(0), **options)
    model.eval()
    return model


def keras_block(relu: str = "relu", eps: float = 1e-5) -> Any:
    """Functional, with a layer of its own for the padding."""
    import keras

    layers = keras.layers
    image = keras.Input((*SIZE, 6))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(8, 3, 2, use_bias=False)(x)
    x = layers.Activation(relu)(layers.BatchNormalization(epsilon=eps)(x))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=1e-5)(x)
    gate = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Reshape((1, 1, 8))(layers.Dense(8, activation="sigmoid")(gate))
    x = layers.Multiply()([x, gate])
    y = layers.Conv2D(8, 1, 2, use_bias=False)(image)
    y = layers.BatchNormalization(epsilon=1e-5)(y)
    return keras.Model(image, layers.ReLU()(layers.Add()([x, y])))


def make_by_hand(framework: str, near: bool, request: pytest.FixtureRequest) -> Any:
    """A block by hand; near: with another activation and another eps."""
    if framework == "torch":
        torch = request.getfixturevalue("torch")
        model = torch_block(torch, torch_attentions(torch)["se"])
        if near:
            model.m.eps, model.relu.forward = 1e-3, torch.nn.functional.silu
        return model
    if framework == "jax":
        nnx = pytest.importorskip("flax.nnx")
        return flax_block(relu=nnx.silu, eps=1e-3) if near else flax_block()
    return keras_block("silu", 1e-3) if near else keras_block()


def test_a_block_by_hand_in_each_framework(framework, request):
    model = make_by_hand(framework, False, request)
    found = recognise_model(read_model(model, SIZE, 6))
    decay = FRAMEWORKS[framework].batch_norm[1]  # nobody says another
    assert found.config == replace(OURS, bn_decay=decay)
    assert {"conv1", "bn1", "conv2", "bn2", "attention", "shortcut.0"} <= set(found.stages)
    assert prove_recognition(found, model).ok


def test_a_near_miss_in_each_framework(framework, request):
    model = make_by_hand(framework, True, request)
    found = recognise_model(read_model(model, SIZE, 6))
    assert found.nearest == OURS
    expected = [("eps", "bn1"), ("another", "relu")]
    assert [(each.key, each.stage) for each in found.differences][:2] == expected
    assert "eps 0.001, ours 1e-05" in "\n".join(found.describe())


def test_a_trained_network(torch, checkpoint):
    """Its own class, with a shortcut that concatenates zeros."""
    model = make_cifar_resnet(20, projects=False).eval()
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    model.load_state_dict({name.removeprefix("module."): each for name, each in state.items()})
    found = recognise_model(read_model(model, (32, 32)))
    expected = read_checkpoint(checkpoint)
    assert found.config == expected.config
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert found.stages["stages.1.0"] == "layer2.0"
    assert prove_recognition(found, model).ok
