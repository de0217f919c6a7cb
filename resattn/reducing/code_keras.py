"""Operations in plain Keras. Its TensorFlow backend has convolutions and poolings on CPU with
channels last alone.
"""

from __future__ import annotations

from collections.abc import Callable

from resattn.reducing.code_jax import write_standardised
from resattn.reducing.code_torch import kernel_margins, pool_margins, reduced_axes
from resattn.tracing.computation import Inputs, Margins, StageSpec


def _channels_last(x: str) -> str:
    return f"ops.transpose({x}, (0, 2, 3, 1))"


def _channels_first(y: str) -> str:
    return f"ops.transpose({y}, (0, 3, 1, 2))"


def _padded(margins: Margins, value: str = "") -> str:
    rows, cols = margins
    if not any((*rows, *cols)):
        return "x"
    return f"ops.pad(x, ((0, 0), (0, 0), {rows}, {cols}){value})"


def _convolution(spec: StageSpec, inputs: Inputs) -> str | None:
    if (spec["groups"] or 1) != 1:
        return None
    x = _channels_last(_padded(kernel_margins(spec, inputs)))
    weight = "ops.transpose(weight, (2, 3, 1, 0))"
    apart = f", dilation_rate={spec['dilation']}" if (spec["dilation"] or 1) != 1 else ""
    last = 'data_format="channels_last"'
    conv = f'ops.conv({x}, {weight}, {spec["stride"]}, "valid", {last}{apart})'
    bias = " + bias[:, None, None]" if "bias" in spec.parameters else ""
    return _channels_first(conv) + bias


def _batch_norm(spec: StageSpec, inputs: Inputs) -> str:
    mean, variance = "running_mean", "running_var"
    if spec["training"]:
        mean, variance = "ops.mean(x, (0, 2, 3))", "ops.var(x, (0, 2, 3))"
    eps = spec["eps"]
    return f"ops.batch_normalization(x, {mean}, {variance}, 1, bias, weight, epsilon={eps})"


def _pad(spec: StageSpec, inputs: Inputs) -> str:
    (top, left), (bottom, right) = spec["before"], spec["after"]
    return f"ops.pad(x, ((0, 0), (0, 0), ({top}, {bottom}), ({left}, {right})))"


def _max_pool(spec: StageSpec, inputs: Inputs) -> str:
    padded = _padded(pool_margins(spec, inputs), ', constant_values=float("-inf")')
    last = 'data_format="channels_last"'
    x = _channels_last(padded)
    pooled = f'ops.max_pool({x}, {spec["kernel"]}, {spec["stride"]}, "valid", {last})'
    return _channels_first(pooled)


KERAS: dict[str, Callable[[StageSpec, Inputs], str | None]] = {
    "convolution": _convolution,
    "linear": lambda spec, inputs: "x @ ops.transpose(weight) + bias",
    "batch_norm": _batch_norm,
    "layer_norm": lambda spec, inputs: write_standardised(
        "ops", "ops.mean(x, 1, keepdims=True)", "ops.var(x, 1, keepdims=True)", spec["eps"]
    ),
    "pad": _pad,
    "flatten": lambda spec, inputs: "ops.reshape(x, (len(x), -1))",
    "relu": lambda spec, inputs: "ops.relu(x)",
    "sigmoid": lambda spec, inputs: "ops.sigmoid(x)",
    "hard_sigmoid": lambda spec, inputs: "ops.hard_sigmoid(x)",
    "hard_swish": lambda spec, inputs: "ops.hard_silu(x)",
    "sum": lambda spec, inputs: "x + y",
    "product": lambda spec, inputs: "x * gate",
    "max_pool": _max_pool,
    "average": lambda spec, inputs: f"ops.mean(x, {reduced_axes(spec)}, keepdims=True)",
    "maximum": lambda spec, inputs: f"ops.max(x, {reduced_axes(spec)}, keepdims=True)",
}
