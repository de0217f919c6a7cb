"""What an attention kind is, the table of kinds, and how a kind of your own gets into it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.checks import at_least, list_names, plain, quote
from weights.errors import ArgumentError
from weights.operations import Builder
from weights.parameters import Parameter, Parameters


@dataclass(frozen=True)
class Start:
    """How a module begins that is attached to a trained network: its output is its input divided by
    `factor`, whatever the input.

    zero: its layers whose weights and biases begin at 0. factor: what the norm before it must be
        multiplied by, so that the output of the block does not change.
    exact: whether nothing is rounded, in any binary format; it takes a power of 2 for that.
    relus: layers between the input, or its averages, and a relu; they begin with outputs of about
        1, over 0 at the average input.
    logits: layers between the input and a softmax, and the deviation those begin with.
    biases: of layers that begin with another than 0, its value.
    """

    zero: tuple[str, ...]
    factor: float = 1
    exact: bool = True
    relus: tuple[str, ...] = ()
    logits: tuple[tuple[str, float], ...] = ()
    biases: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Kind:
    """An attention kind.

    title: its name in words. source: author, year, title. summary: what it does, in one sentence.
    parameters: (channels, **options) -> its parameters, named from the module itself; ArgumentError
        for options that make no module.
    graph: (builder, x, **options) -> what it computes of the map x, see `weights.operations`; None
        for a kind of your own.
    check: (rows, cols, **options) raises ArgumentError for maps that it cannot use.
    reduction: channels / hidden width where nobody says, and the fewest hidden channels.
    start: (channels, **options) -> how it begins in a trained network, see `weights.attach`;
        ArgumentError for options with which it cannot begin so. refusal: why it never can.
    modules: of a kind of your own, by framework, see `register_attention`.
    """

    title: str
    source: str
    summary: str
    parameters: Callable[..., Parameters]
    graph: Callable[..., str] | None = None
    check: Callable[..., None] | None = None
    reduction: tuple[int, int] = (16, 1)
    start: Callable[..., Start] | None = None
    refusal: str = "it does not say how it begins without changing the output"
    modules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def built_in(self) -> bool:
        """Whether it is one of ours."""
        return not self.modules

    @property
    def options(self) -> dict[str, Any]:
        """The names of the options, with their defaults; inspect.Parameter.empty where one must be
        given.
        """
        arguments = list(inspect.signature(self.parameters).parameters.values())[1:]
        return {argument.name: argument.default for argument in arguments}

    @property
    def explanation(self) -> str:
        """What the options mean, and what else there is to know."""
        return inspect.cleandoc(self.parameters.__doc__ or "")

    def build(self, builder: Builder, x: str, options: Mapping[str, Any]) -> str:
        """Adds what it computes of the map x; options that are not given have their defaults."""
        assert self.graph is not None
        return self.graph(builder, x, **{**self.options, **options})

    def check_map(self, rows: int, cols: int, options: Mapping[str, Any]) -> None:
        """Raises ArgumentError for maps that it cannot use."""
        if self.check is not None:
            self.check(rows, cols, **{**self.options, **options})


ATTENTION: dict[str, Kind] = {}


_QUOTES = "'\""


def hidden_width(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    divisor: int = 1,
    minimum: int | None = None,
    *,
    kind: str = "se",
) -> int:
    """The width between the two layers of a bottleneck.

    hidden_channels: the width itself. reduction: the width is channels // reduction; or, with a
    divisor, the multiple of it nearest to channels / reduction (halves go up), at least the
    divisor, as in timm for divisors over 1 (with 1 timm rounds to the nearest number; for that give
    hidden_channels). minimum: never fewer than that.
    kind: whose reduction to take where neither is given; the width is then at least what that kind
    needs, so that any number of channels works.
    Raises ArgumentError when both are given, when a value is not a positive integer, and when
    `reduction` leaves fewer than the kind needs.
    """
    default, least = ATTENTION[kind].reduction
    if hidden_channels is not None and reduction is not None:
        raise ArgumentError(
            f"reduction={reduction} and hidden_channels={hidden_channels}: both set the hidden "
            "width; give only one"
        )
    divisor = at_least("divisor", divisor, 1)
    floor = None if minimum is None else at_least("minimum", minimum, least)
    if hidden_channels is not None:
        return at_least("hidden_channels", hidden_channels, least)
    ratio = default if reduction is None else at_least("reduction", reduction, 1)
    if divisor == 1:
        width = max(channels // ratio, floor or 0)
    else:
        width = max(
            (2 * channels + divisor * ratio) // (2 * divisor * ratio) * divisor, divisor, floor or 0
        )
    if width >= least:
        return width
    if reduction is None:
        return least
    left = "no hidden channel" if width == 0 else f"{width} hidden channel"
    rule = "" if least == 1 else f", and this kind needs at least {least}"
    raise ArgumentError(
        f"reduction: {reduction} leaves {left} of {channels}{rule}; use at most "
        f"{max(1, channels // least)}, or give hidden_channels"
    )


def plain_options(options: object) -> dict[str, Any]:
    """Options in Python's own types. Raises ArgumentError for what is not a mapping of names to
    what JSON can hold.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ArgumentError(
            f"attention_options: expected a mapping of option names to values, got {quote(options)}"
        )
    return {
        name: plain(f"attention_options: {quote(name).strip(_QUOTES)}", value)
        for name, value in options.items()
    }


