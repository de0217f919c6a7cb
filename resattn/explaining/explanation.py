"""A block or a network told step by step, from its graph: what `resattn explain` prints and writes
as JSON.

An `Explanation` knows what is told, in which order; `lines` lays it out for a terminal, in English
or Chinese.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from resattn.explaining import words_en, words_zh
from resattn.explaining.code.alignment import Line, align
from resattn.explaining.analysis import kept, peak, receptive_fields, training_numbers
from resattn.explaining.facts import Fact, facts
from resattn.explaining.formulas import affine
from resattn.explaining.names import plain_name
from weights.attention import ATTENTION
from weights.checks import Pair
from weights.config import BlockConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.graph import Graph, check_size, default_size, graph
from weights.operations import AXES, Extent, Operation

WORDS: dict[str, Mapping[str, str]] = {"en": words_en.WORDS, "zh": words_zh.WORDS}
BYTES = {"float16": 2, "float32": 4, "float64": 8}
BESIDE = 112  # columns from which code stands beside the text, not above it
LISTED = 6  # names in a sentence; of more the first ones and a count

Field = tuple[int | None, int | None]

# Why an operation of an attention module is there: the key of its sentence, from the kind and the
# operation's name in the module. A second use is looked up with its number first. The names of
# "any" are those of all kinds.
REASONS: dict[str, dict[str, str]] = {
    "any": {
        "global_average": "se.average",
        "sigmoid": "gate",
        "hard_sigmoid": "gate",
        "relu": "nonlinear",
    },
    "se": {"fc1": "se.fc1", "fc2": "se.fc2", "": "scaled.channels"},
    "ese": {"fc": "ese.fc", "": "scaled.channels"},
    "eca": {"conv": "eca.conv", "": "scaled.channels"},
    "cbam": {
        "channel.fc1": "se.fc1",
        "channel.relu": "nonlinear",
        "channel.fc2": "se.fc2",
        "maximum": "cbam.maximum",
        "channel.fc1 2": "cbam.again",
        "channel.fc2 2": "cbam.again",
        "sigmoid input": "cbam.both",
        "average input": "scaled.channels",
        "average": "cbam.average",
        "maximum 2": "cbam.maximum 2",
        "concatenate": "cbam.concatenate",
        "spatial.conv": "gate.conv",
        "spatial.bn": "gate.bn",
        "spatial": "gate",
        "": "scaled.positions",
    },
    "bam": {
        "channel_att.global_average": "se.average",
        "channel_att.fc_0": "se.fc1",
        "channel_att.bn_1": "norm",
        "channel_att.relu": "nonlinear",
        "channel_att.fc_final": "bam.fc_final",
        "spatial_att.conv_reduce0": "bam.reduce",
        "spatial_att.bn_reduce0": "norm",
        "spatial_att.relu": "nonlinear",
        "spatial_att.conv_di_0": "bam.dilated",
        "spatial_att.bn_di_0": "norm",
        "spatial_att.conv_di_1": "bam.dilated",
        "spatial_att.bn_di_1": "norm",
        "spatial_att.conv_final": "bam.conv_final",
        "sigmoid input sum": "bam.sum",
        "sigmoid input product": "bam.product",
        "one_more": "bam.one_more",
        "": "bam.output",
    },
    "scse": {
        "cSE.global_average": "se.average",
        "cSE.fc1": "se.fc1",
        "cSE.relu": "nonlinear",
        "cSE.fc2": "se.fc2",
        "cSE.sigmoid": "gate",
        "cSE": "scaled.channels",
        "sSE.conv": "scse.conv",
        "sSE.sigmoid": "gate",
        "sSE": "scaled.positions",
        " sum": "scse.sum",
        " greater": "scse.greater",
    },
    "ge": {
        "gather average": "ge.average",
        "gather average_around": "ge.around",
        **{f"gather.conv{step}": "ge.conv" for step in range(1, 17)},
        **{f"gather.norm{step}": "norm" for step in range(1, 17)},
        "gather.relu": "nonlinear",
        "mlp.fc1": "ge.fc1",
        "mlp.relu": "nonlinear",
        "mlp.fc2": "ge.fc2",
        "nearest": "ge.nearest",
        "": "ge.output",
    },
    "gc": {
        "conv_attn": "gc.conv_attn",
        "softmax": "gc.softmax",
        "context": "gc.context",
        "global_average": "gc.average",
        **{
            f"{scope}.{layer}": reason
            for scope, last in (("mlp_add", "gc.add"), ("mlp_scale", "gc.scale"))
            for layer, reason in (
                ("fc1", "gc.fc1"),
                ("norm", "gc.norm"),
                ("relu", "nonlinear"),
                ("fc2", last),
            )
        },
        "scaled": "scaled.channels",
        " product": "scaled.channels",
        " sum": "gc.output",
    },
    "simam": {
        "average": "simam.average",
        "centred": "simam.centred",
        "average input": "simam.square",
        "average 2": "simam.average 2",
        "variance": "simam.variance",
        "divisor": "simam.divisor",
        "energy": "simam.energy",
        "sigmoid input": "simam.half",
        "": "simam.output",
    },
    "coordinate": {
        "average": "coordinate.rows",
        "average 2": "coordinate.cols",
        "concatenate": "coordinate.concatenate",
        "conv1": "coordinate.conv1",
        "bn1": "norm",
        "hard_swish": "coordinate.hard_swish",
        "rows": "coordinate.part.rows",
        "cols": "coordinate.part.cols",
        "conv_h": "coordinate.conv_h",
        "conv_w": "coordinate.conv_w",
        "by_cols": "coordinate.by_cols",
        "": "coordinate.output",
    },
    "triplet": {
        "maximum input": "triplet.turn",
        "maximum": "triplet.maximum",
        "average": "triplet.average",
        "concatenate": "triplet.concatenate",
        **{
            f"{branch}{layer}": reason
            for branch in ("cw", "hc", "hw")
            for layer, reason in (
                (".conv", "gate.conv"),
                (".bn", "gate.bn"),
                ("", "gate"),
                (".gated", "triplet.gated"),
                (".back", "triplet.back"),
            )
        },
        "total": "triplet.total",
        "": "triplet.output",
    },
    "nonlocal": {
        "theta": "nonlocal.theta",
        "phi": "nonlocal.phi",
        "g": "nonlocal.g",
        "max_pool_2x2": "nonlocal.pool",
        "logits": "nonlocal.logits",
        "softmax input matrix_product": "nonlocal.logits",
        "softmax input affine": "scale",
        "softmax": "attention.softmax",
        "weighted": "nonlocal.weighted",
        "conv_out": "nonlocal.conv_out",
        "bn": "nonlocal.bn",
        "": "nonlocal.output",
    },
    "mhsa": {
        "qkv": "mhsa.qkv",
        "query": "mhsa.query",
        "key": "mhsa.key",
        "value": "mhsa.value",
        "scaled": "scale",
        "logits": "mhsa.logits",
        "pos_embed": "mhsa.positions",
        "softmax input": "mhsa.sum",
        "softmax": "attention.softmax",
        "": "mhsa.output",
    },
}


@dataclass(frozen=True)
class Step:
    """One operation that is told. group: the part of the model it belongs to. block: the name of
    its block, or "".
    """

    operation: Operation
    reason: str
    group: str
    block: str
    field: Field
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Fold:
    """A block of a form that was told before. like: the block in which. operations: those
    folded.
    """

    name: str
    like: str
    config: BlockConfig
    operations: tuple[Operation, ...]
    field: Field


@dataclass(frozen=True)
class Explanation:
    """What is told of a config, in the order of execution. batch, dtype: of the memory. code: whose
    lines, or None.
    """

    graph: Graph
    batch: int
    dtype: str
    code: str | None
    told: tuple[Step | Fold, ...]
    facts: tuple[Fact, ...]

    def totals(self) -> dict[str, Any]:
        """Sums over all operations; numbers of activations are for one image, bytes for the
        batch.
        """
        operations = self.graph.operations
        parameters, statistics = (
            sum(getattr(each, name) for each in operations) for name in ("trainable", "statistics")
        )
        training, (most, where) = training_numbers(self.graph), peak(self.graph)
        return {
            "output": [extent.size for extent in operations[-1].shape],
            "parameters": parameters,
            "statistics": statistics,
            "weight_bytes": (parameters + statistics) * BYTES[self.dtype],
            "multiply_adds": sum(each.multiply_adds for each in operations),
            "training_numbers": training,
            "training_bytes": self.bytes(training),
            "peak_numbers": most,
            "peak_bytes": self.bytes(most),
            "peak_at": where,
            "receptive_field": list(receptive_fields(self.graph)[_last_map(self.graph)]),
        }

    def bytes(self, numbers: int) -> int:
        return numbers * self.batch * BYTES[self.dtype]

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """All of it as plain values, sentences included."""
        return _Teller(self, language).to_dict()

    def lines(self, width: int = 100, language: str = "en") -> list[tuple[str, str]]:
        """The text, line by line, no line wider than `width` cells where words allow: (line,
        style).

        style: title, heading, step, code, table or "".
        """
        return list(_Teller(self, language).lines(width))


def explain(
    config: Config,
    size: Pair | None = None,
    batch: int = 1,
    dtype: str = "float32",
    code: str | None = None,
) -> Explanation:
    """What `config` computes. size: of the images (height, width), by default `default_size`. code:
    torch, jax or tf.

    Raises ArgumentError for a size that the config cannot take, a dtype or a framework that is not
    known.
    """
    if dtype not in BYTES:
        raise ArgumentError(f"--dtype: expected one of {', '.join(BYTES)}, got {dtype!r}")
    size = default_size(config) if size is None else size
    check_size(config, size)
    found = graph(config, size)
    lines = {} if code is None else align(found, code).by_operation()
    return Explanation(found, batch, dtype, code, tuple(_told(found, lines)), facts(found, batch))


def _told(found: Graph, lines: Mapping[str, tuple[Line, ...]]) -> Iterator[Step | Fold]:
    """Every operation once: as a step, or folded into a block that has the form of one before."""
    fields, named = receptive_fields(found), found.config.named_blocks()
    forms: dict[Any, str] = {}
    folded: set[str] = set()
    for operation in found:
        name = _block_of(operation, named)
        if name in folded:
            continue
        block = named.get(name)
        if block is not None:
            like = forms.setdefault(_form(block), name)
            if like != name:
                inside = tuple(each for each in found if _block_of(each, named) == name)
                folded.add(name)
                yield Fold(name, like, block, inside, fields[inside[-1].name])
                continue
        rest = operation.name.removeprefix(name).lstrip(".") if name else operation.name
        group, reason = _place(operation, rest, block, found)
        yield Step(
            operation, reason, group, name, fields[operation.name], lines.get(operation.name, ())
        )


def _block_of(operation: Operation, named: Mapping[str, BlockConfig]) -> str:
    """The name of the block it belongs to; "" in a block, and for stem and head."""
    return next(
        (name for name in named if name and f"{operation.name}.".startswith(f"{name}.")), ""
    )


def _form(block: BlockConfig) -> tuple[Any, ...]:
    """What decides which operations there are, whatever the channels."""
    return (
        block.kernel_size,
        block.projects,
        block.attention,
        repr(block.attention_options),
        block.conv_bias,
    )


def _place(
    operation: Operation, name: str, block: BlockConfig | None, found: Graph
) -> tuple[str, str]:
    """The group and the key of the reason. name: of the operation, from its block."""
    if operation.kind == "input":
        return "input", "input"
    if block is None or (isinstance(found.config, NetworkConfig) and name == operation.name):
        return _outside(operation)
    if plain_name(name).split(".")[0] == "attention":
        return "attention", _attention_reason(operation, name, block.attention)
    if name in ("sum", "", "output"):
        how = "projection" if block.projects else "identity"
        return "join", f"sum.{how}" if name == "sum" else "output"
    if name.startswith("shortcut"):
        strided = block.stride != (1, 1) and name == "shortcut.0"
        return "shortcut", f"{name}.strided" if strided else name
    return "main", _main_reason(name, block)


def _main_reason(name: str, block: BlockConfig) -> str:
    if name == "conv1" and block.stride != (1, 1):
        return "conv1.strided"
    if name == "conv1" and block.kernel_size == (1, 1):
        return "conv1.pointwise"
    return {"bn1": "norm", "relu": "nonlinear"}.get(name, name)


def _outside(operation: Operation) -> tuple[str, str]:
    """Stem and head of a network."""
    if not plain_name(operation.name).startswith("stem"):
        return "head", operation.name
    if operation.kind == "convolution":
        return "stem", "stem.conv.strided" if operation.settings["stride"] != (
            1,
            1,
        ) else "stem.conv"
    return "stem", {"batch_norm": "norm", "relu": "nonlinear"}.get(operation.kind, "stem.pool")


def _attention_reason(operation: Operation, name: str, kind: str) -> str:
    """The key of the reason of an operation inside attention; KeyError for one that nobody has
    written about.
    """
    if not ATTENTION[kind].built_in:
        return "own"
    if operation.kind == "attention":
        return "closed"
    inner = name.removeprefix("attention").lstrip(".")
    known = {**REASONS["any"], **REASONS[kind]}
    tries = (
        inner,
        f"{inner} {operation.kind}",
        plain_name(inner),
        f"{plain_name(inner)} {operation.kind}",
    )
    return next((known[each] for each in tries if each in known), None) or known[inner]


def _last_map(found: Graph) -> str:
    """The last operation that gives a map: in a network that in front of the head."""
    if isinstance(found.config, BlockConfig):
        return found.output
    return found["global_average"].inputs[0]


class _Teller:
    """Puts an explanation into words. Lines are made for a terminal: CJK characters are two cells
    wide.
    """

    def __init__(self, explanation: Explanation, language: str):
        if language not in WORDS:
            raise ArgumentError(f"--lang: expected one of {', '.join(WORDS)}, got {language!r}")
        self.it = explanation
        self.words = WORDS[language]

    def say(self, key: str, **values: Any) -> str:
        text = self.words[key].format(
            **{name: self.listed(value) for name, value in values.items()}
        )
        return _NO_SPACE.sub("", text)

    def listed(self, value: Any) -> Any:
        """Names as a list in a sentence; other values as they are."""
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
            return value
        if len(value) > LISTED:
            names = self.words["list"].join(value[: LISTED - 2])
            return self.say("and_more", names=names, count=len(value) - LISTED + 2)
        if len(value) < 2:
            return "".join(value)
        return self.words["last"].join((self.words["list"].join(value[:-1]), value[-1]))

    # What is said of an operation.

    def images(self) -> str:
        return (
            self.words["images.1"]
            if self.it.batch == 1
            else self.say("images", count=self.it.batch)
        )

    def what(self, operation: Operation) -> str:
        """What it computes, and how."""
        settings, kind = operation.settings, operation.kind
        values: dict[str, Any] = {
            **settings,
            "kernel": "×".join(map(str, settings.get("kernel", ()))),
        }
        if kind == "convolution_1d":
            values["length"] = settings["kernel"][0]
        if "axes" in settings and kind != "swap_axes":
            values["axes"] = self.words[self.axes(operation)]
        if kind == "affine":
            values["formula"] = affine(settings["factor"], settings["offset"])
        details = [self.say(f"set.{key}", value=value) for key, value in self.settings(operation)]
        return self.words["comma"].join([self.say(f"op.{_form_of(operation)}", **values), *details])

    def axes(self, operation: Operation) -> str:
        """The name of the axes that are reduced; a turned map has others in their places."""
        if len(operation.settings["axes"]) == 2:
            return "axis.positions"
        place = AXES.index(operation.settings["axes"][0])
        formula = self.it.graph[operation.inputs[0]].shape[place].formula
        return "axis.rows" if "H" in formula else "axis.cols" if "W" in formula else "axis.channels"

    def settings(self, operation: Operation) -> Iterator[tuple[str, str]]:
        settings = operation.settings
        if operation.kind in ("convolution", "max_pool"):
            if settings["stride"] != (1, 1):
                yield "stride", _pair(settings["stride"])
            if settings["padding"] != (0, 0):
                yield "padding", _pair(settings["padding"])
            if settings.get("dilation", 1) != 1:
                yield "dilation", str(settings["dilation"])
        if "bias" in settings:
            yield ("bias" if settings["bias"] else "no bias"), ""
        if operation.kind == "convolution_1d":
            yield settings["padding"], ""
        for name in ("eps", "decay"):
            if name in settings:
                yield name, f"{settings[name]:g}".replace("e-0", "e-")

    def why(self, step: Step) -> str:
        """Why it is there."""
        operation = step.operation
        values: dict[str, Any] = {
            **operation.settings,
            "kernel": "×".join(map(str, operation.settings.get("kernel", ()))),
        }
        if operation.inputs:
            values["in"] = self.it.graph[operation.inputs[0]].shape[0].size
            values["out"] = operation.shape[0].size
        return self.say(f"why.{step.reason}", **values)

    def shape_lines(self, operation: Operation, width: int) -> list[str]:
        """Before and after in one line if it fits, else in two; a shape that stays is told once."""
        formulas, numbers = self.shapes(operation)
        if [self.it.graph[name].shape for name in operation.inputs] == [operation.shape]:
            formulas, numbers = (text.split(" → ")[-1] for text in (formulas, numbers))
            same = f"{formulas} = {numbers}" if numbers else formulas
            return [self.say("unchanged", shape=same)]
        together = f"{formulas}  =  {numbers}" if numbers else formulas
        return (
            [together] if not numbers or cell_len(together) <= width else [formulas, f"= {numbers}"]
        )

    def shapes(self, operation: Operation) -> tuple[str, str]:
        """Before and after: as formulas, and as numbers; the second is "" where both are the
        same.
        """
        before = [self.it.graph[name].shape for name in operation.inputs]
        formulas, numbers = (
            " → ".join(
                filter(
                    None,
                    [", ".join(_shape(shape, of) for shape in before), _shape(operation.shape, of)],
                )
            )
            for of in ("formula", "size")
        )
        return formulas, "" if formulas == numbers else numbers

    def numbers(self, operations: Sequence[Operation], field: Field) -> str:
        """Costs of one operation, or of all those that were folded together."""
        sums = {
            "parameters": sum(each.trainable for each in operations),
            "statistics": sum(each.statistics for each in operations),
            "products": sum(each.multiply_adds for each in operations),
        }
        parts = [self.say(key, count=f"{count:,}") for key, count in sums.items() if count]
        parts.append(self.say("memory", bytes=_bytes(self.it.bytes(operations[-1].numbers))))
        if operations[-1].kind not in ("input", "parameter"):
            whole = field == (None, None)
            parts.append(
                self.words["sees.whole"] if whole else self.say("sees", field=self.field(field))
            )
        return self.words["separator"].join(
            part.replace(" ", _TIE) for part in parts
        )  # broken between them alone

    def field(self, field: Field) -> str:
        size = [extent.size for extent in self.it.graph["input"].shape[1:]]
        return " × ".join(
            str(size[axis] if side is None else side) for axis, side in enumerate(field)
        )

    def described(self) -> str:
        """The config in one phrase."""
        config = self.it.graph.config
        if isinstance(config, BlockConfig):
            kernel = "×".join(map(str, config.kernel_size))
            return self.say(
                "what.block", **self.of_block(config), kernel=kernel, kind=self.kind(config)
            )
        kinds = dict.fromkeys(self.kind(block) for block in config.blocks())
        return self.say(
            "what.network",
            count=sum(config.depths),
            widths=[str(w) for w in config.widths],
            kind=list(kinds),
        )

    def kind(self, block: BlockConfig) -> str:
        """The attention and its options."""
        options = ", ".join(f"{name}={value}" for name, value in (block.attention_options).items())
        return f"{block.attention} ({options})" if options else block.attention

    # The text.

    def lines(self, width: int) -> Iterator[tuple[str, str]]:
        size = " × ".join(str(extent.size) for extent in self.it.graph["input"].shape[1:])
        yield from _styled(
            wrapped(self.say("title", what=self.described(), size=size), width), "title"
        )
        yield "", ""
        yield from _styled(
            wrapped(self.say("legend", batch=self.images(), dtype=self.it.dtype), width)
        )
        if self.it.code is not None:
            layout = FRAMEWORKS[self.it.code]
            yield from _styled(
                wrapped(self.say("code", label=layout.label, package=layout.package), width)
            )
        before: tuple[str, str] = ("", "")
        number = 0
        for told in self.it.told:
            if isinstance(told, Fold):
                yield from self.fold(told, width)
                number += len(told.operations)
                before = ("fold", told.name)
                continue
            if (told.group, told.block) != before:
                yield from self.heading(told, before, width)
                before = (told.group, told.block)
            yield from self.step(told, number, width)
            number += 1
        yield from self.total_lines(width)
        yield from self.fact_lines(width)

    def heading(self, step: Step, before: tuple[str, str], width: int) -> Iterator[tuple[str, str]]:
        if step.block and step.block != before[1]:
            yield "", ""
            block = self.it.graph.config.named_blocks()[step.block]
            yield from _styled(
                wrapped(self.say("group.block", name=step.block, **self.of_block(block)), width),
                "title",
            )
        if step.group == "input":
            return
        yield "", ""
        block = self.it.graph.config.named_blocks().get(step.block)
        kind = block.attention if block else ""
        yield from _styled(wrapped(self.say(f"group.{step.group}", kind=kind), width), "heading")
        if step.group == "attention" and f"summary.{kind}" in self.words:
            yield from _styled(wrapped(self.words[f"summary.{kind}"], width))

    def of_block(self, block: BlockConfig) -> dict[str, Any]:
        shortcut = self.words["shortcut.projection" if block.projects else "shortcut.identity"]
        return {
            "in": block.in_channels,
            "out": block.out_channels,
            "stride": _pair(block.stride),
            "shortcut": shortcut,
        }

    def step(self, step: Step, number: int, width: int) -> Iterator[tuple[str, str]]:
        yield "", ""
        head = f"{number:>3}  " if number else "     "
        text = self.step_text(
            step, number, width if not step.lines or width < BESIDE else width - 52
        )
        code = code_lines(step.lines, (width if width < BESIDE else 50) - 7)
        if width >= BESIDE and code:
            yield from beside(head, text, code, width - 52)
            return
        heads = [line for line, style in text if style == "step"]
        yield from _styled(
            [(head if line is heads[0] else "     ") + line for line in heads], "step"
        )
        yield from _styled([f"     │ {line}" for line in code], "code")
        yield from _styled([f"     {line}" for line, style in text if style != "step"])

    def step_text(self, step: Step, number: int, width: int) -> list[tuple[str, str]]:
        operation, inner = step.operation, width - 5
        source = ""
        if operation.inputs and operation.inputs != (self.it.graph.operations[number - 1].name,):
            source = self.words["separator"] + self.say("from", names=list(operation.inputs))
        name = "" if operation.kind == "input" else f"{operation.name}{self.words['colon']}"
        text = _styled(wrapped(f"{name}{self.what(operation)}{source}", inner), "step")
        lines = [
            line for shape in self.shape_lines(operation, inner) for line in wrapped(shape, inner)
        ]
        lines += wrapped(self.numbers([operation], step.field), inner)
        return [*text, *_styled(lines), *_styled(wrapped(self.why(step), inner))]

    def fold(self, fold: Fold, width: int) -> Iterator[tuple[str, str]]:
        yield "", ""
        yield from _styled(
            wrapped(self.say("fold", name=fold.name, like=fold.like), width), "title"
        )
        values = self.of_block(fold.config)
        lines = [self.say("fold.detail", count=len(fold.operations), **values)]
        lines += [" ".join(filter(None, self.fold_shapes(fold)))]
        lines += [self.numbers(fold.operations, fold.field)]
        for line in lines:
            yield from _styled([f"     {part}" for part in wrapped(line, width - 5)])

    def fold_shapes(self, fold: Fold) -> tuple[str, str]:
        first, last = fold.operations[0], fold.operations[-1]
        before, after = self.it.graph[first.inputs[0]].shape, last.shape
        formulas, numbers = (
            f"{_shape(before, of)} → {_shape(after, of)}" for of in ("formula", "size")
        )
        return formulas, f" =  {numbers}"

    def total_lines(self, width: int) -> Iterator[tuple[str, str]]:
        yield "", ""
        yield self.words["group.totals"], "title"
        rows = list(self.total_rows())
        indent = max(cell_len(name) for name, _ in rows) + 2
        for name, value in rows:
            first, *rest = wrapped(value, width - indent - 2)
            yield f"  {padded(name, indent)}{first}", ""
            for line in rest:
                yield " " * (indent + 2) + line, ""
        yield from _styled([f"  {line}" for line in wrapped(self.words["total.note"], width - 2)])

    def total_rows(self) -> Iterator[tuple[str, str]]:
        totals = self.it.totals()
        yield self.words["total.output"], " × ".join(map(str, totals["output"]))
        yield self.words["total.parameters"], f"{totals['parameters']:,}"
        yield self.words["total.statistics"], f"{totals['statistics']:,}"
        yield self.words["total.weights"], f"{_bytes(totals['weight_bytes'])} ({self.it.dtype})"
        yield (
            self.words["total.products"],
            self.say("total.products.value", count=f"{totals['multiply_adds']:,}"),
        )
        training = {
            "bytes": _bytes(totals["training_bytes"]),
            "count": f"{totals['training_numbers']:,}",
        }
        yield self.words["total.training"], self.say("total.training.value", **training)
        most = {"bytes": _bytes(totals["peak_bytes"]), "name": totals["peak_at"]}
        yield self.words["total.peak"], self.say("total.peak.value", **most)
        yield self.words["total.field"], self.total_field(tuple(totals["receptive_field"]))

    def total_field(self, field: Field) -> str:
        if None in field:
            alone = without_attention(self.it.graph)
            return self.say("total.field.attention", field=self.field(alone))
        size = [extent.size for extent in self.it.graph["input"].shape[1:]]
        larger = any(side > extent for side, extent in zip(field, size, strict=True))
        return (
            self.say("total.field.larger", field=self.field(field)) if larger else self.field(field)
        )

    def fact_lines(self, width: int) -> Iterator[tuple[str, str]]:
        yield "", ""
        yield self.words["group.facts"], "title"
        for fact in self.it.facts:
            first, *rest = wrapped(self.fact(fact), width - 4)
            yield f"  • {first}", ""
            for line in rest:
                yield f"    {line}", ""
            for line in self.table(fact):
                yield f"    {line}", "table"

    def fact(self, fact: Fact) -> str:
        values = {
            name: f"{value:,}" if name in ("n", "most") else value
            for name, value in fact.values.items()
        }
        if "batch" in values:
            values["images"] = self.images()
        if "eps_defaults" in values:
            others = [
                self.say(f"norm.default.{name}", names=values.pop(f"{name}_defaults"))
                for name in ("eps", "decay")
                if values[f"{name}_defaults"]
            ]
            values["defaults"] = self.say("norm.defaults", defaults=others) if others else ""
        return self.say(f"fact.{fact.key}", **values)

    def table(self, fact: Fact) -> Iterator[str]:
        rows = [
            [
                self.words[cell] if row is fact.table[0] and cell in self.words else cell
                for cell in row
            ]
            for row in fact.table
        ]
        widths = (
            [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
            if rows
            else []
        )
        for row in rows:
            yield "  ".join(
                padded(cell, width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()

    def to_dict(self) -> dict[str, Any]:
        config, size = (
            self.it.graph.config,
            [extent.size for extent in self.it.graph["input"].shape[1:]],
        )
        return {
            "config": {"model": config.model, **config.to_dict()},
            "size": size,
            "batch": self.it.batch,
            "dtype": self.it.dtype,
            "steps": [
                self.fold_dict(each) if isinstance(each, Fold) else self.step_dict(each)
                for each in self.it.told
            ],
            "kept_for_gradients": list(kept(self.it.graph)),
            "totals": self.it.totals(),
            "facts": [
                {
                    "key": fact.key,
                    "text": self.fact(fact),
                    "table": [list(row) for row in fact.table],
                }
                for fact in self.it.facts
            ],
        }

    def step_dict(self, step: Step) -> dict[str, Any]:
        operation = step.operation
        return {
            "name": operation.name,
            "kind": operation.kind,
            "what": self.what(operation),
            "why": self.why(step),
            "group": step.group,
            "inputs": list(operation.inputs),
            "shape": [extent.size for extent in operation.shape],
            "formula": [extent.formula for extent in operation.shape],
            "settings": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in operation.settings.items()
            },
            "parameters": operation.trainable,
            "statistics": operation.statistics,
            "multiply_adds": operation.multiply_adds,
            "bytes": self.it.bytes(operation.numbers),
            "receptive_field": list(step.field),
            "code": [line.text for line in step.lines],
        }

    def fold_dict(self, fold: Fold) -> dict[str, Any]:
        return {
            "name": fold.name,
            "like": fold.like,
            "operations": [operation.name for operation in fold.operations],
            "shape": [extent.size for extent in fold.operations[-1].shape],
            "parameters": sum(each.trainable for each in fold.operations),
            "statistics": sum(each.statistics for each in fold.operations),
            "multiply_adds": sum(each.multiply_adds for each in fold.operations),
            "receptive_field": list(fold.field),
        }


def without_attention(found: Graph) -> Field:
    """What the convolutions alone would see."""
    values = {**found.config.to_dict(), "attention": "none", "attention_options": None}
    bare = type(found.config).from_dict(values)
    image = found["input"].shape
    bare_graph = graph(bare, (image[1].size, image[2].size))
    return receptive_fields(bare_graph)[_last_map(bare_graph)]


def _form_of(operation: Operation) -> str:
    """The kind, and which of its forms where they are called differently."""
    if operation.kind == "slice":
        return "slice.first" if operation.settings["start"] == 0 else "slice.second"
    return "convolution.depthwise" if operation.depthwise else operation.kind


def _pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"({pair[0]}, {pair[1]})"


def _shape(shape: Iterable[Extent], of: str) -> str:
    """of: formula or size. A formula of several terms stands in brackets."""
    sides = [str(getattr(extent, of)) for extent in shape]
    return " × ".join(f"({side})" if "+" in side else side for side in sides)


def _bytes(count: int) -> str:
    """In the unit in which it is at least 1."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count:,} B" if unit == "B" else f"{value:.4g} {unit}"


