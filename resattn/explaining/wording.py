"""Puts the parts of an explanation into words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from resattn.explaining.analysis import WINDOWS, Field, margins
from resattn.explaining.entries import AnyExplanation, Entry
from resattn.explaining.facts import Fact
from resattn.explaining.formulas import affine
from resattn.explaining.words import WORDS
from resattn.explaining.wrapping import close_gaps, tie
from weights.checks import Pair
from weights.config import BlockConfig, BottleneckConfig, Config
from weights.errors import ArgumentError
from weights.graph import Graph
from weights.operations import AXES, Operation, Shape

LISTED = 6  # the most names in a sentence. Of more, the first ones and a count are given


class Wording:
    """The words for one explanation in one language. Raises ArgumentError for an unknown one."""

    def __init__(self, explanation: AnyExplanation, language: str):
        if language not in WORDS:
            raise ArgumentError(f"--lang: expected one of {', '.join(WORDS)}, got {language!r}")
        self.explanation = explanation
        self.graph = explanation.graph
        self.words = WORDS[language]

    def say(self, key: str, **values: Any) -> str:
        """The sentence of a key, with values in place of their names."""
        texts = {name: self.join_names(value) for name, value in values.items()}
        return close_gaps(self.words[key].format(**texts))

    def join_names(self, value: Any) -> Any:
        """Names as a list in a sentence. Other values stay as they are."""
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
            return value
        if len(value) > LISTED:
            names = self.words["list"].join(value[: LISTED - 2])
            return self.say("and_more", names=names, count=len(value) - LISTED + 2)
        if len(value) < 2:
            return "".join(value)
        return self.words["last"].join((self.words["list"].join(value[:-1]), value[-1]))

    # The config.

    def describe(self, config: Config) -> str:
        """The config in one phrase."""
        if isinstance(config, BlockConfig):
            kernel = "×".join(map(str, config.kernel_size))
            values = {"kernel": kernel, "kind": describe_attention(config)}
            if isinstance(config, BottleneckConfig):
                values |= {"first": config.first_channels, "hidden": config.hidden_channels}
                values["groups"] = self.groups(config.groups)
                return self.say("what.bottleneck", **self.block_values(config), **values)
            return self.say("what.block", **self.block_values(config), **values)
        kinds = list(dict.fromkeys(describe_attention(block) for block in config.blocks()))
        widths = [str(width) for width in config.widths]
        key = "what.network" if config.form == "basic" else "what.network.bottleneck"
        groups = self.groups(config.groups)
        return self.say(key, count=sum(config.depths), widths=widths, kind=kinds, groups=groups)

    def groups(self, groups: int) -> str:
        """A part of a list that names the groups; "" if there is one."""
        return self.words["comma"] + self.say("set.groups", value=groups) if groups > 1 else ""

    def block_values(self, block: BlockConfig) -> dict[str, Any]:
        """The values in the sentences about a block."""
        kernel = "×".join(map(str, block.shortcut_kernel))
        shortcut = self.say(f"shortcut.{block.shortcut_form}", kernel=kernel)
        stride = format_pair(block.stride)
        values = {"in": block.in_channels, "out": block.out_channels}
        return {**values, "stride": stride, "shortcut": shortcut}

    def images(self) -> str:
        batch = self.explanation.batch
        return self.words["images.1"] if batch == 1 else self.say("images", count=batch)

    # An operation.

    def what(self, operation: Operation) -> str:
        """What it computes, and how."""
        settings, kind = operation.settings, operation.kind
        values: dict[str, Any] = {**settings, "kernel": format_kernel(operation)}
        if kind == "pad":
            values["rows"], values["cols"] = (str(margins(operation, axis)) for axis in (1, 2))
        if kind == "convolution_1d":
            values["length"] = settings["kernel"][0]
        if "axes" in settings and kind != "swap_axes":
            values["axes"] = self.words[self.axes_key(operation)]
        if kind == "part":
            values["part"] += 1
        if kind == "failure":
            values["what"] = self.failed(settings["operation"])
        if kind == "affine":
            values["formula"] = affine(settings["factor"], settings["offset"])
        details = [self.say(f"set.{key}", value=value) for key, value in list_settings(operation)]
        if "along" in settings:
            axes = [self.words[f"along.{axis}"] for axis in settings["along"]]
            details.append(self.say("set.along", value=axes))
        return self.words["comma"].join([self.say(f"op.{form_of(operation)}", **values), *details])

    def failed(self, operation: str) -> str:
        """An operation that a model cannot compute. operation: its kind, "" if not known."""
        return self.words.get(f"failed.{operation}", operation) or self.words["failed.unknown"]

    def axes_key(self, operation: Operation) -> str:
        """The key of the name of the axes that are reduced. Axes may have changed places before."""
        if len(operation.settings["axes"]) == 2:
            return "axis.positions"
        name = operation.settings["axes"][0]
        if not isinstance(self.graph, Graph):  # its axes keep their names
            return f"axis.{name}"
        place = AXES.index(name)
        formula = self.graph[operation.inputs[0]].shape[place].formula
        return "axis.rows" if "H" in formula else "axis.cols" if "W" in formula else "axis.channels"

    def why(self, entry: Entry) -> str:
        """Why it is there."""
        operation = entry.operation
        values: dict[str, Any] = {**operation.settings, "kernel": format_kernel(operation)}
        if operation.inputs:
            values["in"] = self.graph[operation.inputs[0]].shape[0].size
            values["out"] = operation.shape[0].size
        return self.say(f"why.{entry.reason}", **values)

    def shapes(self, operation: Operation) -> tuple[str, str]:
        """Before and after: as formulas and as numbers. The numbers are "" if both are the same."""
        before = [self.graph[name].shape for name in operation.inputs]
        formulas, numbers = (
            " → ".join(
                filter(None, [", ".join(show(shape) for shape in before), show(operation.shape)])
            )
            for show in (format_formulas, format_sizes)
        )
        return formulas, "" if formulas == numbers else numbers

    def costs(self, operations: Sequence[Operation], field: Field) -> str:
        """Parameters, multiply-adds, memory and receptive field. Breaks only between them."""
        sums = {
            "parameters": sum(each.trainable for each in operations),
            "statistics": sum(each.statistics for each in operations),
            "products": sum(each.multiply_adds for each in operations),
        }
        parts = [self.say(key, count=f"{count:,}") for key, count in sums.items() if count]
        size = format_bytes(self.explanation.bytes(operations[-1].numbers))
        parts.append(self.say("memory", bytes=size))
        if operations[-1].kind not in ("input", "parameter"):
            whole = field == (None, None)
            sees = self.words["sees.whole"] if whole else self.say("sees", field=self.field(field))
            parts.append(sees)
        return self.words["separator"].join(map(tie, parts))

    def field(self, field: Field) -> str:
        """A receptive field, with the image's size where it is unlimited."""
        sides = zip(field, self.graph.size, strict=True)
        return " × ".join(str(size if side is None else side) for side, size in sides)

    def total_field(self, field: Field, alone: Callable[[], Field] | None = None) -> str:
        """The receptive field of the whole model. alone: that of its convolutions."""
        rows, cols = field
        if rows is None or cols is None:
            if alone is None:
                return self.words["total.field.whole"]
            return self.say("total.field.attention", field=self.field(alone()))
        larger = rows > self.graph.size[0] or cols > self.graph.size[1]
        text = self.field(field)
        return self.say("total.field.larger", field=text) if larger else text

    # A fact.

    def fact(self, fact: Fact) -> str:
        values = {
            name: f"{value:,}" if name in ("n", "most") else value
            for name, value in fact.values.items()
        }
        if "batch" in values:
            values["images"] = self.images()
        if "norm" in values:
            values["norm"] = self.words[values["norm"]]
        if "eps_defaults" in values:
            others = [
                self.say(f"norm.default.{name}", names=values.pop(f"{name}_defaults"))
                for name in ("eps", "decay")
                if values[f"{name}_defaults"]
            ]
            values["defaults"] = self.say("norm.defaults", defaults=others) if others else ""
        return self.say(f"fact.{fact.key}", **values)

    def table(self, fact: Fact) -> list[list[str]]:
        """The table of a fact. The cells of its first row are keys where there are such words."""
        return [
            [self.words.get(cell, cell) if number == 0 else cell for cell in row]
            for number, row in enumerate(fact.table)
        ]


