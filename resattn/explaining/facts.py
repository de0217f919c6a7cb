"""What a port of one configuration at one size must get right.

Computed from its graph, its schema and the layouts of the frameworks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from resattn.explaining.analysis import biases, margins, window
from resattn.explaining.attention import words_of
from resattn.oracle.cancellation import idle_biases
from weights.attention import ATTENTION, hidden_width
from weights.checks import Pair, pair_of
from weights.config import BlockConfig, BottleneckConfig, NetworkConfig
from weights.frameworks import FRAMEWORKS
from weights.graph import Graph, OperationGraph
from weights.operations import Operation, same_padding
from weights.parameters import ROLES, Parameter
from weights.schema import schema

# The options that decide the hidden width of a kind.
WIDTH_OPTIONS = ("reduction", "hidden_channels", "divisor", "minimum")


@dataclass(frozen=True)
class Fact:
    """One thing that a port must get right.

    key: of its sentence, without "fact.". values: for the sentence. table: the rows below it, the
    heads first.
    """

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[tuple[str, ...], ...] = ()


def facts(found: Graph, batch: int) -> tuple[Fact, ...]:
    """The facts about a graph, in the order in which a port meets them.

    batch: the number of images in a training step.
    """
    makers = (
        _padding,
        _pooling,
        _shortcuts,
        _strides,
        _groups,
        _biases,
        _norms,
        _variance,
        _counts,
        _layer_norms,
        _group_norms,
        _folded_norms,
        _attention,
        _size,
        _layouts,
        _random,
        _always,
    )
    return tuple(fact for maker in makers for fact in maker(found, batch))


def facts_of_operations(found: OperationGraph, batch: int) -> tuple[Fact, ...]:
    """Those of the facts that follow from the operations alone, without a config."""
    makers = (
        _window_padding,
        _groups,
        _eps,
        _counts,
        _layer_norms,
        _group_norms,
        _always,
    )
    return tuple(fact for maker in makers for fact in maker(found, batch))


def _window_padding(found: OperationGraph, batch: int) -> Iterator[Fact]:
    """As `_padding`; where no window is padded, that is said only if none is wider than a pixel."""
    wide = any(max(each.settings.get("kernel", (1,))) > 1 for each in found)
    yield from (fact for fact in _padding(found, batch) if fact.key != "padding.none" or not wide)


def _eps(found: OperationGraph, batch: int) -> Iterator[Fact]:
    groups: dict[float, list[str]] = {}
    for operation in found:
        if operation.kind == "batch_norm":
            groups.setdefault(operation.settings["eps"], []).append(operation.name)
    for eps, names in groups.items():
        yield Fact("norm.eps", {"names": names, "eps": _number(eps), "others": _others(0, eps)})
    if groups:
        yield Fact("variance")


def _paddings(found: OperationGraph) -> Iterator[tuple[Operation, list[Pair], list[Pair]]]:
    """Every operation that pads, its padding and that of SAME, along rows and along columns."""
    for operation in found:
        settings = operation.settings
        if "padding" not in settings or operation.kind == "convolution_1d" or "along" in settings:
            continue
        if _pads_same(found, operation):
            continue
        shape = found[operation.inputs[0]].shape
        ours = [margins(operation, axis) for axis in (1, 2)]
        ceil = operation.kind == "max_pool" and not any(operation.settings["padding"])
        if ceil or any(map(any, ours)):
            windows = [window(operation, axis) for axis in (1, 2)]
            same = [same_padding(shape[axis].size, *windows[axis - 1][:2]) for axis in (1, 2)]
            yield operation, ours, same


def _pads_same(found: OperationGraph, operation: Operation) -> bool:
    """Whether its padding is that of SAME by the config, whatever the size of the image."""
    if operation.kind == "max_pool":
        config = found.config if isinstance(found, Graph) else None
        return isinstance(config, NetworkConfig) and config.stem_pool == "max_same"
    return found[operation.inputs[0]].kind == "pad"


def _padding(found: OperationGraph, batch: int) -> Iterator[Fact]:
    same = [
        each.name
        for each in found
        if each.kind in ("convolution", "max_pool") and _pads_same(found, each)
    ]
    if same:
        yield Fact("padding.same", {"names": same})
    every = list(_paddings(found))
    agreeing = [operation.name for operation, ours, same in every if ours == same]
    differing = [_difference(found, *each) for each in every if each[1] != each[2]]
    if len(differing) == 1:
        yield Fact("padding.one", differing[0])
    elif differing:
        rows = [
            (
                each["name"],
                each["size"],
                each["stride"],
                f"{each['same']} {each['same_cols']}",
                f"{each['ours']} {each['ours_cols']}",
            )
            for each in differing
        ]
        heads = ("head.operation", "head.map", "head.stride", "head.same", "head.ours")
        yield Fact("padding.many", {}, (heads, *rows))
    if agreeing:
        yield Fact("padding.agree" if differing else "padding.agree.all", {"names": agreeing})
    if not every and not same:
        yield Fact("padding.none")


def _difference(
    found: OperationGraph, operation: Operation, ours: list[Pair], same: list[Pair]
) -> dict[str, str]:
    rows, cols = (extent.size for extent in found[operation.inputs[0]].shape[1:])
    sides = {"same": same[0], "same_cols": same[1], "ours": ours[0], "ours_cols": ours[1]}
    stride = _stride(operation)
    return {
        "name": operation.name,
        "size": f"{rows} × {cols}",
        "stride": stride,
        **{key: str(side) for key, side in sides.items()},
    }


def _stride(operation: Operation) -> str:
    return _times((window(operation, 1)[1], window(operation, 2)[1]))


def _times(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} × {pair[1]}"


def _pooling(found: Graph, batch: int) -> Iterator[Fact]:
    pooled = [each for each in found if each.kind == "max_pool"]
    ceil = isinstance(found.config, NetworkConfig) and found.config.stem_pool == "max_ceil"
    padded = [each.name for each in pooled if any(each.settings["padding"])]
    if pooled and ceil:
        yield Fact("pooling.ceil", {"names": [each.name for each in pooled]})
    elif padded:
        yield Fact("pooling", {"names": padded})
    averages = [each.name for each in found if each.kind == "average_pool"]
    # Only shortcuts have windows that reach over the edge, as their main path has.
    beside = [name for name in averages if "shortcut" in name.split(".")]
    if beside:
        yield Fact("average_pool.ceil", {"names": beside})
    if set(averages) - set(beside):
        rest = [name for name in averages if name not in beside]
        yield Fact("average_pool.floor", {"names": rest})
    blurred = [each.name for each in found if each.kind == "blur_pool"]
    if blurred:
        yield Fact("blur_pool", {"names": blurred})


def _shortcuts(found: Graph, batch: int) -> Iterator[Fact]:
    config = found.config
    if isinstance(config, BlockConfig):
        yield _shortcut(config)
        return
    named = config.named_blocks()
    projecting = [name for name, block in named.items() if block.projects]
    thinned = [each.name.removesuffix(".shortcut") for each in found if each.kind == "subsample"]
    if thinned:
        yield Fact(
            "shortcut.network.subsample", {"names": thinned, "others": len(named) - len(thinned)}
        )
    elif projecting:
        yield Fact(
            "shortcut.network", {"names": projecting, "others": len(named) - len(projecting)}
        )
    else:
        yield Fact("shortcut.network.none", {"count": len(named)})


def _shortcut(config: BlockConfig) -> Fact:
    values = {"in": config.in_channels, "out": config.out_channels, "stride": _times(config.stride)}
    if config.shortcut_form == "subsample":
        added = config.out_channels - config.in_channels
        return Fact(
            "shortcut.subsample", {**values, "before": added // 2, "after": added - added // 2}
        )
    if not config.projects:
        return Fact("shortcut.identity", {"channels": config.out_channels})
    kernel = "×".join(map(str, config.shortcut_kernel))
    if config.norm == "folded":
        return Fact(f"shortcut.{config.shortcut_form}.folded", {**values, "kernel": kernel})
    values |= {"kernel": kernel, "norm": f"norm.{config.norm}"}
    return Fact(f"shortcut.{config.shortcut_form}", values)


def _strides(found: Graph, batch: int) -> Iterator[Fact]:
    """Where the main paths that make the map smaller do so."""
    strided = [block for block in found.config.blocks() if block.stride != (1, 1)]
    if not strided:
        return
    block = strided[0]
    if block.pools:
        yield Fact(f"stride.{block.antialias}")
    elif isinstance(block, BottleneckConfig):
        yield Fact(f"stride.{block.stride_at}")
    else:
        yield Fact("stride.basic")


def _groups(found: OperationGraph, batch: int) -> Iterator[Fact]:
    grouped = [
        each
        for each in found
        if each.kind == "convolution" and each.settings["groups"] > 1 and not each.depthwise
    ]
    if grouped:
        yield Fact(
            "groups",
            {"names": [each.name for each in grouped], "groups": grouped[0].settings["groups"]},
        )


def _biases(found: Graph, batch: int) -> Iterator[Fact]:
    if found.config.conv_bias:
        yield Fact(
            "bias.on",
            {
                "names": [
                    f"{name}.bias" for name in biases(found) if "attention" not in name.split(".")
                ]
            },
        )
    else:
        yield Fact("bias.off")
    idle = [name.removesuffix(".bias") for name in idle_biases(found.operations)]
    if idle:
        normed = {operation.inputs[0] for operation in found if operation.kind == "batch_norm"}
        key = "bias.idle" if normed.issuperset(idle) else "bias.idle.softmax"
        yield Fact(key, {"names": [f"{name}.bias" for name in idle]})
    # Of queries, keys and values the keys are the second part.
    split = {each.inputs[0] for each in found if each.kind == "head_part"}
    keys = [f"{name}.bias" for name in biases(found) if name in split]
    if keys:
        yield Fact("bias.keys", {"names": keys})


def _norms(found: Graph, batch: int) -> Iterator[Fact]:
    groups: dict[tuple[float, float], list[str]] = {}
    for operation in found:
        if operation.kind == "batch_norm":
            groups.setdefault((operation.settings["eps"], operation.settings["decay"]), []).append(
                operation.name
            )
    for (eps, decay), names in groups.items():
        yield Fact(
            "norm.all" if len(groups) == 1 else "norm.some",
            {
                "names": names,
                "eps": _number(eps),
                "decay": _number(decay),
                "momentum": _number(round(1 - decay, 15)),
                "eps_defaults": _others(0, eps),
                "decay_defaults": _others(1, decay),
            },
        )


def _variance(found: Graph, batch: int) -> Iterator[Fact]:
    yield Fact("variance")


def _others(which: int, value: float) -> list[str]:
    """The frameworks with another default, and their default."""
    defaults = {row.label: row.batch_norm[which] for row in FRAMEWORKS.values()}
    return [f"{name} {_number(default)}" for name, default in defaults.items() if default != value]


def _number(value: float) -> str:
    """A number as people write it: 0.9, 0.01, 1e-3, 1e-5."""
    if value == 0 or value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _counts(found: OperationGraph, batch: int) -> Iterator[Fact]:
    counts: dict[int, list[str]] = {}
    for operation in found:
        if operation.kind == "batch_norm":
            counts.setdefault(
                batch * prod(extent.size for extent in operation.shape[1:]), []
            ).append(operation.name)
    if not counts:
        return
    least = min(counts)
    if least == 1:
        yield Fact("count.error", {"names": counts[1], "batch": batch})
    elif least == max(counts):
        yield Fact(
            "count.one", {"n": least, "factor": f"{least / (least - 1):.7g}", "batch": batch}
        )
    else:
        most = max(counts)
        values = {
            "n": least,
            "names": counts[least],
            "most": most,
            "factor": f"{least / (least - 1):.7g}",
            "batch": batch,
        }
        yield Fact("count.range", values)


def _layer_norms(found: OperationGraph, batch: int) -> Iterator[Fact]:
    norms = [operation for operation in found if operation.kind == "layer_norm"]
    if norms:
        rows = FRAMEWORKS.values()
        defaults = [f"{row.label} {_number(row.layer_norm)}" for row in rows]
        yield Fact(
            "layer_norm",
            {
                "names": [each.name for each in norms],
                "eps": _number(norms[0].settings["eps"]),
                "defaults": defaults,
            },
        )


def _group_norms(found: OperationGraph, batch: int) -> Iterator[Fact]:
    norms = [operation for operation in found if operation.kind == "group_norm"]
    if norms:
        rows = FRAMEWORKS.values()
        settings = norms[0].settings
        yield Fact(
            "group_norm",
            {
                "names": [each.name for each in norms],
                "groups": settings["groups"],
                "eps": _number(settings["eps"]),
                "defaults": [f"{row.label} {_number(row.layer_norm)}" for row in rows],
            },
        )


def _folded_norms(found: Graph, batch: int) -> Iterator[Fact]:
    if found.config.norm == "folded":
        yield Fact("folded")


def _attention(found: Graph, batch: int) -> Iterator[Fact]:
    widths: dict[tuple[str, str], list[BlockConfig]] = {}
    for block in found.config.named_blocks().values():
        if block.attention != "none":
            widths.setdefault((block.attention, repr(block.attention_options)), []).append(block)
    for (kind, _), alike in widths.items():
        options = {**ATTENTION[kind].options, **alike[0].attention_options}
        yield from _of_kind(
            kind, options, list(dict.fromkeys(block.out_channels for block in alike))
        )
    kinds = {operation.kind for operation in found}
    if kinds & {"maximum", "greater"}:
        yield Fact("maximum")
    resized = [
        each.name
        for each in found
        if each.kind == "nearest" and found[each.inputs[0]].numbers > each.shape[0].size
    ]
    if resized:
        yield Fact("nearest", {"names": resized})
    around = [each.name for each in found if each.kind == "average_around"]
    if around:
        yield Fact("average_around", {"names": around})
    if kinds & {"hard_sigmoid", "hard_swish"}:
        yield Fact("hard")


def _of_kind(kind: str, options: dict[str, Any], channels: list[int]) -> Iterator[Fact]:
    """The choices in which authors, papers and libraries differ, at these options and channels."""
    if not ATTENTION[kind].built_in:
        yield Fact("kind.own", {"kind": kind})
        return
    words = words_of(kind)
    values = {**options, "channels": _texts(channels)}
    widths = {name: options[name] for name in WIDTH_OPTIONS if name in options}
    if widths:
        values["hidden"] = _texts(hidden_width(count, **widths, kind=kind) for count in channels)
    for name, number in words.numbers.items():
        values[name] = _texts(number(count, **options) for count in channels)
    for key in words.facts:
        yield Fact(key.format(**options), values)


def _texts(numbers: Iterable[int]) -> list[str]:
    """The numbers as texts, each once."""
    return [str(number) for number in dict.fromkeys(numbers)]


def _size(found: Graph, batch: int) -> Iterator[Fact]:
    config = found.config
    sizes = [
        pair_of("size", block.attention_options["size"])
        for block in config.blocks()
        if block.has_fixed_size
    ]
    if sizes:
        maps = list(dict.fromkeys(" × ".join(map(str, size)) for size in sizes))
        image = " × ".join(map(str, config.input_size or ()))
        yield Fact("size.fixed", {"maps": maps, "image": image})


def _layouts(found: Graph, batch: int) -> Iterator[Fact]:
    """The names and axes of each role in each framework, with one parameter as an example."""
    yield Fact("axes")
    first: dict[str, Parameter] = {}
    for parameter in schema(found.config):
        first.setdefault(parameter.role, parameter)
    rows = [("", *(row.label for row in FRAMEWORKS.values()))]
    for role, parameter in first.items():
        rows.append((parameter.name, *(row.leaves[role][0] for row in FRAMEWORKS.values())))
        axes = [f"({row.axes(parameter)})" for row in FRAMEWORKS.values()]
        if len(ROLES[role].axes.split()) > 1:
            rows.append(("", *axes))
    yield Fact("layout", {}, tuple(rows))
    numbered = next(
        (
            each
            for each in schema(found.config)
            if any(part.isdigit() for part in each.module.split("."))
        ),
        None,
    )
    if numbered is not None:
        names = {name: row.path(numbered) for name, row in FRAMEWORKS.items()}
        yield Fact("sequence", names)
    yield Fact("unread", {"names": FRAMEWORKS["torch"].unread})
    if isinstance(found.config, NetworkConfig) and found.config.classes:
        yield Fact("flatten", {"width": found.config.widths[-1]})


def _random(found: Graph, batch: int) -> Iterator[Fact]:
    """What training leaves out at random."""
    rate = max(block.drop_path for block in found.config.blocks())
    if rate:
        yield Fact("drop_path", {"rate": f"{rate:g}"})
    if isinstance(found.config, NetworkConfig) and found.config.dropout:
        yield Fact("dropout", {"rate": f"{found.config.dropout:g}"})


def _always(found: OperationGraph, batch: int) -> Iterator[Fact]:
    yield Fact("precision")
