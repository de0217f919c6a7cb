"""Residual networks with squeeze-and-excitation, and blocks alone, as users of Flax and Keras would
write them: native layers with their defaults. timm's in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

from resattn.benchmarks.libraries import import_library
from weights.attention import hidden_width

_WIDTHS = (64, 128, 256, 512)  # of the stages of a ResNet-18, two blocks each


def plain_torch(blocks: int, classes: int) -> Any:
    """timm's ResNet-18 with squeeze-and-excitation for 8 blocks, or its block of 64 channels."""
    torch: Any = import_module("torch")
    timm = import_library("timm")
    if blocks > 1:
        return timm.create_model("seresnet18", num_classes=classes)
    kind = import_module("timm.layers.squeeze_excite").SEModule
    block = import_module("timm.models.resnet").BasicBlock(64, 64, attn_layer=kind)
    return torch.nn.Sequential(block, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def _plan(blocks: int) -> Sequence[tuple[int, int, int]]:
    """(in channels, out channels, stride) of each block."""
    if blocks == 1:
        return [(64, 64, 1)]
    wide = [64, *(width for width in _WIDTHS for _ in range(2))]
    return [(first, last, 1 if first == last else 2) for first, last in pairwise(wide)]


def plain_flax(blocks: int, classes: int) -> Any:
    """A ResNet-18 with squeeze-and-excitation for 8 blocks, or a block of 64 channels."""
    nnx: Any = import_module("flax.nnx")
    rngs = nnx.Rngs(0)

    def conv(*channels: int, size: int = 3, stride: int = 1) -> Any:
        return nnx.Conv(*channels, (size, size), stride, use_bias=False, rngs=rngs)

    class Block(nnx.Module):  # type: ignore[misc]
        def __init__(self, first: int, last: int, stride: int) -> None:
            hidden = hidden_width(last)
            self.conv1, self.conv2 = conv(first, last, stride=stride), conv(last, last)
            self.bn1, self.bn2 = (nnx.BatchNorm(last, momentum=0.9, rngs=rngs) for _ in range(2))
            self.fc1, self.fc2 = (
                nnx.Linear(last, hidden, rngs=rngs),
                nnx.Linear(hidden, last, rngs=rngs),
            )
            self.same = first == last
            if not self.same:
                self.down = conv(first, last, size=1, stride=stride)
                self.norm = nnx.BatchNorm(last, momentum=0.9, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            y = nnx.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            gate = nnx.sigmoid(self.fc2(nnx.relu(self.fc1(y.mean((1, 2))))))
            y = y * gate[:, None, None]
            return nnx.relu(y + (x if self.same else self.norm(self.down(x))))

    class Network(nnx.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.whole = blocks > 1
            if self.whole:
                self.stem = conv(3, 64, size=7, stride=2)
                self.bn = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
                self.classifier = nnx.Linear(_WIDTHS[-1], classes, rngs=rngs)
            self.blocks = nnx.List([Block(*each) for each in _plan(blocks)])

        def __call__(self, x: Any) -> Any:
            if self.whole:
                x = nnx.relu(self.bn(self.stem(x)))
                x = nnx.max_pool(x, (3, 3), (2, 2), "SAME")
            for block in self.blocks:
                x = block(x)
            x = x.mean((1, 2))
            return self.classifier(x) if self.whole else x

    return Network()


def plain_keras(blocks: int, classes: int) -> Any:
    """A ResNet-18 with squeeze-and-excitation for 8 blocks, or a block of 64 channels."""
    keras: Any = import_module("keras")
    layers = keras.layers

    def conv(x: Any, channels: int, size: int = 3, stride: int = 1) -> Any:
        y = layers.Conv2D(channels, size, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(y)

    def block(x: Any, first: int, last: int, stride: int) -> Any:
        y = layers.ReLU()(conv(x, last, stride=stride))
        y = conv(y, last)
        gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
        gate = layers.Dense(hidden_width(last), activation="relu")(gate)
        y = layers.Multiply()([y, layers.Dense(last, activation="sigmoid")(gate)])
        return layers.ReLU()(layers.Add()([y, x if first == last else conv(x, last, 1, stride)]))

    x = inputs = keras.Input((None, None, 3 if blocks > 1 else 64))
    if blocks > 1:
        x = layers.ReLU()(conv(x, 64, 7, 2))
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for each in _plan(blocks):
        x = block(x, *each)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x) if blocks > 1 else x)
