"""What a picture shows of a graph, before it has places: nodes, edges and frames with their words.

A block: one node for each operation of `weights.graph.graph`, one edge for each input. A network is
folded, as `folding` says. `resattn.drawing.svg`, `resattn.drawing.mermaid` and `resattn.drawing.terminal` all draw this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resattn.explaining.formulas import affine
from weights.attention import ATTENTION
from weights.config import BlockConfig, NetworkConfig
from weights.graph import Graph
from weights.operations import AXES, Extent, Operation, Shape

TIMES, ARROW, MINUS, DIVIDED = (
    "\N{MULTIPLICATION SIGN}",
    "\N{RIGHTWARDS ARROW}",
    "\N{MINUS SIGN}",
    "\N{DIVISION SIGN}",
)

# Form and colour of the kinds of operation that `weights.graph` names; those that are missing are
# plain boxes.
FORMS = {
    "input": "input",
    "convolution": "convolution",
    "convolution_1d": "convolution",
    "linear": "convolution",
    "relative_positions": "convolution",
    "batch_norm": "normalization",
    "layer_norm": "normalization",
    "relu": "activation",
    "sigmoid": "activation",
    "hard_sigmoid": "activation",
    "hard_swish": "activation",
    "softmax": "activation",
    "average": "average",
    "average_around": "average",
    "maximum": "average",
    "max_pool": "average",
    "sum": "sum",
    "product": "product",
    "attention": "attention",
}
SIGNS = {"difference": MINUS, "quotient": DIVIDED}
# What kinds are called in a picture, where it is not their own name.
CALLED = {
    "average_around": "average around",
    "bessel": f"{TIMES} n / (n {MINUS} 1)",
    "hard_sigmoid": "hard sigmoid",
    "hard_swish": "hard swish",
    "matrix_product": "matrix product",
    "max_pool": "maximum pooling",
    "nearest": "stretch",
    "swap_axes": "swap axes",
}


@dataclass(frozen=True)
class Node:
    """name: of its operation, or of the first block that it stands for. lines: its name in bold,
    then what it is.

    form: gives shape and colour. shape: of its output, where it differs from that of its first
        input, else "".
    covers: the blocks that a folded node stands for. shortcut: "identity" or "projected", of the
    blocks it stands for.
    """

    name: str
    form: str
    lines: tuple[str, ...]
    shape: str = ""
    covers: tuple[str, ...] = ()
    shortcut: str = ""


@dataclass(frozen=True)
class Edge:
    """What `target` takes from `source`. path: "main" or "shortcut". shape: of what it carries."""

    source: str
    target: str
    path: str
    shape: str


@dataclass(frozen=True)
class Frame:
    """A dashed line around nodes: the attention module, or a stage of a network."""

    title: str
    members: tuple[str, ...]
    form: str


@dataclass(frozen=True)
class Scene:
    """nodes: in the order of execution. trunk: those that stand one below the other. aside: those
    on the shortcut.
    """

    title: str
    notes: tuple[str, ...]
    description: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    frames: tuple[Frame, ...]
    trunk: tuple[str, ...]
    aside: tuple[str, ...]
    output: str

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def inputs(self, name: str) -> list[str]:
        return [edge.source for edge in self.edges if edge.target == name]


def scene(graph: Graph, numbers: bool = False) -> Scene:
    """What to draw. numbers: whether shapes are numbers, not formulas of the height H and the width
    W of the image.
    """
    return (
        _network(graph, numbers)
        if isinstance(graph.config, NetworkConfig)
        else _block(graph, numbers)
    )


def folding(graph: Graph) -> dict[str, str]:
    """Which node of its picture stands for each operation of a network.

    The operations of a block are one node; so are consecutive blocks of a stage that are equal (the
    same config: channels, stride, shortcut, attention), named after the first of them. Every other
    operation is a node of its own.
    """
    assert isinstance(graph.config, NetworkConfig)
    firsts: dict[str, str] = {}
    for stage, blocks in enumerate(graph.config.stages()):
        for position, block in enumerate(blocks):
            equal = position > 0 and block == blocks[position - 1]
            scope = f"stages.{stage}.{position}"
            firsts[scope] = firsts[f"stages.{stage}.{position - 1}"] if equal else scope
    scopes = {operation.name: ".".join(operation.name.split(".")[:3]) for operation in graph}
    return {name: firsts.get(scope, name) for name, scope in scopes.items()}


def shape_words(shape: Shape, numbers: bool) -> str:
    return f"({', '.join(('N', *(str(extent.size) if numbers else extent.formula for extent in shape)))})"


def _block(graph: Graph, numbers: bool) -> Scene:
    config = graph.config
    assert isinstance(config, BlockConfig)
    nodes = tuple(_node(graph, operation, numbers) for operation in graph)
    edges = tuple(
        Edge(
            source,
            operation.name,
            _path(source, operation.name),
            shape_words(graph[source].shape, numbers),
        )
        for operation in graph
        for source in operation.inputs
    )
    inside = tuple(node.name for node in nodes if node.name.split(".")[0] == "attention")
    title = f"attention: {ATTENTION[config.attention].title}"
    return Scene(
        title=config.model,
        notes=_formula(config),
        description=_description(graph, numbers),
        nodes=nodes,
        edges=edges,
        frames=(Frame(title, inside, "attention"),) if len(inside) > 1 else (),
        trunk=_trunk(graph),
        aside=tuple(node.name for node in nodes if node.name.startswith("shortcut.")),
        output=shape_words(graph.operations[-1].shape, numbers),
    )


def _path(source: str, target: str) -> str:
    """The shortcut's are the edges between the input, its own stages and the sum."""
    aside = source.startswith("shortcut.") or target.startswith("shortcut.")
    return "shortcut" if aside or (source, target) == ("input", "sum") else "main"


