"""The frameworks, one row each: names, where parameters are held, in which order their axes are.

Data; the only place that knows axis orders. PyTorch's names and orders are the canonical ones.
"""

from dataclasses import dataclass, field

from weights.errors import ArgumentError
from weights.language import say
from weights.parameters import ROLES, Parameter, Role


@dataclass(frozen=True)
class Framework:
    """What the rest of the project must know of a framework.

    label: its name in messages. package: our implementation in it. install: what pip installs.
    modules: the top-level modules that its classes come from. forward: the method in which a module
        computes.
    leaves: for each role, the name of the leaf and the order of its axes.
    batch_norm: eps and the part of the running statistics that is kept, where nobody says.
    layer_norm: eps of layer and group norms, where nobody says.
    sequence: the attribute in which a sequential container keeps its items; "" where items are
        attributes named by their number.
    unread: leaves that the framework adds and no computation of ours reads.
    """

    label: str
    package: str
    install: str
    modules: tuple[str, ...]
    forward: str
    leaves: dict[str, tuple[str, str]] = field(hash=False)
    batch_norm: tuple[float, float]
    layer_norm: float
    sequence: str = ""
    unread: tuple[str, ...] = ()

    def explain_missing(self, module: str | None) -> str:
        """What to say where it is not installed. module: that was not found."""
        return say(
            "{framework} is not installed ({module} was not found): pip install {install}",
            framework=self.label,
            module=module,
            install=self.install,
        )

    def path(self, parameter: Parameter) -> str:
        """The dotted path of attributes at which the framework holds the parameter."""
        parts: list[str] = []
        for part in parameter.module.split(".") if parameter.module else ():
            parts += [self.sequence, part] if part.isdigit() and self.sequence else [part]
        return ".".join([*parts, self.leaves[parameter.role][0]])

    def axes(self, parameter: Parameter) -> str:
        """The names of the parameter's axes, in the order in which the framework holds them."""
        return self.leaves[parameter.role][1]


_CHANNELS_LAST = {
    "convolution kernel": ("kernel", "row col in out"),
    "convolution bias": ("bias", "out"),
    "1-d convolution kernel": ("kernel", "position in out"),
    "linear kernel": ("kernel", "in out"),
    "linear bias": ("bias", "out"),
    "row offsets": ("height_rel", "offset feature"),
    "column offsets": ("width_rel", "offset feature"),
}

FRAMEWORKS = {
    "torch": Framework(
        label="PyTorch",
        package="pytorch_impl",
        install="torch",
        modules=("torch", "pytorch_impl"),
        forward="forward",
        leaves={name: (role.leaf, role.axes) for name, role in ROLES.items()},
        batch_norm=(1e-5, 0.9),
        layer_norm=1e-5,
        # Counts the steps for a cumulative average; with a fixed decay nothing reads it.
        unread=("num_batches_tracked",),
    ),
    "jax": Framework(
        label="Flax NNX",
        package="jax_impl",
        install="jax flax",
        modules=("flax", "jax_impl"),
        forward="__call__",
        leaves={
            **_CHANNELS_LAST,
            "depthwise kernel": ("kernel", "row col in out"),
            "norm scale": ("scale", "channel"),
            "norm offset": ("bias", "channel"),
            "norm mean": ("mean", "channel"),
            "norm variance": ("var", "channel"),
        },
        batch_norm=(1e-5, 0.99),
        layer_norm=1e-6,
        sequence="layers",
    ),
    "tf": Framework(
        label="Keras",
        package="tf_impl",
        install="keras tensorflow",
        modules=("keras", "tf_impl"),
        forward="call",
        leaves={
            **_CHANNELS_LAST,
            "depthwise kernel": ("kernel", "row col out in"),
            "norm scale": ("gamma", "channel"),
            "norm offset": ("beta", "channel"),
            "norm mean": ("moving_mean", "channel"),
            "norm variance": ("moving_variance", "channel"),
        },
        batch_norm=(1e-3, 0.99),
        layer_norm=1e-3,
        sequence="layers",
    ),
}


# What people call them as well. Every output has the names of `FRAMEWORKS` and the labels.
_ALSO_CALLED = {"pytorch": "torch", "flax": "jax", "keras": "tf", "tensorflow": "tf"}


def framework_key(name: str) -> str:
    """The name in `FRAMEWORKS` of a framework, which may be called "pytorch", "flax", "keras" or
    "tensorflow" as well. Raises ArgumentError for one that is not known.
    """
    found = _ALSO_CALLED.get(name.lower(), name.lower()) if isinstance(name, str) else name
    if found not in FRAMEWORKS:
        raise ArgumentError(
            say(
                "framework: expected one of {known}, got {name!r}",
                known=", ".join(FRAMEWORKS),
                name=name,
            )
        )
    return found


def framework_named(name: str) -> Framework:
    """The row of a framework. Raises ArgumentError for one that is not known."""
    return FRAMEWORKS[framework_key(name)]


def register_role(
    role: str,
    leaf: str,
    axes: str,
    *,
    trainable: bool = True,
    jax: tuple[str, str] | None = None,
    tf: tuple[str, str] | None = None,
) -> None:
    """Adds a role for parameters of your own: canonical leaf and axes, as in ("gamma", "channel").

    jax, tf: leaf name and axis order in Flax and Keras where they differ from PyTorch's.
    Registering a role again replaces it.
    Raises ArgumentError for a role of ours, and for axes that are not the same ones.
    """
    if role in _BUILT_IN:
        raise ArgumentError(
            f"role: expected a name that no built-in role has, got {role!r}; those have "
            f"{', '.join(_BUILT_IN)}"
        )
    for name, given in (("jax", jax), ("tf", tf)):
        if given is not None and not (isinstance(given, tuple) and len(given) == 2):
            raise ArgumentError(
                f"{name}: expected a leaf name and axes, as in ('kernel', 'in out'), got {given!r}"
            )
    held = {"torch": (leaf, axes), "jax": jax or (leaf, axes), "tf": tf or (leaf, axes)}
    for name, (_, order) in held.items():
        if sorted(order.split()) != sorted(axes.split()):
            raise ArgumentError(f"{name}: expected the axes {axes!r} in some order, got {order!r}")
    ROLES[role] = Role(leaf, axes, trainable)
    for name, place in held.items():
        FRAMEWORKS[name].leaves[role] = place


_BUILT_IN = tuple(ROLES)
