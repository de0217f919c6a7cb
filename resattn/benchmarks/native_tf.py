"""The block and the network as a user of Keras would write them at first.

Layers have the names of ours, so that they take the same weights. Padding is that of the other
frameworks, as in Keras Applications: by a layer of its own in front of a convolution with a stride.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from weights.attention import hidden_width
from weights.config import BlockConfig, Config


def native_model(config: Config) -> Any:
    """A new model: a basic block or a network of them, with squeeze-and-excitation or without
    attention. Its variables are made at its first call.
    """
    block, network = _classes()
    return block(config) if isinstance(config, BlockConfig) else network(config)


def _conv(width: int, size: int, stride: Any = 1, bias: bool = False) -> Any:
    from keras import layers

    padding = "same" if stride in (1, (1, 1)) else "valid"
    return layers.Conv2D(width, size, stride, padding=padding, use_bias=bias)


@cache
def _classes() -> tuple[Any, Any]:
    import keras
    from keras import layers, ops

    norm = partial(layers.BatchNormalization, epsilon=1e-5, momentum=0.9)

    class Gate(layers.Layer):  # type: ignore[misc]
        def __init__(self, channels: int):
            super().__init__()
            self.fc1 = _conv(hidden_width(channels), 1, bias=True)
            self.fc2 = _conv(channels, 1, bias=True)

        def call(self, x: Any) -> Any:
            y = ops.relu(self.fc1(ops.mean(x, (1, 2), keepdims=True)))
            return x * ops.sigmoid(self.fc2(y))

    class Block(layers.Layer):  # type: ignore[misc]
        def __init__(self, c: Any):
            super().__init__()
            width, bias = c.out_channels, c.conv_bias
            self.pad = layers.Identity() if c.stride == (1, 1) else layers.ZeroPadding2D(1)
            self.conv1, self.conv2 = _conv(width, 3, c.stride, bias), _conv(width, 3, 1, bias)
            self.bn1, self.bn2 = norm(), norm()
            self.attention = Gate(width) if c.attention == "se" else layers.Identity()
            projection = [_conv(width, 1, c.stride, bias), norm()]
            self.shortcut = keras.Sequential(projection if c.projects else [layers.Identity()])

        def call(self, x: Any, training: bool | None = None) -> Any:
            y = ops.relu(self.bn1(self.conv1(self.pad(x)), training=training))
            y = self.attention(self.bn2(self.conv2(y), training=training))
            return ops.relu(y + self.shortcut(x, training=training))

    class Stem(layers.Layer):  # type: ignore[misc]
        def __init__(self, c: Any):
            super().__init__()
            self.pad, self.conv = layers.ZeroPadding2D(3), _conv(c.stem_channels, 7, 2)
            self.bn, self.pool_pad = norm(), layers.ZeroPadding2D(1)
            self.pool = layers.MaxPooling2D(3, 2)

        def call(self, x: Any, training: bool | None = None) -> Any:
            y = ops.relu(self.bn(self.conv(self.pad(x)), training=training))
            return self.pool(self.pool_pad(y))

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self, c: Any):
            super().__init__()
            self.stem = Stem(c)
            self.stages = keras.Sequential(
                [keras.Sequential(list(map(Block, blocks))) for blocks in c.stages()]
            )
            self.classifier = layers.Dense(c.classes)

        def call(self, x: Any, training: bool | None = None) -> Any:
            y = self.stages(self.stem(x, training=training), training=training)
            return self.classifier(ops.mean(y, (1, 2)))

    return Block, Network
