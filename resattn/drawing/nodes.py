"""The nodes of a picture: their forms and their words, one node for each operation."""

from dataclasses import dataclass

from resattn.explaining.formulas import affine
from resattn.explaining.wording import format_pair
from weights.graph import Graph, OperationGraph
from weights.language import join_texts, mark, say
from weights.operations import AXES, COLS, ROWS, Operation, Shape

TIMES, ARROW, MINUS, DIVIDED = (
    "\N{MULTIPLICATION SIGN}",
    "\N{RIGHTWARDS ARROW}",
    "\N{MINUS SIGN}",
    "\N{DIVISION SIGN}",
)

# Form and colour of the kinds of operation that `weights.graph` names. The others are plain boxes.
FORMS = {
    "input": "input",
    "convolution": "convolution",
    "convolution_1d": "convolution",
    "linear": "convolution",
    "relative_positions": "convolution",
    "batch_norm": "normalization",
    "layer_norm": "normalization",
    "group_norm": "normalization",
    "relu": "activation",
    "sigmoid": "activation",
    "hard_sigmoid": "activation",
    "hard_swish": "activation",
    "softmax": "activation",
    "average": "average",
    "average_around": "average",
    "maximum": "average",
    "max_pool": "average",
    "average_pool": "average",
    "blur_pool": "average",
    "function": "activation",
    "scale": "normalization",
    "standardize": "normalization",
    "total": "average",
    "failure": "wrong",
    "sum": "sum",
    "product": "product",
    "attention": "attention",
}
POOLINGS = ("max_pool", "average_pool", "blur_pool")
OPERATORS = {"difference": MINUS, "quotient": DIVIDED}
# The labels of kinds that are not their own names.
KIND_LABELS = {
    "average_around": mark("average around"),
    "average_pool": mark("average pooling"),
    "blur_pool": mark("blur"),
    "bessel": f"{TIMES} n / (n {MINUS} 1)",
    "hard_sigmoid": "hard sigmoid",
    "hard_swish": "hard swish",
    "matrix_product": mark("matrix product"),
    "max_pool": mark("maximum pooling"),
    "nearest": mark("stretch"),
    "pad": mark("zero padding"),
    "subsample": mark("dropped pixels"),
    "standardize": mark("standardise"),
    "swap_axes": mark("swap axes"),
    **{
        kind: kind
        for kind in (
            *(mark("average"), mark("maximum"), mark("total"), mark("concatenate")),
            *(mark("difference"), mark("quotient"), mark("square"), mark("greater")),
            *(mark("parameter"), mark("part"), mark("scale"), mark("constant")),
            *(mark("sum"), mark("product")),
        )
    },
}
# What is below the label, of kinds that have nothing else to say.
KIND_DETAILS = {
    "batch_norm": mark("batch norm"),
    "layer_norm": mark("layer norm"),
    "relative_positions": mark("relative positions"),
    "scale": mark("learned scale"),
    "standardize": mark("mean 0, variance 1"),
    "unknown": mark("not known here"),
    "nearest": mark("to nearest pixels"),
    "greater": mark("of the two"),
}


@dataclass(frozen=True)
class SceneNode:
    """name: of its operation, or of the first block that it represents. lines: its label, which is
    bold, then details.

    form: decides outline and colour. shape: of its output, if it differs from that of the first
        input, else "".
    covers: the blocks that a folded node represents. shortcut: "identity", "projected" or "padded"
        (without parameters), of those blocks.
    """

    name: str
    form: str
    lines: tuple[str, ...]
    shape: str = ""
    covers: tuple[str, ...] = ()
    shortcut: str = ""

    @property
    def is_block(self) -> bool:
        """Whether it represents blocks, in whatever form."""
        return self.form == "block" or bool(self.covers)


def format_shape(shape: Shape, numbers: bool) -> str:
    sizes = (str(extent.size) if numbers else extent.formula for extent in shape)
    return f"({', '.join(('N', *sizes))})"


def make_node(
    graph: OperationGraph, operation: Operation, numbers: bool, scope: str = "attention."
) -> SceneNode:
    """The node of one operation. scope: what is left out at the beginning of a module's path."""
    form = FORMS.get(operation.kind, "operation")
    new = not operation.inputs or operation.shape != graph[operation.inputs[0]].shape
    new = new and operation.name != graph.output  # its shape is beside "out"
    new = new and (numbers or operation.kind != "pad")  # no formula says how much SAME pads
    shape = format_shape(operation.shape, numbers) if new else ""
    lines = (_find_label(operation, scope), *_list_details(graph, operation, numbers, scope))
    return SceneNode(operation.name, form, lines, shape)


def _find_label(operation: Operation, scope: str) -> str:
    """Its module, without the scope, or what it computes."""
    if operation.kind == "input":
        return "x"
    if operation.kind == "attention":
        return say("attention: {kind}", kind=operation.settings["attention"])
    if operation.module:
        return operation.module.removeprefix(scope)
    if operation.kind in ("slice", "head_part"):
        return operation.name.split(".")[-1]
    if operation.kind == "function":
        return str(operation.settings["function"]).replace("_", " ")
    if operation.kind == "unknown":
        return str(operation.settings["primitive"])
    if operation.kind == "failure":
        return say(
            "{operation} fails", operation=operation.settings["operation"] or say("operation")
        )
    if operation.kind == "average" and len(operation.settings["axes"]) == 2:
        return say("global average")
    if operation.kind == "affine":
        return affine(operation.settings["factor"], operation.settings["offset"])
    return say(KIND_LABELS.get(operation.kind, operation.kind))


