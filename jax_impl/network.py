"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.inputs import check_images
from jax_impl.layers import Linear, global_average
from jax_impl.shapes import Logits, Maps
from jax_impl.stem import make_stem
from jax_impl.variant import build_block
from weights.config import NetworkConfig


class ResidualAttentionNetwork(nnx.Module):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, height, width, in_channels) -> (batch, classes), logits.
    dtype: to compute in, and of the output. param_dtype: of the parameters, dtype by default.
        Statistics are float32 at least.
    rngs: the source of initial values and of dropout, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for inputs of another rank or number of channels, and for float64
        where JAX is not set up for it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.config = config
        self.in_channels = config.in_channels
        self.stem = make_stem(config, **options)
        self.stages = nnx.Sequential(
            *(
                nnx.Sequential(*(build_block(block, **options) for block in blocks))
                for blocks in config.stages()
            )
        )
        # A Sequential without layers returns its input.
        self.dropout = (
            nnx.Dropout(config.dropout, rngs=rngs) if config.dropout else nnx.Sequential()
        )
        self.classifier: nnx.Module = (
            Linear(config.widths[-1], config.classes, **options)
            if config.classes
            else nnx.Sequential()
        )

    @classmethod
    def from_config(cls, config: NetworkConfig, **options: Any) -> ResidualAttentionNetwork:
        """The network of a config. options: dtype, param_dtype and rngs."""
        return cls(config, **options)

    def __call__(self, x: Maps) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = global_average(y)
        y = self.dropout(y)
        return self.classifier(jnp.squeeze(y, axis=(1, 2)))

    def features(self, x: Maps) -> list[Maps]:
        """The outputs of the stem and of every stage, for detectors and segmenters.

        x: (batch, height, width, in_channels) -> maps of (batch, rows, cols, channels).
        """
        check_images(x, self.in_channels)
        found = [self.stem(x)]
        for stage in self.stages.layers:
            found.append(stage(found[-1]))
        return found
