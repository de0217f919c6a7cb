"""Norms with the semantics that the three implementations share."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tf_impl import axes
from tf_impl.inputs import check_batch
from tf_impl.layers import Sequential, average, check_dtype, widen
from tf_impl.shapes import ChannelVector, Maps
from tf_impl.shards import batch_moments
from weights.config import Config
from weights.shards import Division
from weights.stages import stage


@stage
@keras.saving.register_keras_serializable("resattn")
class BatchNorm(keras.layers.Layer):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    In training it normalises with the mean and the biased variance of the batch (divided by n),
    over batch and positions. Running statistics become decay * running + (1 - decay) * batch's,
    with the unbiased variance (divided by n - 1). In evaluation it normalises with the running
    statistics.

    x: (batch, height, width, channels) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * gamma + beta. Computed in float32 at least.
    initial_scale: the initial value of gamma.
    Raises ValueError in training with n = 1. Where n is not known before the graph runs, n = 1
        makes the statistics NaN.

    division: how the batch is divided over devices, None for one device; see `shards.divided`.

    As in Keras, a layer that is not trainable is in evaluation. Not
    keras.layers.BatchNormalization: it keeps the biased variance and computes x * scale + shift,
    multiplied out.
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
        self.arguments = {
            "channels": channels,
            "eps": eps,
            "decay": decay,
            "initial_scale": initial_scale,
        }
        # Not keras.backend.result_type: on JAX it makes float32 of float64, even with 64 bits
        # enabled.
        statistics = "float64" if self.variable_dtype == "float64" else "float32"
        self.eps = eps
        self.decay = decay
        self.division: Division | None = None
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
        check_dtype(self.moving_mean)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        x = ops.cast(x, self.moving_mean.dtype)
        if not (training and self.trainable):
            centred = x - ops.convert_to_tensor(self.moving_mean)
            variance = ops.convert_to_tensor(self.moving_variance)
        elif self.division is not None:
            moments = batch_moments(x, self.division)
            centred, variance = x - moments.mean, moments.variance
            self._update(moments.running_mean, moments.running_variance)
        else:
            check_batch(x)
            over = [axes.BATCH, axes.ROWS, axes.COLS]
            mean = average(x, over)
            centred = x - mean
            variance = average(ops.square(centred), over)  # two passes: exact for large means
            unbiased = unbias_variance(ops.squeeze(variance, over), _count_values(x))
            self._update(ops.squeeze(mean, over), unbiased)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        y = centred * (gamma / ops.sqrt(variance + self.eps)) + beta
        return ops.cast(y, self.compute_dtype)

    def _update(self, mean: ChannelVector, variance: ChannelVector) -> None:
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        # As tensors: on PyTorch a number times a float64 Keras variable is float32.
        running_mean = ops.convert_to_tensor(self.moving_mean)
        running_variance = ops.convert_to_tensor(self.moving_variance)
        self.moving_mean.assign(self.decay * running_mean + (1 - self.decay) * mean)
        self.moving_variance.assign(self.decay * running_variance + (1 - self.decay) * variance)


def unbias_variance(variance: ChannelVector, n: Any) -> ChannelVector:
    """variance * n / (n - 1): divided by n - 1 instead of n.

    PyTorch keeps the unbiased variance, Flax and Keras the biased one.
    """
    return variance * (n / (n - 1))


def _count_values(x: Maps) -> Any:
    """batch * height * width. A tensor where a size is not known before the graph runs."""
    channels = x.shape[axes.CHANNELS]
    if None in x.shape:
        return ops.cast(ops.size(x), x.dtype) / channels
    return math.prod(x.shape) // channels


@stage
@keras.saving.register_keras_serializable("resattn")
class GroupNorm(keras.layers.Layer):
    """Group normalization over the positions and channels of each group (Wu & He 2018, equations 1,
    2 and 7).

    x: (batch, height, width, channels) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * gamma + beta, with the mean and the biased variance of the group.
        Computed in float32 at least.
    initial_scale: the initial value of gamma.

    Not keras.layers.GroupNormalization: it computes x * scale + shift, multiplied out.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        eps: float = 1e-5,
        initial_scale: float = 1,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, autocast=False, **keras_options)
        self.arguments = {
            "channels": channels,
            "groups": groups,
            "eps": eps,
            "initial_scale": initial_scale,
        }
        self.groups = groups
        self.eps = eps
        start = keras.initializers.Constant(initial_scale)
        self.gamma = self.add_weight(shape=(channels,), initializer=start, name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.built = True
        check_dtype(self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        x = widen(x)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        *sizes, channels = ops.shape(x)
        grouped = ops.reshape(x, (*sizes, self.groups, channels // self.groups))
        over = [axes.ROWS, axes.COLS, axes.CHANNELS + 1]  # channels are two axes now
        centred = grouped - average(grouped, over)
        variance = average(ops.square(centred), over)  # two passes: exact for large means
        y = ops.reshape(centred / ops.sqrt(variance + self.eps), (*sizes, channels))
        return ops.cast(y * gamma + beta, self.compute_dtype)


def make_batch_norm(
    channels: int,
    eps: float,
    decay: float,
    folded: bool,
    initial_scale: float = 1,
    *,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """A batch norm; nothing where it is folded into the convolution before it."""
    options: dict[str, Any] = {"dtype": dtype, "name": name, **keras_options}
    if folded:
        return Sequential(**options)
    return BatchNorm(channels, eps, decay, initial_scale, **options)


def make_norm(
    config: Config,
    channels: int,
    initial_scale: float = 1,
    *,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """The norm that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, "name": name, **keras_options}
    if config.norm == "group":
        return GroupNorm(channels, config.norm_groups, config.bn_eps, initial_scale, **options)
    folded = config.norm == "folded"
    return make_batch_norm(
        channels, config.bn_eps, config.bn_decay, folded, initial_scale, **options
    )


@stage
@keras.saving.register_keras_serializable("resattn")
class LayerNorm(keras.layers.Layer):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, height, width, channels) -> the same shape: (x - mean) / sqrt(variance + eps) *
        gamma + beta, with the mean and the biased variance of the channels.

    Not keras.layers.LayerNormalization: it computes x * scale + shift, multiplied out.
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
        self.arguments = {"channels": channels, "eps": eps}
        self.eps = eps
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.built = True
        check_dtype(self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        x = widen(x)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        centred = x - average(x, [axes.CHANNELS])
        variance = average(ops.square(centred), [axes.CHANNELS])
        return ops.cast(centred / ops.sqrt(variance + self.eps) * gamma + beta, self.compute_dtype)
