"""The attention kinds: for each, its options (its function's keyword arguments, with defaults) and its parameters.

A kind is one function here, one class of the same options in each `*_impl/attention.py`, and one oracle in
`shared_tests/reference.py`. The function raises ValueError for options that make no module.
"""

import inspect
from collections.abc import Callable, Mapping

from weights.parameters import Parameters, convolution


def hidden_width(channels: int, reduction: int | None = None, hidden_channels: int | None = None) -> int:
    """The width between the two layers of squeeze-and-excitation: `hidden_channels`, or channels // reduction, at least 1.

    reduction: 16 where neither is given (Hu et al. 2018, section 3.4).
    Raises ValueError when both are given or either is not a positive integer.
    """
    if hidden_channels is not None and reduction is not None:
        raise ValueError(
            f"reduction={reduction} and hidden_channels={hidden_channels}: both set the hidden width; give only one"
        )
    for name, value in (("reduction", reduction), ("hidden_channels", hidden_channels)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    if hidden_channels is not None:
        return hidden_channels
    return max(1, channels // (16 if reduction is None else reduction))


def none(channels: int) -> Parameters:
    return ()


def squeeze_excite(channels: int, reduction: int | None = None, hidden_channels: int | None = None) -> Parameters:
    hidden = hidden_width(channels, reduction, hidden_channels)
    return (*convolution("fc1", channels, hidden), *convolution("fc2", hidden, channels))


ATTENTION: dict[str, Callable[..., Parameters]] = {"none": none, "se": squeeze_excite}


def attention_parameters(kind: str, channels: int, options: Mapping[str, object]) -> Parameters:
    """The parameters of an attention module, named from the module itself.

    Raises ValueError for a kind that does not exist, an option the kind does not have, or a value it cannot use.
    """
    if not isinstance(kind, str) or kind not in ATTENTION:
        raise ValueError(f"attention: expected one of {', '.join(sorted(ATTENTION))}, got {kind!r}")
    known = list(inspect.signature(ATTENTION[kind]).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"attention_options: {kind!r} has no {', '.join(map(repr, unknown))}; its options are: "
            f"{', '.join(known) or 'none at all'}"
        )
    try:
        return ATTENTION[kind](channels, **options)
    except ValueError as error:
        raise ValueError(f"attention_options of {kind!r}: {error}") from None
