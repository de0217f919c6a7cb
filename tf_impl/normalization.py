"""Batch norm with the semantics that the three implementations share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import CHANNELS, COLS, ROWS, average, check_held, widened
from weights.checks import check_statistics

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class BatchNorm(keras.layers.Layer):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    x: (batch, height, width, channels) -> the same shape: (x - mean) / sqrt(variance + eps) * gamma
    + beta. In training mean and variance are the batch's, over batch and positions, the variance
    biased (divided by n), and the running ones become decay * running + (1 - decay) * batch's, with
    the unbiased variance (divided by n - 1). In evaluation, and in a layer that is not trainable
    (as in Keras' own), they are the running ones. initial_scale: what gamma starts with.
    Raises ValueError in training with n = 1. Where n is not known before the graph runs, n = 1
    makes the statistics NaN.

    Not keras.layers.BatchNormalization, which keeps the biased variance and multiplies out x *
    scale + shift.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        initial_scale: float = 1,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, autocast=False, **keras_options)
        self.options = {
            "channels": channels,
            "eps": eps,
            "decay": decay,
            "initial_scale": initial_scale,
        }
        # Not keras.backend.result_type, which on JAX makes float32 of float64 even where 64 bits
        # are enabled.
        statistics = "float64" if self.variable_dtype == "float64" else "float32"
        self.eps = eps
        self.decay = decay
        start = keras.initializers.Constant(initial_scale)
        self.gamma = self.add_weight(shape=(channels,), initializer=start, name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.moving_mean = self.add_weight(
            shape=(channels,),
            initializer="zeros",
            dtype=statistics,
            trainable=False,
            name="moving_mean",
        )
        self.moving_variance = self.add_weight(
            shape=(channels,),
            initializer="ones",
            dtype=statistics,
            trainable=False,
            name="moving_variance",
        )
        self.built = True
        check_held(self.moving_mean)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width channels"]:
        x = ops.cast(x, self.moving_mean.dtype)
        if not (training and self.trainable):
            mean, variance = (
                ops.convert_to_tensor(self.moving_mean),
                ops.convert_to_tensor(self.moving_variance),
            )
        else:
            mean = average(x, 0, ROWS, COLS)
            variance = average(
                ops.square(x - mean), 0, ROWS, COLS
            )  # two passes: exact for large means
            self._update(
                ops.squeeze(mean, (0, ROWS, COLS)),
                ops.squeeze(variance, (0, ROWS, COLS)),
                _count(x),
            )
        y = (x - mean) * (ops.cast(self.gamma, x.dtype) / ops.sqrt(variance + self.eps)) + ops.cast(
            self.beta, x.dtype
        )
        return ops.cast(y, self.compute_dtype)

    def _update(
        self,
        mean: Float[KerasTensor, " channels"],
        variance: Float[KerasTensor, " channels"],
        n: Any,
    ) -> None:
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        # As tensors: on PyTorch a Keras variable times a number is float32 even for a float64
        # variable.
        held_mean, held_variance = (
            ops.convert_to_tensor(self.moving_mean),
            ops.convert_to_tensor(self.moving_variance),
        )
        self.moving_mean.assign(self.decay * held_mean + (1 - self.decay) * mean)
        self.moving_variance.assign(
            self.decay * held_variance + (1 - self.decay) * unbiased(variance, n)
        )


def unbiased(variance: Float[KerasTensor, " channels"], n: Any) -> Float[KerasTensor, " channels"]:
    """The variance of n values divided by n - 1, from that divided by n: what PyTorch keeps, and
    Flax and Keras do not.
    """
    return variance * (n / (n - 1))


def _count(x: Float[KerasTensor, "batch height width channels"]) -> Any:
    """batch x height x width: a number, or a tensor where a size is not known before the graph
    runs.
    """
    batch, height, width = x.shape[:3]
    if None in (batch, height, width):
        return ops.cast(ops.size(x), x.dtype) / x.shape[3]
    check_statistics(batch * height * width)
    return batch * height * width


@keras.saving.register_keras_serializable("resattn")
class LayerNorm(keras.layers.Layer):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, height, width, channels) -> the same shape: (x - mean) / sqrt(variance + eps) * gamma
    + beta, mean and biased variance over the channels.

    Not keras.layers.LayerNormalization, which multiplies out x * scale + shift, as its batch norm
    does.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, autocast=False, **keras_options)
        self.options = {"channels": channels, "eps": eps}
        self.eps = eps
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.built = True
        check_held(self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        x = widened(x)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        centred = x - average(x, CHANNELS)
        variance = average(ops.square(centred), CHANNELS)
        return ops.cast(centred / ops.sqrt(variance + self.eps) * gamma + beta, self.compute_dtype)