def _trunk(graph: Graph) -> tuple[str, ...]:
    """The main path; in the attention module the shortest way through it, which is that of the map
    that it changes.
    """
    names = [operation.name for operation in graph]
    return (*names[: names.index("bn2")], *_shortest(graph, "bn2", "sum"), graph.output)


def _shortest(graph: Graph, start: str, end: str) -> list[str]:
    ways = {start: [start]}
    for operation in graph:
        reached = [ways[source] for source in operation.inputs if source in ways]
        if reached:
            ways[operation.name] = [*min(reached, key=len), operation.name]
    return ways[end]


def _formula(config: BlockConfig) -> tuple[str, ...]:
    second = "bn2(conv2(y))" if config.attention == "none" else "attention(bn2(conv2(y)))"
    return (
        "y = relu(bn1(conv1(x)))",
        f"y = {second}",
        f"out = relu(y + {'shortcut(x)' if config.projects else 'x'})",
    )


def _description(graph: Graph, numbers: bool) -> str:
    config = graph.config
    assert isinstance(config, BlockConfig)
    before, after = (
        shape_words(operation.shape, numbers)
        for operation in (graph.operations[0], graph.operations[-1])
    )
    shortcut = f"a 1{TIMES}1 convolution and batch norm" if config.projects else "the identity"
    return f"x of shape {before}; {'; '.join(_formula(config))}, of shape {after}. The shortcut is {shortcut}."


def _node(graph: Graph, operation: Operation, numbers: bool) -> Node:
    form = FORMS.get(operation.kind, "operation")
    new = not operation.inputs or operation.shape != graph[operation.inputs[0]].shape
    new = new and operation.name != graph.output  # its shape stands beside "out"
    shape = shape_words(operation.shape, numbers) if new else ""
    return Node(operation.name, form, (_title(operation), *_details(graph, operation)), shape)


def _title(operation: Operation) -> str:
    """What to call it: its module, without the scope; else what it computes."""
    if operation.kind == "input":
        return "x"
    if operation.kind == "attention":
        return f"attention: {operation.settings['attention']}"
    if operation.module:
        return operation.module.removeprefix("attention.")
    if operation.kind in ("slice", "head_part"):
        return operation.name.split(".")[-1]
    if operation.kind == "average" and len(operation.settings["axes"]) == 2:
        return "global average"
    if operation.kind == "affine":
        return affine(operation.settings["factor"], operation.settings["offset"])
    return CALLED.get(operation.kind, operation.kind)


def _details(graph: Graph, operation: Operation) -> tuple[str, ...]:
    settings, kind = operation.settings, operation.kind
    first = graph[operation.inputs[0]] if operation.inputs else operation
    if kind in ("convolution", "convolution_1d", "max_pool"):
        channels = f"{first.shape[0].formula} {ARROW} {operation.shape[0].formula}"
        return _window(operation, channels)
    if kind == "linear":
        return (f"linear, {first.shape[0].formula} {ARROW} {operation.shape[0].formula}",)
    if kind in ("batch_norm", "layer_norm", "relative_positions"):
        return (kind.replace("_", " "),)
    if kind in ("average", "maximum"):
        axes = (first.shape[AXES.index(axis)] for axis in settings["axes"])
        return (f"over {' and '.join(map(_axis, axes))}",)
    if kind == "average_around":
        return (f"of {settings['extent']}{TIMES}{settings['extent']}",)
    if kind in SIGNS:
        names = (_title(graph[source]) for source in operation.inputs)
        apart = (f"({name})" if "+" in name else name for name in names)
        return (f" {SIGNS[kind]} ".join(apart),)
    if kind in ("slice", "head_part"):
        return (f"{_part(operation)} of {_title(first)}",)
    if kind == "attention":
        return tuple(f"{name} {value}" for name, value in settings["options"].items())
    return {"nearest": ("to nearest pixels",), "greater": ("of the two",)}.get(kind, ())