def _styled(lines: Iterable[str], style: str = "") -> list[tuple[str, str]]:
    return [(line, style) for line in lines]


def padded(text: str, width: int) -> str:
    """Filled up to a width in cells."""
    return text + " " * (width - cell_len(text))


# What stands on both sides of these is not parted: a size, a difference. The mark holds the places
# of the spaces.
_BOUND = re.compile(r"(?<=\S) ([×/-]) (?=\S)")
_TIE = "¬"
# Between Chinese characters or marks there is no space; names put into a sentence bring some.
_NO_SPACE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")

# A word of a Latin script with what clings to it, or one character of another, with what must not
# begin or end a line.
_TOKENS = re.compile(r"\s+|[（“]*(?:[^\s\u2e80-\uffef“”]+|[^\s（“])[，。；：、）！？”…]*")


def wrapped(text: str, width: int) -> list[str]:
    """Broken into lines of at most `width` cells: between words, and between Chinese characters,
    none of whose lines begins with a closing mark or ends with an opening one."""
    lines, line = [], ""
    for token in _TOKENS.findall(_BOUND.sub(rf"{_TIE}\1{_TIE}", text)):
        if line and cell_len((line + token).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += token if line or token.strip() else ""
    lines = [*lines, line.rstrip()] if line.strip() or not lines else lines
    return [line.replace(_TIE, " ") for line in lines]


def code_lines(lines: Sequence[Line], width: int) -> list[str]:
    """Source lines, with the class that they are of where it changes; long ones go on further
    in.
    """
    shown: list[str] = []
    of = ""
    for line in lines:
        if line.of != of and len({each.of for each in lines}) > 1:
            shown.append(f"# {line.of}")
        of = line.of
        indent = " " * (len(line.text) - len(line.text.lstrip()))
        first, *rest = (
            wrapped(line.text.strip(), max(20, width - len(indent)))
            if cell_len(line.text) > width
            else [line.text.strip()]
        )
        shown += [indent + first, *(f"{indent}    {part}" for part in rest)]
    return shown


def beside(
    head: str, text: list[tuple[str, str]], code: list[str], width: int
) -> Iterator[tuple[str, str]]:
    """Text at the left, code at the right."""
    for number in range(max(len(text), len(code))):
        left, style = text[number] if number < len(text) else ("", "")
        left = (head if number == 0 else "     ") + left
        if number < len(code):
            yield f"{padded(left, width)} │ {code[number]}", style or "beside"
        else:
            yield left.rstrip(), style