def attention_parameters(kind: str, channels: int, options: Mapping[str, object]) -> Parameters:
    """The parameters of an attention module, named from the module itself.

    Raises ArgumentError for a kind that does not exist, an option the kind does not have, one that
    is missing, or a value it cannot use.
    """
    if not isinstance(kind, str) or kind not in ATTENTION:
        raise ArgumentError(
            f"attention: expected one of {', '.join(ATTENTION)}, got {quote(kind)}; a kind of your "
            "own must be registered first, with weights.register_attention"
        )
    channels, options = at_least("channels", channels, 1), plain_options(options)
    known = ATTENTION[kind].options
    unknown = set(options) - set(known)
    if unknown:
        raise ArgumentError(
            f"attention_options: {kind!r} has no {list_names(unknown)}; its options are: "
            f"{', '.join(known) or 'none at all'}"
        )
    missing = [
        name
        for name, default in known.items()
        if default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise ArgumentError(
            f"attention_options: {kind!r} needs {', '.join(missing)}; as in "
            f"attention_options={{{missing[0]!r}: ...}}"
        )
    try:
        parameters = ATTENTION[kind].parameters(channels, **options)
    except ValueError as error:
        if ATTENTION[kind].built_in and not isinstance(error, ArgumentError):
            raise  # a bug of ours
        raise ArgumentError(f"attention_options of {kind!r}: {error}") from None
    if ATTENTION[kind].built_in:
        return parameters
    if not isinstance(parameters, tuple) or not all(
        isinstance(parameter, Parameter) for parameter in parameters
    ):
        raise ArgumentError(
            f"attention {kind!r}: its schema must be a tuple of weights.parameters.Parameter, got "
            f"{parameters!r}; the functions there make them"
        )
    names = [parameter.name for parameter in parameters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(
            f"attention {kind!r}: its schema names {', '.join(twice)} more than once"
        )
    return parameters


def _no_parameters(channels: int) -> Parameters:
    return ()


def register_attention(
    kind: str,
    parameters: Callable[..., Parameters] = _no_parameters,
    *,
    torch: Any = None,
    jax: Any = None,
    tf: Any = None,
    graph: Callable[..., str] | None = None,
    source: str = "",
    summary: str = "",
) -> None:
    """Makes an attention module of your own a kind that the whole project knows: blocks, networks,
    conversion, cross-check, explanations and pictures.

    kind: its name; registering it again replaces it.
    parameters: (channels, **options) -> its parameters, in the order of execution, named as its
        attributes, made by the functions of `weights.parameters`; without it, none.
    torch, jax, tf: its implementations, for as many frameworks as there are. They take the same
        arguments as ours: (channels, **options, dtype=, device=) -> torch.nn.Module, (..., dtype=,
        rngs=) -> nnx.Module, (..., dtype=, trainable=, name=) -> keras.layers.Layer. They map
        (batch, channels, height, width), in Flax and Keras (batch, height, width, channels), to the
        same shape, and always to the same values: no dropout. They create their arrays in the
        constructor, use all of them, and have those of `parameters` and no others; PyTorch's
        buffers that are not persistent do not count.
    graph: (builder, x, **options) -> the name of the output: what it computes, in the operations of
        `weights.operations`. Without it the first implementation, in float64, stands in for the
        oracle, and reports say so.
    Raises ArgumentError for the name of a built-in kind, when there is no implementation, and for
    arguments that cannot be called.
    """
    if not isinstance(kind, str) or not kind or (kind in ATTENTION and ATTENTION[kind].built_in):
        raise ArgumentError(
            f"kind: expected a name that no built-in kind has, got {kind!r}; those have "
            f"{', '.join(ATTENTION)}"
        )
    modules = {
        name: module
        for name, module in (("torch", torch), ("jax", jax), ("tf", tf))
        if module is not None
    }
    if not modules:
        raise ArgumentError(
            f"{kind}: expected an implementation for at least one framework (torch=, jax=, tf=), "
            "got none"
        )
    called = {"parameters": parameters, **modules, **({} if graph is None else {"graph": graph})}
    for name, value in called.items():
        if not callable(value):
            raise ArgumentError(
                f"{kind}: expected {name} to be a class or a function, got {value!r}"
            )
    arguments = list(inspect.signature(parameters).parameters.values())
    if not arguments or any(
        argument.kind is not argument.POSITIONAL_OR_KEYWORD for argument in arguments[1:]
    ):
        raise ArgumentError(
            f"{kind}: expected parameters to take the channels and each option by name, as in "
            f"(channels, size=3), got {inspect.signature(parameters)}"
        )
    ATTENTION[kind] = Kind(kind, source, summary, parameters, graph, modules=modules)


def registered_module(kind: str, framework: str) -> Any:
    """The implementation that a kind was registered with. Raises ArgumentError when there is none
    for that framework.
    """
    modules = ATTENTION[kind].modules
    if framework not in modules:
        raise ArgumentError(
            f"attention {kind!r} was registered for {', '.join(modules)}, not for {framework}; "
            f"pass {framework}= to weights.register_attention"
        )
    return modules[framework]