def _part(operation: Operation) -> str:
    if operation.kind == "head_part":
        return "part"
    return "first part" if operation.settings["start"] == 0 else "second part"


def _axis(extent: Extent) -> str:
    """H or W where it comes from the image's height or width."""
    return next((axis for axis in "HW" if axis in extent.formula), "channels")


def _window(operation: Operation, channels: str) -> tuple[str, ...]:
    settings = operation.settings
    kernel = TIMES.join(map(str, settings["kernel"]))
    if operation.kind == "max_pool":
        return (f"{kernel}, stride {_pair(settings['stride'])}",)
    if operation.kind == "convolution_1d":
        circular = (f"{settings['padding']} padding",) if settings["padding"] != "zero" else ()
        return (f"1-d conv, kernel {kernel}", "over channels", *circular)
    parts = [
        f"{kernel} {'depthwise' if operation.depthwise else 'conv'}",
        channels,
    ]
    parts += [f"stride {_pair(settings['stride'])}"] if settings["stride"] != (1, 1) else []
    parts += [f"dilation {settings['dilation']}"] if settings["dilation"] != 1 else []
    parts += [] if settings["bias"] else ["no bias"]
    lines = (
        [", ".join(parts)] if len(parts) < 4 else [", ".join(parts[:2]) + ",", ", ".join(parts[2:])]
    )
    # What is used a second time holds its parameters the first time.
    return tuple(lines) if operation.parameters else (*lines, "the same weights")


def _pair(pair: Sequence[int]) -> str:
    return str(pair[0] if pair[0] == pair[1] else tuple(pair))


def _network(graph: Graph, numbers: bool) -> Scene:
    config, node_of = graph.config, folding(graph)
    assert isinstance(config, NetworkConfig)
    blocks = config.named_blocks()
    nodes = tuple(
        _unit(graph, name, node_of, blocks, numbers) for name in dict.fromkeys(node_of.values())
    )
    arrivals = dict.fromkeys(
        (node_of[source], node_of[operation.name], shape_words(graph[source].shape, numbers))
        for operation in graph
        for source in operation.inputs
        if node_of[source] != node_of[operation.name]
    )
    frames = tuple(
        Frame(
            f"stage {stage}",
            tuple(node.name for node in nodes if node.name.startswith(f"stages.{stage}.")),
            "stage",
        )
        for stage in range(len(config.depths))
    )
    output = shape_words(graph.operations[-1].shape, numbers)
    return Scene(
        title=config.model,
        notes=(),
        description=f"{config.describe()}; x of shape {shape_words(graph.operations[0].shape, numbers)}, out {output}.",
        nodes=nodes,
        edges=tuple(Edge(source, target, "main", shape) for source, target, shape in arrivals),
        frames=frames,
        trunk=tuple(node.name for node in nodes),
        aside=(),
        output=output,
    )


def _unit(
    graph: Graph,
    name: str,
    node_of: Mapping[str, str],
    blocks: Mapping[str, BlockConfig],
    numbers: bool,
) -> Node:
    """A node of a folded network: an operation, or equal blocks."""
    if name not in blocks:
        return _node(graph, graph[name], numbers)
    covers = tuple(scope for scope in blocks if node_of[scope] == name)
    config = blocks[name]
    many = f"{len(covers)} {TIMES} block" if len(covers) > 1 else "block"
    strided = f", stride {_pair(config.stride)}" if config.stride != (1, 1) else ""
    kernel = TIMES.join(map(str, config.kernel_size))
    shortcut = "projected" if config.projects else "identity"
    lines = (
        many,
        f"{kernel}, {config.in_channels} {ARROW} {config.out_channels}{strided}",
        _paths(config, shortcut),
    )
    new = graph[f"{name}.conv1"].inputs[0]
    shape = (
        shape_words(graph[covers[-1]].shape, numbers)
        if graph[covers[-1]].shape != graph[new].shape
        else ""
    )
    return Node(name, "block", lines, shape, covers, shortcut)


def _paths(config: BlockConfig, shortcut: str) -> str:
    """What is on the main path beside convolutions, and what on the other."""
    return (
        f"{shortcut} shortcut"
        if config.attention == "none"
        else f"{config.attention} attention, {shortcut} shortcut"
    )
