"""The block and the network as a user of Flax would write them at first.

Modules have the names of ours, so that they take the same weights.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from weights.attention import hidden_width
from weights.config import BlockConfig, Config


def native_model(config: Config) -> Any:
    """A new model: a basic block or a network of them, with squeeze-and-excitation or without
    attention.
    """
    block, network = _classes()
    return block(config) if isinstance(config, BlockConfig) else network(config)


@cache
def _classes() -> tuple[Any, Any]:
    from flax import nnx

    rngs = nnx.Rngs(0)

    def conv(before: int, width: int, size: int, stride: Any = 1, bias: bool = False) -> Any:
        return nnx.Conv(
            before, width, (size, size), stride, padding=size // 2, use_bias=bias, rngs=rngs
        )

    def norm(width: int) -> Any:
        return nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    class Gate(nnx.Module):
        def __init__(self, channels: int):
            self.fc1 = conv(channels, hidden_width(channels), 1, bias=True)
            self.fc2 = conv(hidden_width(channels), channels, 1, bias=True)

        def __call__(self, x: Any) -> Any:
            y = nnx.relu(self.fc1(x.mean((1, 2), keepdims=True)))
            return x * nnx.sigmoid(self.fc2(y))

    class Block(nnx.Module):
        def __init__(self, c: Any):
            before, width, bias = c.in_channels, c.out_channels, c.conv_bias
            self.conv1 = conv(before, width, 3, c.stride, bias)
            self.bn1 = norm(width)
            self.conv2 = conv(width, width, 3, 1, bias)
            self.bn2 = norm(width)
            self.attention = Gate(width) if c.attention == "se" else nnx.Sequential()
            projection = (conv(before, width, 1, c.stride, bias), norm(width))
            self.shortcut = nnx.Sequential(*(projection if c.projects else ()))

        def __call__(self, x: Any) -> Any:
            y = nnx.relu(self.bn1(self.conv1(x)))
            y = self.attention(self.bn2(self.conv2(y)))
            return nnx.relu(y + self.shortcut(x))

    class Stem(nnx.Module):
        def __init__(self, c: Any):
            self.conv = conv(c.in_channels, c.stem_channels, 7, 2)
            self.bn = norm(c.stem_channels)

        def __call__(self, x: Any) -> Any:
            y = nnx.relu(self.bn(self.conv(x)))
            margins = ((1, 1), (1, 1))
            return nnx.max_pool(y, (3, 3), (2, 2), margins)  # type: ignore[no-untyped-call]

    class Network(nnx.Module):
        def __init__(self, c: Any):
            self.stem = Stem(c)
            self.stages = nnx.Sequential(
                *(nnx.Sequential(*map(Block, blocks)) for blocks in c.stages())
            )
            self.classifier = nnx.Linear(c.widths[-1], c.classes, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.classifier(self.stages(self.stem(x)).mean((1, 2)))

    return Block, Network
