"""Which attention kind, with which options, computes what a block has after its last norm."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

from resattn.recognition.drawings import draw_model
from resattn.recognition.keys import LabelOf, exact_label, key_nodes
from resattn.recognition.nodes import KERNEL_OPS, GraphNode
from resattn.recognition.structure import PathParts, class_of
from weights.attention import ATTENTION, attention_parameters
from weights.checks import Pair
from weights.config import BlockConfig
from weights.errors import ArgumentError
from weights.graph import check_size

Chosen = tuple[str, Mapping[str, Any]]  # a kind and its options
Shapes = tuple[tuple[int, ...], ...]
MOST_REDUCTION = 64
_WIDTH_OPTIONS = ("reduction", "hidden_channels", "divisor", "minimum")


@dataclass(frozen=True)
class _Facts:
    """What an attention consists of: the sizes and numbers that options are made from."""

    channels: int
    size: Pair
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    eps: tuple[float, ...]
    lambdas: tuple[float, ...]
    extents: tuple[int, ...]
    heads: tuple[int, ...]


def find_attention(path: PathParts) -> list[Chosen]:
    """Every kind and options that compute it, the plainest first; none if no kind does.

    They compute the same for this number of channels: "reduction 16" and "hidden_channels 4".
    """
    if not path.attention and path.exits == (path.entry,):
        return [("none", {})]
    return list(_search(_gather(path), _shapes(path.attention), path_key(path)))


def find_similar(path: PathParts) -> list[Chosen]:
    """Kinds and options that compute something like it: operations of the same classes, with the
    same kernels, but perhaps other activations, axes or biases.
    """
    return list(_search(_gather(path), _shapes(path.attention), path_key(path, class_of), True))


@lru_cache(maxsize=1024)
def _search(
    facts: _Facts, shapes: Shapes, wanted: tuple[int, ...], similar: bool = False
) -> tuple[Chosen, ...]:
    found: list[Chosen] = []
    if similar:
        shapes = _only_kernels(shapes)
    for kind in ATTENTION:
        if kind == "none" or ATTENTION[kind].graph is None:
            continue
        for options in _candidates(kind, facts):
            held = _parameter_shapes(kind, facts.channels, options)
            if held is None or (_only_kernels(held) if similar else held) != shapes:
                continue
            if _draw_key(kind, facts.channels, facts.size, _frozen(options), similar) == wanted:
                found.append((kind, options))
    return tuple(sorted(found, key=lambda chosen: _plainness(*chosen)))


def _plainness(kind: str, options: Mapping[str, Any]) -> tuple[int, ...]:
    """Fewer options are plainer; then a reduction, which fits every number of channels."""
    order = ("reduction", "divisor", "minimum")
    rest = [name for name in options if name not in order]
    return (len(options), len(rest), [*ATTENTION].index(kind))


def path_key(path: PathParts, label_of: LabelOf = exact_label) -> tuple[int, ...]:
    """A key of what the attention of a path computes, the same for equal ones. label_of: what
    operations are compared by.
    """
    keys = key_nodes((path.entry, *path.attention), path.entry, label_of)
    return tuple(sorted(keys.get(each, 0) for each in path.exits))


def _shapes(nodes: Iterable[GraphNode]) -> Shapes:
    """Of all parameters of nodes, each once, without axes of one entry."""
    held = {name: shape for node in nodes for name, shape in node.shapes.items()}
    return _sort_shapes(held.values())


def _sort_shapes(shapes: Iterable[tuple[int, ...]]) -> Shapes:
    return tuple(sorted(tuple(size for size in shape if size > 1) for shape in shapes))


def _only_kernels(shapes: Shapes) -> Shapes:
    return tuple(shape for shape in shapes if len(shape) > 1)


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


def _parameter_shapes(kind: str, channels: int, options: Mapping[str, Any]) -> Shapes | None:
    try:
        parameters = attention_parameters(kind, channels, options)
    except ArgumentError:
        return None
    return _sort_shapes(each.shape for each in parameters)


@lru_cache(maxsize=1024)
def _draw_key(
    kind: str, channels: int, size: Pair, options: tuple[tuple[str, Any], ...], similar: bool
) -> tuple[int, ...] | None:
    """The key of a kind for maps of one size; None if it cannot use them."""
    label_of = class_of if similar else exact_label
    try:
        config = BlockConfig(
            channels, channels, 1, attention=kind, attention_options=dict(options), conv_bias=False
        )
        check_size(config, size)
        return path_key(draw_model(config, size).parts.blocks[0].main, label_of)
    except ArgumentError:
        return None


# Options


def _candidates(kind: str, facts: _Facts) -> Iterator[dict[str, Any]]:
    """Options that the facts allow, without those that are the default."""
    known = ATTENTION[kind].options
    choices = {
        name: list(_values(name, default, facts))
        for name, default in known.items()
        if name not in _WIDTH_OPTIONS
    }
    for width in _widths(facts) if "hidden_channels" in known else ({},):
        if not set(width) <= set(known):
            continue
        for values in product(*choices.values()):
            options = dict(zip(choices, values, strict=True))
            changed = {name: value for name, value in options.items() if value != known[name]}
            yield {**width, **changed}


def _widths(facts: _Facts) -> Iterator[dict[str, Any]]:
    """How a hidden width is said: by default, by a reduction, or itself."""
    yield {}
    for width in facts.widths:
        reductions = range(1, min(facts.channels, MOST_REDUCTION) + 1)
        fitting = [each for each in reductions if facts.channels // each == width]
        # A power of 2 is more likely to fit the other blocks of a network as well.
        fitting.sort(key=lambda each: (each & (each - 1) != 0, each))
        yield from ({"reduction": each} for each in fitting[:2])
        yield from ({"reduction": each, "divisor": 8} for each in (4, 8, 16))
        yield {"hidden_channels": width}


def _values(name: str, default: Any, facts: _Facts) -> Iterable[Any]:
    """The values that an option may have."""
    choices: dict[str, Iterable[Any]] = {
        "gate": ("sigmoid", "hard_sigmoid"),
        "kernel_size": dict.fromkeys((default, *facts.kernels)),
        "padding": ("zero", "circular"),
        "bias": (True, False),
        "folded": (False, True),
        "fusion": ("sum", "product", "maximum", "add", "scale", "both"),
        "dilation": facts.dilations,
        "bn_eps": facts.eps,
        "ln_eps": facts.eps,
        "gather": ("average", "convolution"),
        "extent": (None, *facts.extents),
        "mlp": (False, True),
        "pooling": ("attention", "average"),
        "e_lambda": facts.lambdas,
        "spatial": (True, False),
        "subsample": (False, True),
        "scale": (False, True),
        "scale_positions": (True, False),
        "heads": facts.heads,
    }
    if name == "size":
        return (facts.size,) if default is inspect.Parameter.empty else (default, facts.size)
    return choices.get(name, () if default is inspect.Parameter.empty else (default,))


def _gather(path: PathParts) -> _Facts:
    nodes, entry = path.attention, path.entry
    kernels = [node for node in nodes if node.op in KERNEL_OPS]
    sides = [side for node in nodes for side in node.facts.get("sides", ())]
    held = [shape for node in nodes if node.op == "linear" for shape in node.shapes.values()]
    return _Facts(
        entry.channels,
        entry.map_size,
        _unique(node.channels for node in kernels),
        _unique(side[0] for side in sides if side[0] % 2),
        _unique(side[4] for side in sides) or (1,),
        _unique(node.facts["eps"] for node in nodes if "eps" in node.facts) or (1e-5,),
        _unique(node.facts["b"] / 4 for node in nodes if node.facts.get("b", 0) > 0) or (1e-4,),
        _extents(nodes),
        _unique(entry.channels // shape[-1] for shape in held if entry.channels >= shape[-1]),
    )


def _extents(nodes: Sequence[GraphNode]) -> tuple[int, ...]:
    """How many pixels a gathered value may stand for: the stride of a pooling, or of all
    convolutions together.
    """
    strides = [side[1] for node in nodes for side in node.facts.get("sides", ())[:1]]
    return _unique(each for each in (*strides, prod(strides)) if each > 1)


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(values)))
