"""Per framework: where it keeps each parameter and in which axis order. Data; the only place that
knows axis orders.
"""

from dataclasses import dataclass, field

from weights.parameters import ROLES, Parameter, Role


@dataclass(frozen=True)
class Layout:
    """How a framework holds the parameters of the schema.

    label: the framework's name in messages. package: our implementation in it. modules: the
    top-level modules its classes come from. leaves: for each role, its leaf name and the order of
    its axes. sequence: the attribute in which its sequential container keeps its items ("" where
    items are attributes named by their number). unread: leaves that the framework adds and no
    computation of ours reads.
    """

    label: str
    package: str
    modules: tuple[str, ...]
    sequence: str
    leaves: dict[str, tuple[str, str]] = field(hash=False)
    unread: tuple[str, ...] = ()

    def name(self, parameter: Parameter) -> str:
        """The dotted path of attributes at which the framework holds the parameter."""
        parts: list[str] = []
        for part in parameter.module.split("."):
            parts += [self.sequence, part] if part.isdigit() and self.sequence else [part]
        return ".".join([*parts, self.leaves[parameter.role][0]])

    def axes(self, parameter: Parameter) -> str:
        return self.leaves[parameter.role][1]


LAYOUTS = {
    "torch": Layout(
        label="PyTorch",
        package="pytorch_impl",
        modules=("torch", "pytorch_impl"),
        sequence="",
        leaves={
            "convolution kernel": ("weight", "out in row col"),
            "convolution bias": ("bias", "out"),
            "1-d convolution kernel": ("weight", "out in position"),
            "depthwise kernel": ("weight", "out in row col"),
            "linear kernel": ("weight", "out in"),
            "linear bias": ("bias", "out"),
            "norm scale": ("weight", "channel"),
            "norm offset": ("bias", "channel"),
            "norm mean": ("running_mean", "channel"),
            "norm variance": ("running_var", "channel"),
            "row offsets": ("height_rel", "offset feature"),
            "column offsets": ("width_rel", "offset feature"),
        },
        # Counts training steps for momentum=None, a cumulative average; with a fixed decay nothing
        # reads it.
        unread=("num_batches_tracked",),
    ),
    "jax": Layout(
        label="Flax NNX",
        package="jax_impl",
        modules=("flax", "jax_impl"),
        sequence="layers",
        leaves={
            "convolution kernel": ("kernel", "row col in out"),
            "convolution bias": ("bias", "out"),
            "1-d convolution kernel": ("kernel", "position in out"),
            "depthwise kernel": ("kernel", "row col in out"),
            "linear kernel": ("kernel", "in out"),
            "linear bias": ("bias", "out"),
            "norm scale": ("scale", "channel"),
            "norm offset": ("bias", "channel"),
            "norm mean": ("mean", "channel"),
            "norm variance": ("var", "channel"),
            "row offsets": ("height_rel", "offset feature"),
            "column offsets": ("width_rel", "offset feature"),
        },
    ),
    "tf": Layout(
        label="Keras",
        package="tf_impl",
        modules=("keras", "tf_impl"),
        sequence="layers",
        leaves={
            "convolution kernel": ("kernel", "row col in out"),
            "convolution bias": ("bias", "out"),
            "1-d convolution kernel": ("kernel", "position in out"),
            "depthwise kernel": ("kernel", "row col out in"),
            "linear kernel": ("kernel", "in out"),
            "linear bias": ("bias", "out"),
            "norm scale": ("gamma", "channel"),
            "norm offset": ("beta", "channel"),
            "norm mean": ("moving_mean", "channel"),
            "norm variance": ("moving_variance", "channel"),
            "row offsets": ("height_rel", "offset feature"),
            "column offsets": ("width_rel", "offset feature"),
        },
    ),
}


def register_role(
    role: str,
    leaf: str,
    axes: str,
    *,
    trainable: bool = True,
    jax: tuple[str, str] | None = None,
    tf: tuple[str, str] | None = None,
) -> None:
    """A role for parameters of your own: canonical (PyTorch's) leaf name and axes, as in ("gamma",
    "channel").

    jax, tf: leaf name and axis order in Flax and Keras where they differ. Registering it again
        replaces it.
    Raises ValueError for a role of ours, and for axes that are not the same ones.
    """
    if role in _BUILT_IN:
        raise ValueError(
            f"role: expected a name that no built-in role has, got {role!r}; those have "
            f"{', '.join(_BUILT_IN)}"
        )
    for framework, named in (("jax", jax), ("tf", tf)):
        if named is not None and not (isinstance(named, tuple) and len(named) == 2):
            raise ValueError(
                f"{framework}: expected a leaf name and axes, as in ('kernel', 'in out'), got "
                f"{named!r}"
            )
    held = {"torch": (leaf, axes), "jax": jax or (leaf, axes), "tf": tf or (leaf, axes)}
    for framework, (_, order) in held.items():
        if sorted(order.split()) != sorted(axes.split()):
            raise ValueError(
                f"{framework}: expected the axes {axes!r} in some order, got {order!r}"
            )
    ROLES[role] = Role(leaf, axes, trainable)
    for framework, named in held.items():
        LAYOUTS[framework].leaves[role] = named


_BUILT_IN = tuple(ROLES)