def describe_attention(block: BlockConfig) -> str:
    """The attention kind and its options."""
    options = ", ".join(f"{name}={value}" for name, value in block.attention_options.items())
    return f"{block.attention} ({options})" if options else block.attention


def form_of(operation: Operation) -> str:
    """The kind of an operation, and the form where forms have different names."""
    if operation.kind == "slice":
        return "slice.first" if operation.settings["start"] == 0 else "slice.second"
    return "convolution.depthwise" if operation.depthwise else operation.kind


def list_settings(operation: Operation) -> Iterator[tuple[str, str]]:
    """The settings worth saying: (key, value)."""
    settings = operation.settings
    if operation.kind in WINDOWS and settings.get("stride", (1, 1)) != (1, 1):
        yield "stride", format_pair(settings["stride"])
    padded = operation.kind == "average_pool" and "padding" in settings
    if padded or operation.kind in ("convolution", "max_pool"):
        sides = [margins(operation, axis) for axis in (1, 2)]
        if any(before != after for before, after in sides):
            yield "padding.sides", ", ".join(map(str, sides))
        elif settings.get("padding", (0, 0)) != (0, 0):
            yield "padding", format_pair(settings["padding"])
        if settings.get("dilation", 1) != 1:
            yield "dilation", str(settings["dilation"])
        if settings.get("groups", 1) > 1 and not operation.depthwise:
            yield "groups", str(settings["groups"])
    if settings.get("counts_padding"):
        yield "counts_padding", ""
    if operation.kind == "group_norm":
        yield "groups", str(settings["groups"])
    if operation.kind == "subsample" and settings["before"] + settings["after"]:
        yield "channels", f"({settings['before']}, {settings['after']})"
    if "bias" in settings:
        yield ("bias" if settings["bias"] else "no bias"), ""
    if operation.kind == "convolution_1d":
        yield settings["padding"], ""
    for name in ("eps", "decay"):
        if name in settings:
            yield name, f"{settings[name]:g}".replace("e-0", "e-")


def format_kernel(operation: Operation) -> str:
    return "×".join(map(str, operation.settings.get("kernel", ())))


def format_pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"({pair[0]}, {pair[1]})"


def format_formulas(shape: Shape) -> str:
    """The formulas of a shape. A formula of several terms gets parentheses."""
    return _format_shape(extent.formula for extent in shape)


def format_sizes(shape: Shape) -> str:
    return _format_shape(str(extent.size) for extent in shape)


def _format_shape(sides: Iterable[str]) -> str:
    return " × ".join(f"({side})" if "+" in side else side for side in sides)


def format_bytes(count: int) -> str:
    """A number of bytes, in the greatest unit of which it has at least one."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count:,} B" if unit == "B" else f"{value:.4g} {unit}"