def _list_details(
    graph: OperationGraph, operation: Operation, numbers: bool, scope: str
) -> tuple[str, ...]:
    settings, kind = operation.settings, operation.kind
    first = graph[operation.inputs[0]] if operation.inputs else operation
    if kind == "pad" and not numbers:
        return ("SAME",)
    if kind in ("pad", "subsample"):
        return _describe_zeros(operation)
    if kind == "group_norm":
        return (say("group norm, {count} groups", count=settings["groups"]),)
    if kind in ("convolution", "convolution_1d", *POOLINGS):
        channels = f"{first.shape[0].formula} {ARROW} {operation.shape[0].formula}"
        return _describe_window(operation, channels)
    if kind == "linear":
        return (
            say(
                "linear, {channels}",
                channels=f"{first.shape[0].formula} {ARROW} {operation.shape[0].formula}",
            ),
        )
    if kind in KIND_DETAILS:
        return (say(KIND_DETAILS[kind]),)
    if kind in ("average", "maximum", "total"):
        axes = (_name_axis(graph, first, axis) for axis in settings["axes"])
        return (say("over {axes}", axes=join_texts(axes, say(" and "))),)
    if kind == "part":
        return (say("{part} of {parts}", part=settings["part"] + 1, parts=settings["parts"]),)
    if kind == "failure":
        shapes = (format_shape(graph[source].shape, numbers) for source in operation.inputs)
        return (join_texts(shapes, say(" and ")),)
    if kind == "average_around":
        return (say("of {extent}", extent=f"{settings['extent']}{TIMES}{settings['extent']}"),)
    if kind in OPERATORS:
        labels = (_find_label(graph[source], scope) for source in operation.inputs)
        terms = (f"({label})" if "+" in label else label for label in labels)
        return (f" {OPERATORS[kind]} ".join(terms),)
    if kind in ("slice", "head_part"):
        return (_name_part(operation, _find_label(first, scope)),)
    if kind == "attention":
        return tuple(f"{name} {value}" for name, value in settings["options"].items())
    return ()


def _name_part(operation: Operation, whole: str) -> str:
    if operation.kind == "head_part":
        return say("part of {whole}", whole=whole)
    if operation.settings["start"] == 0:
        return say("first part of {whole}", whole=whole)
    return say("second part of {whole}", whole=whole)


def _name_axis(graph: OperationGraph, first: Operation, axis: str) -> str:
    """H or W if it comes from the image's height or width."""
    if not isinstance(graph, Graph):  # its axes keep their names
        return {ROWS: "H", COLS: "W"}.get(axis, axis)
    extent = first.shape[AXES.index(axis)]
    return next((side for side in "HW" if side in extent.formula), say("channels"))


def _describe_window(operation: Operation, channels: str) -> tuple[str, ...]:
    settings = operation.settings
    kernel = TIMES.join(map(str, settings.get("kernel", (3, 3))))  # that of blur_pool
    if operation.kind in POOLINGS:
        return (
            say("{kernel}, stride {stride}", kernel=kernel, stride=format_pair(settings["stride"])),
        )
    if operation.kind == "convolution_1d":
        circular = (say("circular padding"),) if settings["padding"] != "zero" else ()
        return (say("1-d conv, kernel {kernel}", kernel=kernel), say("over channels"), *circular)
    whole = (
        say("{kernel} depthwise", kernel=kernel)
        if operation.depthwise
        else say("{kernel} conv", kernel=kernel)
    )
    parts = [whole, channels]
    groups = settings["groups"]
    parts += [say("{count} groups", count=groups)] if groups > 1 and not operation.depthwise else []
    parts += (
        [say("stride {stride}", stride=format_pair(settings["stride"]))]
        if settings["stride"] != (1, 1)
        else []
    )
    parts += (
        [say("dilation {dilation}", dilation=settings["dilation"])]
        if settings["dilation"] != 1
        else []
    )
    parts += [] if settings["bias"] else [say("no bias")]
    lines = [", ".join(parts)]
    if len(parts) >= 4:
        lines = [", ".join(parts[:2]) + ",", ", ".join(parts[2:])]
    # A module that is used twice holds its parameters in the first operation.
    return tuple(lines) if operation.parameters else (*lines, say("the same weights"))


def _describe_zeros(operation: Operation) -> tuple[str, ...]:
    """Where zeros are added, and which pixels stay."""
    settings = operation.settings
    if operation.kind == "pad":
        sides = zip(settings["before"], settings["after"], strict=True)
        rows, cols = (f"{before} + {after}" for before, after in sides)
        return (say("{rows} rows, {cols} columns", rows=rows, cols=cols),)
    lines = [say("stride {stride}", stride=format_pair(settings["stride"]))]
    if settings["before"] + settings["after"]:
        lines.append(
            say(
                "{before} + {after} channels of zeros",
                before=settings["before"],
                after=settings["after"],
            )
        )
    return tuple(lines)
