"""Operations in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

from resattn.tracing.computation import Inputs, StageSpec, find_margins
from weights.operations import AXES


def reduced_axes(spec: StageSpec) -> tuple[int, ...]:
    """The axes of an average or a maximum as numbers, channels first."""
    return tuple(AXES.index(axis) + 1 for axis in spec["axes"])


def kernel_margins(spec: StageSpec, inputs: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a convolution pads before and after the rows and the columns."""
    return find_margins(spec, inputs[0].shape, spec.parameters["weight"].shape[2:])


def pool_margins(spec: StageSpec, inputs: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a pooling pads before and after the rows and the columns."""
    return find_margins(spec, inputs[0].shape, spec["kernel"])


def _convolution(spec: StageSpec, inputs: Inputs) -> str:
    (top, bottom), (left, right) = kernel_margins(spec, inputs)
    x, padding = "x", f"({top}, {left})"
    if (top, left) != (bottom, right):
        x, padding = f"F.pad(x, ({left}, {right}, {top}, {bottom}))", "0"
    bias = "bias" if "bias" in spec.parameters else "None"
    text = f"F.conv2d({x}, weight, {bias}, {spec['stride']}, {padding}"
    for name in ("dilation", "groups"):
        text += f", {name}={spec[name]}" if (spec[name] or 1) != 1 else ""
    return f"{text})"


def _batch_norm(spec: StageSpec, inputs: Inputs) -> str:
    if spec["training"]:
        return f"F.batch_norm(x, None, None, weight, bias, True, eps={spec['eps']})"
    return f"F.batch_norm(x, running_mean, running_var, weight, bias, eps={spec['eps']})"


def _layer_norm(spec: StageSpec, inputs: Inputs) -> str:
    channels = inputs[0].shape[1]
    inner = f"F.layer_norm(x.movedim(1, -1), ({channels},), weight, bias, {spec['eps']})"
    return f"{inner}.movedim(-1, 1)"


def _pad(spec: StageSpec, inputs: Inputs) -> str:
    (top, left), (bottom, right) = spec["before"], spec["after"]
    return f"F.pad(x, ({left}, {right}, {top}, {bottom}))"


def _max_pool(spec: StageSpec, inputs: Inputs) -> str:
    (top, bottom), (left, right) = pool_margins(spec, inputs)
    padded = f"F.pad(x, ({left}, {right}, {top}, {bottom}), value=-torch.inf)"
    return f"F.max_pool2d({padded}, {spec['kernel']}, {spec['stride']})"


TORCH: dict[str, Callable[[StageSpec, Inputs], str | None]] = {
    "convolution": _convolution,
    "linear": lambda spec, inputs: "F.linear(x, weight, bias)",
    "batch_norm": _batch_norm,
    "group_norm": lambda spec, inputs: (
        f"F.group_norm(x, {spec['groups']}, weight, bias, {spec['eps']})"
    ),
    "layer_norm": _layer_norm,
    "pad": _pad,
    "flatten": lambda spec, inputs: "x.flatten(1)",
    "relu": lambda spec, inputs: "F.relu(x)",
    "sigmoid": lambda spec, inputs: "torch.sigmoid(x)",
    "hard_sigmoid": lambda spec, inputs: "F.hardsigmoid(x)",
    "hard_swish": lambda spec, inputs: "F.hardswish(x)",
    "sum": lambda spec, inputs: "x + y",
    "product": lambda spec, inputs: "x * gate",
    "max_pool": _max_pool,
    "average": lambda spec, inputs: f"x.mean({reduced_axes(spec)}, keepdim=True)",
    "maximum": lambda spec, inputs: f"x.amax({reduced_axes(spec)}, keepdim=True)",
}
