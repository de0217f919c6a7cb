"""The sketch of the forum thread in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx


class AttentionModule(nnx.Module):
    def __init__(self, channels, reduction=16, *, rngs):
        self.squeeze = nnx.Linear(channels, channels // reduction, rngs=rngs)
        self.excite = nnx.Linear(channels // reduction, channels, rngs=rngs)

    def __call__(self, x):
        weights = jnp.mean(x, axis=(1, 2))
        weights = jax.nn.sigmoid(self.excite(nnx.relu(self.squeeze(weights))))
        return x * weights[:, None, None, :]


class ResidualBlock(nnx.Module):
    def __init__(self, in_channels, out_channels, stride=1, second=None, *, rngs):
        """second: the stride of the second convolution; the thread's sketch passes stride on."""
        second = stride if second is None else second
        kernel = (3, 3)
        self.conv_a = nnx.Conv(in_channels, out_channels, kernel, stride, padding=1, rngs=rngs)
        self.norm_a = nnx.BatchNorm(out_channels, rngs=rngs)
        self.conv_b = nnx.Conv(out_channels, out_channels, kernel, second, padding=1, rngs=rngs)
        self.norm_b = nnx.BatchNorm(out_channels, rngs=rngs)
        self.gate = AttentionModule(out_channels, rngs=rngs)
        self.skip = nnx.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.skip = nnx.Sequential(
                nnx.Conv(in_channels, out_channels, (1, 1), stride, padding=0, rngs=rngs),
                nnx.BatchNorm(out_channels, rngs=rngs),
            )

    def __call__(self, x):
        y = nnx.relu(self.norm_a(self.conv_a(x)))
        y = self.gate(self.norm_b(self.conv_b(y)))
        return nnx.relu(y + self.skip(x))


class Net(nnx.Module):
    """Two of the blocks that work, between a stem and a classifier, for 32 x 32 images."""

    def __init__(self, classes=10, *, rngs):
        self.stem = nnx.Conv(3, 32, (3, 3), padding=1, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.first = ResidualBlock(32, 32, rngs=rngs)
        self.second = ResidualBlock(32, 64, 2, 1, rngs=rngs)
        self.head = nnx.Linear(64, classes, rngs=rngs)

    def __call__(self, x):
        y = self.second(self.first(nnx.relu(self.norm(self.stem(x)))))
        return self.head(jnp.mean(y, axis=(1, 2)))
