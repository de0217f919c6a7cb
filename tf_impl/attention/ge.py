"""Gather-excite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import (
    COLS,
    ROWS,
    Bottleneck,
    DepthwiseConv2d,
    average_around,
    global_average,
    nearest,
    relu,
    scaled,
    sigmoid,
)
from tf_impl.normalization import BatchNorm
from weights.attention import attention_parameters, gathered_steps, hidden_width
from weights.checks import Pair, check_map, pair_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


class GatherAverages(keras.layers.Layer):
    """Averages over the whole map or around every extent-th pixel.

    x: (batch, height, width, channels) -> (batch, ceil(height / extent), ceil(width / extent),
    channels); 1 x 1 for extent None.
    """

    def __init__(self, extent: int | None, **options: Any):
        super().__init__(**options)
        self.extent = extent

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch rows cols channels"]:
        return global_average(x) if self.extent is None else average_around(x, self.extent)


class GatherConvolutions(keras.layers.Layer):
    """Depthwise convolutions with batch norms, relu between: one as large as the map, or
    log2(extent) of stride 2.

    x: (batch, height, width, channels) -> (batch, ceil(height / extent), ceil(width / extent),
    channels); 1 x 1 for extent None.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None,
        size: Pair | None,
        bn_eps: float,
        bn_decay: float,
        **options: Any,
    ):
        super().__init__(**options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.size = size
        self.steps = 1 if extent is None else gathered_steps("convolution", extent)
        kernel, stride, padding = (
            ((3, 3), (2, 2), (1, 1)) if size is None else (size, (1, 1), (0, 0))
        )
        for step in range(1, self.steps + 1):
            setattr(
                self,
                f"conv{step}",
                DepthwiseConv2d(channels, kernel, stride, padding, **options, name=f"conv{step}"),
            )
            setattr(
                self,
                f"norm{step}",
                BatchNorm(channels, bn_eps, bn_decay, **options, name=f"norm{step}"),
            )
        self.built = True

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch rows cols channels"]:
        check_map("ge", ops.shape(x)[ROWS], ops.shape(x)[COLS], size=self.size)
        for step in range(1, self.steps + 1):
            x = relu(x) if step > 1 else x
            x = getattr(self, f"conv{step}")(x)
            x = getattr(self, f"norm{step}")(x, training=training)
        return x


@keras.saving.register_keras_serializable("resattn")
class GatherExcite(keras.layers.Layer):
    """A gate for each value, gathered from its channel around it (Hu et al. 2018, Gather-Excite,
    section 2).

    x: (batch, height, width, channels) -> the same shape, each value scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.gather_excite`.
    Raises ValueError for maps of another size than `size`, if that was given; give keras.Input that
    size: in a graph of unknown size nobody can check.
    """

    def __init__(
        self,
        channels: int,
        gather: str = "average",
        extent: int | None = None,
        size: int | Pair | None = None,
        mlp: bool = False,
        reduction: int | None = None,
        hidden_channels: int | None = None,
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
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        widths = {"reduction": reduction, "hidden_channels": hidden_channels}
        attention_parameters("ge", channels, {**given, **widths})
        size = None if size is None else pair_of("size", size)
        hidden = hidden_width(channels, reduction, hidden_channels)
        if gather == "average":
            self.gather = GatherAverages(extent, **options, name="gather")
        else:
            self.gather = GatherConvolutions(
                channels, extent, size, bn_eps, bn_decay, **options, name="gather"
            )
        self.mlp = Bottleneck(channels, hidden, **options, name="mlp") if mlp else None
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width channels"]:
        gate = self.gather(x, training=training)
        gate = gate if self.mlp is None else self.mlp(gate)
        gate = nearest(gate, ops.shape(x)[ROWS], ops.shape(x)[COLS])
        gate = sigmoid(gate)
        return scaled(x, gate)
