"""Gather-excite."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl import axes
from tf_impl.inputs import check_maps
from tf_impl.layers import (
    Bottleneck,
    DepthwiseConv2d,
    global_average,
    nearest,
    relu,
    scale,
    sigmoid,
)
from tf_impl.normalization import make_batch_norm
from tf_impl.pooling import average_around
from tf_impl.shapes import Maps, ResizedMaps
from weights.attention import attention_parameters, gathered_steps, hidden_width
from weights.checks import Pair, pair_of


class GatherAverages(keras.layers.Layer):
    """Averages over the whole map (extent None) or around every extent-th pixel.

    x: (batch, height, width, channels) -> (batch, ceil(height / extent), ceil(width / extent),
        channels), or 1 x 1 for extent None.
    """

    def __init__(self, extent: int | None, **keras_options: Any):
        super().__init__(**keras_options)
        self.extent = extent

    def call(self, x: Maps, training: bool | None = None) -> ResizedMaps:
        return global_average(x) if self.extent is None else average_around(x, self.extent)


class GatherConvolutions(keras.layers.Layer):
    """Depthwise convolutions with batch norms and a relu between them.

    One convolution of the size of the map (extent None), or log2(extent) of stride 2.

    x: (batch, height, width, channels) -> (batch, ceil(height / extent), ceil(width / extent),
        channels), or 1 x 1 for extent None.
    Raises ValueError for maps of another size than `size`, if there is one.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None,
        size: Pair | None,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **keras_options: Any,
    ):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.size = size
        self.steps = 1 if extent is None else gathered_steps("convolution", extent)
        kernel, stride, padding = (size, (1, 1), (0, 0)) if size else ((3, 3), (2, 2), (1, 1))
        for step in range(1, self.steps + 1):
            setattr(
                self,
                f"conv{step}",
                DepthwiseConv2d(
                    channels, kernel, stride, padding, bias=folded, **options, name=f"conv{step}"
                ),
            )
            setattr(
                self,
                f"norm{step}",
                make_batch_norm(channels, bn_eps, bn_decay, folded, **options, name=f"norm{step}"),
            )
        self.built = True

    def children(self) -> list[keras.layers.Layer]:
        """conv1, norm1, conv2, norm2, ..."""
        steps = range(1, self.steps + 1)
        return [getattr(self, f"{kind}{step}") for step in steps for kind in ("conv", "norm")]

    def call(self, x: Maps, training: bool | None = None) -> ResizedMaps:
        check_maps(x, "ge", self.size)
        for number, layer in enumerate(self.children()):  # conv1, norm1, conv2, norm2, ...
            x = relu(x) if number > 0 and number % 2 == 0 else x
            x = layer(x, training=training)
        return x


@keras.saving.register_keras_serializable("resattn")
class GatherExcite(keras.layers.Layer):
    """One gate per value, from its surroundings (Hu et al. 2018, Gather-Excite, section 2).

    x: (batch, height, width, channels) -> the same shape, each value scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.gather_excite`.
    Raises ValueError for maps of another size than `size`, if there is one. Give keras.Input that
        size: no check is possible in a graph of unknown size.
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
        folded: bool = False,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {
            "channels": channels,
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("ge", channels, settings)
        size = None if size is None else pair_of("size", size)
        hidden = hidden_width(channels, reduction, hidden_channels)
        if gather == "average":
            self.gather: keras.layers.Layer = GatherAverages(extent, **options, name="gather")
        else:
            self.gather = GatherConvolutions(
                channels, extent, size, bn_eps, bn_decay, folded, **options, name="gather"
            )
        self.mlp = Bottleneck(channels, hidden, **options, name="mlp") if mlp else None
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        gate = self.gather(x, training=training)
        gate = gate if self.mlp is None else self.mlp(gate)
        gate = sigmoid(gate)
        gate = nearest(gate, ops.shape(x)[axes.ROWS], ops.shape(x)[axes.COLS])
        return scale(x, gate)
