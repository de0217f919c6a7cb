"""Operations in plain JAX, channels first."""

from __future__ import annotations

from collections.abc import Callable

from resattn.reducing.code_torch import kernel_margins, pool_margins, reduced_axes
from resattn.tracing.computation import Inputs, StageSpec

_SIDES = "[:, None, None]"


def _convolution(spec: StageSpec, inputs: Inputs) -> str:
    margins = kernel_margins(spec, inputs)
    text = f"jax.lax.conv_general_dilated(x, weight, {spec['stride']}, {margins}"
    if (spec["dilation"] or 1) != 1:
        text += f", rhs_dilation=({spec['dilation']}, {spec['dilation']})"
    if (spec["groups"] or 1) != 1:
        text += f", feature_group_count={spec['groups']}"
    return f"{text})" + (f" + bias{_SIDES}" if "bias" in spec.parameters else "")


def _batch_norm(spec: StageSpec, inputs: Inputs) -> str:
    mean, variance = f"running_mean{_SIDES}", f"running_var{_SIDES}"
    if spec["training"]:
        mean, variance = (f"x.{name}((0, 2, 3), keepdims=True)" for name in ("mean", "var"))
    return write_standardised("jnp", mean, variance, spec["eps"])


def write_standardised(numpy: str, mean: str, variance: str, eps: float) -> str:
    """(x - mean) / deviation * weight + bias. numpy: what has the square root."""
    root = f"{numpy}.sqrt({variance} + {eps})"
    return f"(x - {mean}) / {root} * weight{_SIDES} + bias{_SIDES}"


def _pad(spec: StageSpec, inputs: Inputs) -> str:
    (top, left), (bottom, right) = spec["before"], spec["after"]
    return f"jnp.pad(x, ((0, 0), (0, 0), ({top}, {bottom}), ({left}, {right})))"


def _max_pool(spec: StageSpec, inputs: Inputs) -> str:
    kernel, stride = (1, 1, *spec["kernel"]), (1, 1, *spec["stride"])
    margins = ((0, 0), (0, 0), *pool_margins(spec, inputs))
    return f"jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, {kernel}, {stride}, {margins})"


JAX: dict[str, Callable[[StageSpec, Inputs], str | None]] = {
    "convolution": _convolution,
    "linear": lambda spec, inputs: "x @ weight.T + bias",
    "batch_norm": _batch_norm,
    "layer_norm": lambda spec, inputs: write_standardised(
        "jnp", "x.mean(1, keepdims=True)", "x.var(1, keepdims=True)", spec["eps"]
    ),
    "pad": _pad,
    "flatten": lambda spec, inputs: "x.reshape(len(x), -1)",
    "relu": lambda spec, inputs: "jax.nn.relu(x)",
    "sigmoid": lambda spec, inputs: "jax.nn.sigmoid(x)",
    "hard_sigmoid": lambda spec, inputs: "jax.nn.hard_sigmoid(x)",
    "hard_swish": lambda spec, inputs: "jax.nn.hard_swish(x)",
    "sum": lambda spec, inputs: "x + y",
    "product": lambda spec, inputs: "x * gate",
    "max_pool": _max_pool,
    "average": lambda spec, inputs: f"x.mean({reduced_axes(spec)}, keepdims=True)",
    "maximum": lambda spec, inputs: f"x.max({reduced_axes(spec)}, keepdims=True)",
}
