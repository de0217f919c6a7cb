"""Non-local block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import COLS, ROWS, Conv2d, image, max_pool_2x2, positions, softmax, swapped
from tf_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width
from weights.checks import check_map

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class NonLocal(keras.layers.Layer):
    """A weighted mean over all positions, added to each (Wang et al. 2018, Non-local Neural
    Networks, section 3; embedded Gaussian).

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors: `weights.attention.non_local`.
    Raises ValueError with `subsample` for maps of fewer than 2 rows or columns.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        subsample: bool = False,
        scale: bool = False,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {
            "channels": channels,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "subsample": subsample,
            "scale": scale,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {"subsample": subsample, "scale": scale, "bn_eps": bn_eps, "bn_decay": bn_decay}
        attention_parameters("nonlocal", channels, given)
        hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
        self.subsample = subsample
        self.scale = hidden**-0.5 if scale else 1.0
        self.theta = Conv2d(channels, hidden, **options, name="theta")
        self.phi = Conv2d(channels, hidden, **options, name="phi")
        self.g = Conv2d(channels, hidden, **options, name="g")
        self.conv_out = Conv2d(hidden, channels, **options, name="conv_out")
        self.bn = BatchNorm(channels, bn_eps, bn_decay, 0, **options, name="bn")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width channels"]:
        rows, cols = ops.shape(x)[ROWS], ops.shape(x)[COLS]
        query, key, value = self.theta(x), self.phi(x), self.g(x)
        if self.subsample:
            check_map("nonlocal with subsample", rows, cols, least=(2, 1))
            key, value = max_pool_2x2(key), max_pool_2x2(value)
        logits = positions(query) @ swapped(positions(key), -2, -1)
        weights = softmax(logits * self.scale)
        y = image(weights @ positions(value), rows, cols)
        y = self.conv_out(y)
        y = self.bn(y, training=training)
        return x + y
