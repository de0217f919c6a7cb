"""The oracle: the block and the network in plain NumPy, forward and backward, from the papers' definitions.

Nothing here comes from a framework. Arrays are (batch, channels, height, width). It computes in float64, or in complex128
where a test differentiates it with complex steps (hence no abs, max or conj on the way of the data).

Every layer is a function (x, ...) -> (y, pullback), where pullback(slope of y) gives the slope of x and puts those of the
parameters into `State.slopes` by canonical name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from weights.config import BlockConfig, Config, NetworkConfig, Pair
from weights.inputs import check_statistics

Array = np.ndarray
Pullback = Callable[[Array], Array]


@dataclass
class State:
    """What a pass through the model reads and leaves behind.

    arrays: parameters and statistics. training: the mode. statistics: the running statistics after the pass.
    slopes: gradients, filled by the pullbacks.
    magnitudes: of the last convolution, the sums of the magnitudes of what its gradients add up.
    scales: those sums for gradients that cancel to zero, since their rounding errors are relative to them.
    margin: how near any relu came to its kink or any maximum to a tie, relative to the tensor's greatest magnitude.
    """

    arrays: Mapping[str, Array]
    training: bool
    decay: float
    eps: float
    statistics: dict[str, Array] = field(default_factory=dict)
    slopes: dict[str, Array] = field(default_factory=dict)
    magnitudes: dict[str, float] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    margin: float = np.inf

    def near(self, distance: Array, x: Array) -> None:
        if distance.size:
            self.margin = min(self.margin, float(distance.min() / (np.abs(x).max() or 1)))


@dataclass(frozen=True)
class Pass:
    """The outcome of one pass of the oracle. gradients: by parameter; both empty if not asked for."""

    output: Array
    statistics: dict[str, Array]
    input_gradient: Array | None
    gradients: dict[str, Array]
    scales: dict[str, float]
    margin: float


def conv2d(state: State, name: str, x: Array, stride: Pair, padding: Pair) -> tuple[Array, Pullback]:
    """y[b, o, r, c] = bias[o] + sum over i, u, v of x[b, i, r stride + u - padding, c stride + v - padding] w[o, i, u, v].

    Cross-correlation with zeros outside of x, as every deep learning library's convolution (Goodfellow et al. 2016, 9.1).
    """
    weight, bias = state.arrays[f"{name}.weight"], state.arrays.get(f"{name}.bias")
    rows, cols = weight.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, cols), axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    y = np.einsum("bircuv,oiuv->borc", windows, weight, optimize=True)
    if bias is not None:
        y = y + bias[:, None, None]

    def pullback(slope: Array) -> Array:
        state.slopes[f"{name}.weight"] = np.einsum("borc,bircuv->oiuv", slope, windows, optimize=True)
        if bias is not None:
            state.slopes[f"{name}.bias"] = slope.sum(axis=(0, 2, 3))
            state.magnitudes[f"{name}.bias"] = float(np.abs(slope).sum(axis=(0, 2, 3)).max())
        if weight[0].size == 1:
            state.magnitudes[f"{name}.weight"] = float(np.abs(slope * windows[..., 0, 0]).sum(axis=(0, 2, 3)).max())
        padded_slope = np.zeros(padded.shape, slope.dtype)
        height, width = slope.shape[2:]
        for u in range(rows):
            for v in range(cols):
                here = np.s_[:, :, u : u + stride[0] * height : stride[0], v : v + stride[1] * width : stride[1]]
                padded_slope[here] += np.einsum("borc,oi->birc", slope, weight[:, :, u, v], optimize=True)
        bottom, right = padded.shape[2] - padding[0], padded.shape[3] - padding[1]
        return padded_slope[:, :, padding[0] : bottom, padding[1] : right]

    return y, pullback


def batch_norm(state: State, name: str, x: Array) -> tuple[Array, Pullback]:
    """Ioffe & Szegedy 2015, algorithm 1; running statistics as in algorithm 2, with the unbiased variance."""
    weight, bias = (state.arrays[f"{name}.{leaf}"][:, None, None] for leaf in ("weight", "bias"))
    running_mean, running_var = (state.arrays[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var"))
    axes = (0, 2, 3)
    n = x.shape[0] * x.shape[2] * x.shape[3]
    if state.training:
        check_statistics(n)
        mean = x.mean(axis=axes)
        variance = ((x - mean[:, None, None]) ** 2).mean(axis=axes)
        keep, new = state.decay, 1 - state.decay
        state.statistics[f"{name}.running_mean"] = keep * running_mean + new * mean
        state.statistics[f"{name}.running_var"] = keep * running_var + new * variance * n / (n - 1)
    else:
        mean, variance = running_mean, running_var
        state.statistics[f"{name}.running_mean"], state.statistics[f"{name}.running_var"] = mean, variance
    deviation = np.sqrt(variance + state.eps)[:, None, None]
    normal = (x - mean[:, None, None]) / deviation
    y = normal * weight + bias

    def pullback(slope: Array) -> Array:
        state.slopes[f"{name}.weight"] = (slope * normal).sum(axis=axes)
        state.slopes[f"{name}.bias"] = slope.sum(axis=axes)
        inner = slope * weight
        if state.training:
            average = inner.mean(axis=axes, keepdims=True)
            along = (inner * normal).mean(axis=axes, keepdims=True)
            inner = inner - average - normal * along
        return inner / deviation

    return y, pullback


def relu(state: State, x: Array) -> tuple[Array, Pullback]:
    """max(x, 0); its slope at 0 is taken as 0."""
    positive = x.real > 0
    state.near(np.abs(x.real[x.real != 0]), x)
    return np.where(positive, x, 0), lambda slope: np.where(positive, slope, 0)


def sigmoid(x: Array) -> tuple[Array, Pullback]:
    """1 / (1 + exp(-x))."""
    y = 1 / (1 + np.exp(-x))
    return y, lambda slope: slope * y * (1 - y)


def global_average(x: Array) -> tuple[Array, Pullback]:
    """The mean over positions, kept as a 1x1 image."""
    y = x.mean(axis=(2, 3), keepdims=True)
    return y, lambda slope: np.broadcast_to(slope / (x.shape[2] * x.shape[3]), x.shape)


def max_pool(state: State, x: Array) -> tuple[Array, Pullback]:
    """The greatest of each 3x3 window, stride 2, padding 1 with -inf; the slope goes to the first greatest."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    flat = windows.reshape(*windows.shape[:4], 9)
    first = flat.real.argmax(axis=-1)[..., None]
    y = np.take_along_axis(flat, first, axis=-1)[..., 0]
    second, greatest = np.sort(flat.real, axis=-1)[..., -2:].transpose(4, 0, 1, 2, 3)
    # Behind a relu, windows of zeros alone are ties that do not matter: the relu lets no slope through there.
    state.near((greatest - second)[greatest > 0], x)

    def pullback(slope: Array) -> Array:
        padded_slope = np.zeros(padded.shape, slope.dtype)
        batch, channel, row, col = np.indices(y.shape)
        np.add.at(padded_slope, (batch, channel, 2 * row + first[..., 0] // 3, 2 * col + first[..., 0] % 3), slope)
        return padded_slope[:, :, 1:-1, 1:-1]

    return y, pullback


def linear(state: State, name: str, x: Array) -> tuple[Array, Pullback]:
    """x w^T + b."""
    weight, bias = state.arrays[f"{name}.weight"], state.arrays[f"{name}.bias"]

    def pullback(slope: Array) -> Array:
        state.slopes[f"{name}.weight"] = slope.T @ x
        state.slopes[f"{name}.bias"] = slope.sum(axis=0)
        return slope @ weight

    return x @ weight.T + bias, pullback


def squeeze_excite(state: State, name: str, x: Array) -> tuple[Array, Pullback]:
    """Hu et al. 2018, section 3: equations 2 (squeeze), 3 (excitation) and 4 (scale)."""
    squeezed, back_average = global_average(x)
    hidden, back_fc1 = conv2d(state, f"{name}.fc1", squeezed, (1, 1), (0, 0))
    active, back_relu = relu(state, hidden)
    logits, back_fc2 = conv2d(state, f"{name}.fc2", active, (1, 1), (0, 0))
    gate, back_sigmoid = sigmoid(logits)

    def pullback(slope: Array) -> Array:
        gate_slope = (slope * x).sum(axis=(2, 3), keepdims=True)
        return slope * gate + back_average(back_fc1(back_relu(back_fc2(back_sigmoid(gate_slope)))))

    return x * gate, pullback


def no_attention(state: State, name: str, x: Array) -> tuple[Array, Pullback]:
    return x, lambda slope: slope


ATTENTION = {"none": no_attention, "se": squeeze_excite}


def normalized_conv(state: State, conv: str, bn: str, x: Array, stride: Pair, padding: Pair) -> tuple[Array, Pullback]:
    """A convolution and the batch norm behind it.

    In training the batch norm takes the mean away, so a bias in front of it changes nothing and its gradient is exactly
    zero; and it divides by the deviation, so where a kernel is one single weight that weight changes nothing but what eps
    does. What a framework returns there is rounding noise, to be judged by the sum of the magnitudes that cancel.
    """
    y, back_conv = conv2d(state, conv, x, stride, padding)
    y, back_bn = batch_norm(state, bn, y)

    def pullback(slope: Array) -> Array:
        state.magnitudes.clear()
        slope = back_conv(back_bn(slope))
        bias = f"{conv}.bias"
        if state.training:
            state.scales |= state.magnitudes
            if bias in state.slopes:
                state.slopes[bias] = np.zeros_like(state.slopes[bias])
        return slope

    return y, pullback


def block(state: State, name: str, config: BlockConfig, x: Array) -> tuple[Array, Pullback]:
    """He et al. 2015, figure 2 and section 3.3, with attention in front of the sum (Hu et al. 2018, figure 3)."""
    y, back_1 = normalized_conv(state, f"{name}conv1", f"{name}bn1", x, config.stride, config.padding)
    y, back_relu_1 = relu(state, y)
    y, back_2 = normalized_conv(state, f"{name}conv2", f"{name}bn2", y, (1, 1), config.padding)
    y, back_attention = ATTENTION[config.attention](state, f"{name}attention", y)
    if config.projects:
        shortcut, back_shortcut = normalized_conv(state, f"{name}shortcut.0", f"{name}shortcut.1", x, config.stride, (0, 0))
    else:
        shortcut, back_shortcut = x, lambda slope: slope
    y, back_relu_2 = relu(state, y + shortcut)

    def pullback(slope: Array) -> Array:
        slope = back_relu_2(slope)
        return back_1(back_relu_1(back_2(back_attention(slope)))) + back_shortcut(slope)

    return y, pullback


def network(state: State, config: NetworkConfig, x: Array) -> tuple[Array, Pullback]:
    """He et al. 2015, table 1 and section 4.2: stem, stages, global average pooling, classifier."""
    padding = (config.stem_kernel_size[0] // 2, config.stem_kernel_size[1] // 2)
    backs = []
    y, back = normalized_conv(state, "stem.conv", "stem.bn", x, config.stem_stride, padding)
    backs.append(back)
    y, back = relu(state, y)
    backs.append(back)
    if config.stem_pool:
        y, back = max_pool(state, y)
        backs.append(back)
    for i, blocks in enumerate(config.stages()):
        for j, block_config in enumerate(blocks):
            y, back = block(state, f"stages.{i}.{j}.", block_config, y)
            backs.append(back)
    y, back_average = global_average(y)
    logits, back_linear = linear(state, "classifier", y[:, :, 0, 0])

    def pullback(slope: Array) -> Array:
        slope = back_average(back_linear(slope)[:, :, None, None])
        for back in reversed(backs):
            slope = back(slope)
        return slope

    return logits, pullback


def run(config: Config, arrays: Mapping[str, Array], x: Array, cotangent: Array | None = None, *, training: bool) -> Pass:
    """One pass of the oracle. arrays: canonical; x: (batch, channels, height, width); all are taken as float64.

    cotangent: the gradients are those of sum(output * cotangent); None if no gradients are wanted.
    """
    wide = {name: array.astype(np.result_type(array, np.float64)) for name, array in arrays.items()}
    state = State(wide, training, config.bn_decay, config.bn_eps)
    x = x.astype(np.result_type(x, np.float64))
    if isinstance(config, BlockConfig):
        output, pullback = block(state, "", config, x)
    else:
        output, pullback = network(state, config, x)
    gradient = None if cotangent is None else pullback(cotangent.astype(np.result_type(cotangent, np.float64)))
    return Pass(output, state.statistics, gradient, state.slopes, state.scales, state.margin)
