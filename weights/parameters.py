"""Parameters: canonical name, axes, shape, and what each does in its layer."""

from dataclasses import dataclass

from weights.errors import ArgumentError


@dataclass(frozen=True)
class Role:
    """What a parameter does in its layer.

    leaf: the last part of its canonical (PyTorch's) name. axes: their names in canonical order.
    """

    leaf: str
    axes: str
    trainable: bool = True


ROLES = {
    "convolution kernel": Role("weight", "out in row col"),
    "convolution bias": Role("bias", "out"),
    "1-d convolution kernel": Role("weight", "out in position"),
    "depthwise kernel": Role("weight", "out in row col"),
    "linear kernel": Role("weight", "out in"),
    "linear bias": Role("bias", "out"),
    "norm scale": Role("weight", "channel"),
    "norm offset": Role("bias", "channel"),
    "norm mean": Role("running_mean", "channel", trainable=False),
    "norm variance": Role("running_var", "channel", trainable=False),
    "row offsets": Role("height_rel", "offset feature"),
    "column offsets": Role("width_rel", "offset feature"),
}


@dataclass(frozen=True)
class Parameter:
    """One array of a model: `module` and the role's leaf make its canonical name; `shape` is in
    canonical axis order.

    module: the dotted path of the layer that holds it, "" for what the module itself holds.
    Raises ArgumentError for a role that `ROLES` does not have, and for a shape that is not one size
    for each axis.
    """

    module: str
    role: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ArgumentError(
                f"role: expected one of {', '.join(ROLES)}, got {self.role!r}; for one of your own "
                "call weights.register_role"
            )
        axes = ROLES[self.role].axes.split()
        if (
            not isinstance(self.shape, tuple)
            or len(self.shape) != len(axes)
            or not all(size > 0 for size in self.shape)
        ):
            raise ArgumentError(
                f"shape: expected {len(axes)} positive sizes ({' '.join(axes)}), got {self.shape!r}"
            )

    @property
    def leaf(self) -> str:
        return ROLES[self.role].leaf

    @property
    def name(self) -> str:
        return f"{self.module}.{self.leaf}".lstrip(".")

    @property
    def axes(self) -> str:
        return ROLES[self.role].axes

    @property
    def trainable(self) -> bool:
        return ROLES[self.role].trainable


Parameters = tuple[Parameter, ...]


def convolution(
    module: str,
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int] = (1, 1),
    bias: bool = True,
    groups: int = 1,
) -> Parameters:
    """groups: of channels that are kept apart; the kernel's "in" axis is that of one group."""
    shape = (out_channels, in_channels // groups, *kernel_size)
    kernel = Parameter(module, "convolution kernel", shape)
    return (kernel, Parameter(module, "convolution bias", (out_channels,))) if bias else (kernel,)


def depthwise(
    module: str, channels: int, kernel_size: tuple[int, int], bias: bool = False
) -> Parameters:
    """A convolution of each channel by itself."""
    kernel = Parameter(module, "depthwise kernel", (channels, 1, *kernel_size))
    return (kernel, Parameter(module, "convolution bias", (channels,))) if bias else (kernel,)


def linear(module: str, in_features: int, out_features: int) -> Parameters:
    return (
        Parameter(module, "linear kernel", (out_features, in_features)),
        Parameter(module, "linear bias", (out_features,)),
    )


def batch_norm(module: str, channels: int, folded: bool = False) -> Parameters:
    """folded: whether it is part of the convolution before it, and has no parameters itself."""
    if folded:
        return ()
    return tuple(
        Parameter(module, role, (channels,))
        for role in ("norm scale", "norm offset", "norm mean", "norm variance")
    )


def layer_norm(module: str, channels: int) -> Parameters:
    """Those of a group norm, too."""
    return tuple(Parameter(module, role, (channels,)) for role in ("norm scale", "norm offset"))


def within(module: str, parameters: Parameters) -> Parameters:
    """The same parameters, seen from the module that holds them under the name `module`."""
    return tuple(
        Parameter(f"{module}.{parameter.module}".rstrip("."), parameter.role, parameter.shape)
        for parameter in parameters
    )
