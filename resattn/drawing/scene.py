"""What a picture shows of a graph, before it has positions: nodes, edges and frames with words.

A block has one node for each operation of `weights.graph.graph`, and one edge for each input. The
equal blocks of a network are one node; see `fold_blocks`. `resattn.drawing.svg`,
`resattn.drawing.mermaid` and `resattn.drawing.terminal` draw scenes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from resattn.drawing.nodes import ARROW, TIMES, SceneNode, format_shape, make_node
from resattn.explaining.wording import format_pair
from weights.attention import ATTENTION
from weights.checks import SAME
from weights.config import BlockConfig, BottleneckConfig, NetworkConfig
from weights.graph import IMAGE, Graph
from weights.language import join_texts, mark, say
from weights.presets import find_preset


@dataclass(frozen=True)
class Edge:
    """A value that `target` takes from `source`. path: "main" or "shortcut". shape: of the value.
    is_identity: whether it is a whole shortcut, from the input of a block to its sum.
    """

    source: str
    target: str
    path: str
    shape: str
    is_identity: bool = False


@dataclass(frozen=True)
class Frame:
    """A dashed line around nodes: the attention module, or a stage of a network. detail: what
    else there is to say, beside the title.
    """

    title: str
    members: tuple[str, ...]
    form: str
    detail: str = ""


@dataclass(frozen=True)
class Scene:
    """nodes: in the order of execution. trunk: the nodes of the main path, in one column. aside:
    those on the shortcut. output: the shape of the output, "" if there is none. summary: a line
    below the title.
    """

    title: str
    notes: tuple[str, ...]
    description: str
    nodes: tuple[SceneNode, ...]
    edges: tuple[Edge, ...]
    frames: tuple[Frame, ...]
    trunk: tuple[str, ...]
    aside: tuple[str, ...]
    output: str
    summary: str = ""

    def __repr__(self) -> str:
        return f"<Scene of {self.title}: {len(self.nodes)} nodes>"

    def __getitem__(self, name: str) -> SceneNode:
        return next(node for node in self.nodes if node.name == name)

    def inputs(self, name: str) -> list[str]:
        return [edge.source for edge in self.edges if edge.target == name]


SHAPES = mark("shapes: (images, channels, height, width)")  # a legend
# The shortcuts of a block, as `SceneNode` has them.
SHORTCUT_LABELS = {
    "identity": mark("identity shortcut"),
    "projected": mark("projected shortcut"),
    "padded": mark("padded shortcut"),
    "pooled": mark("pooled and projected shortcut"),
}


def scene(graph: Graph, numbers: bool = False) -> Scene:
    """The scene of a graph.

    numbers: whether shapes are numbers instead of formulas of the image's height H and width W.
    """
    if isinstance(graph.config, NetworkConfig):
        return _make_network(graph, graph.config, numbers)
    return _make_block(graph, graph.config, numbers)


# Blocks


def _make_block(graph: Graph, config: BlockConfig, numbers: bool) -> Scene:
    nodes = tuple(make_node(graph, operation, numbers) for operation in graph)
    edges = tuple(
        Edge(
            source,
            operation.name,
            _find_path(source, operation.name),
            format_shape(graph[source].shape, numbers),
            (source, operation.name) == (IMAGE, "sum"),
        )
        for operation in graph
        for source in operation.inputs
    )
    inside = tuple(node.name for node in nodes if node.name.split(".")[0] == "attention")
    title = say("attention: {title}", title=say(ATTENTION[config.attention].title))
    return Scene(
        title=config.model,
        notes=_list_formulas(config),
        description=_describe(graph, config, numbers),
        nodes=nodes,
        edges=edges,
        frames=(Frame(title, inside, "attention"),) if len(inside) > 1 else (),
        trunk=_find_trunk(graph, config.last_layer),
        aside=tuple(node.name for node in nodes if _is_aside(node.name)),
        output=format_shape(graph.operations[-1].shape, numbers),
        summary=_count(graph, with_products=numbers),
    )


def _find_path(source: str, target: str) -> str:
    """The shortcut consists of the edges between the input, its own stages and the sum."""
    aside = _is_aside(source) or _is_aside(target) or (source, target) == (IMAGE, "sum")
    return "shortcut" if aside else "main"


def _is_aside(name: str) -> bool:
    return name.split(".")[0] == "shortcut"


def _find_trunk(graph: Graph, norm: str) -> tuple[str, ...]:
    """The main path; in the attention module, after the last norm, the shortest path, which is that
    of the map which the module changes.
    """
    names = [operation.name for operation in graph]
    shortest = {norm: [norm]}
    for operation in graph:
        reached = [shortest[source] for source in operation.inputs if source in shortest]
        if reached:
            shortest[operation.name] = [*min(reached, key=len), operation.name]
    return (*names[: names.index(norm)], *shortest["sum"], graph.output)


def _list_formulas(config: BlockConfig) -> tuple[str, ...]:
    pooled = f"{config.antialias}_pool(y)" if config.pools else "y"
    y = _name_layer(config, len(config.normed_channels), pooled)
    y = f"relu({y})" if config.relu_before_attention else y
    y = y if config.attention == "none" else f"attention({y})"
    between = (
        (f"y = relu({_name_layer(config, 2, 'y')})",)
        if isinstance(config, BottleneckConfig)
        else ()
    )
    identity = _find_shortcut(config) == "identity"
    return (
        f"y = relu({_name_layer(config, 1, 'x')})",
        *between,
        f"y = {y}",
        f"out = relu(y + {'x' if identity else 'shortcut(x)'})",
    )


def _name_layer(config: BlockConfig, number: int, x: str) -> str:
    """A convolution of the main path with its norm, if it has one."""
    y = f"conv{number}({x})"
    return y if config.norm == "folded" else f"bn{number}({y})"


def _find_shortcut(config: BlockConfig) -> str:
    """As `SceneNode` has it."""
    names = {"subsample": "padded", "average": "projected", "projection": "projected"}
    return names.get(config.shortcut_form, config.shortcut_form)


def _describe(graph: Graph, config: BlockConfig, numbers: bool) -> str:
    before, after = (
        format_shape(operation.shape, numbers)
        for operation in (graph.operations[0], graph.operations[-1])
    )
    kernel = TIMES.join(map(str, config.shortcut_kernel))
    projection = {
        "folded": say("a {kernel} convolution", kernel=kernel),
        "batch": say("a {kernel} convolution and batch norm", kernel=kernel),
        "group": say("a {kernel} convolution and group norm", kernel=kernel),
    }[config.norm]
    if config.shortcut_form == "average":
        projection = say("an average pooling, {projection}", projection=projection)
    shortcut = {
        "identity": say("the identity"),
        "padded": say("every pixel on which the stride lands, with channels of zeros"),
        "projected": projection,
    }[_find_shortcut(config)]
    formulas = "; ".join(_list_formulas(config))
    return say(
        "x of shape {before}; {formulas}, of shape {after}. The shortcut is {shortcut}.",
        before=before,
        formulas=formulas,
        after=after,
        shortcut=shortcut,
    )


# Networks


def fold_blocks(graph: Graph) -> dict[str, str]:
    """For each operation of a network, the node that represents it in the picture.

    The operations of a block are one node. So are consecutive blocks of a stage with equal configs
    (channels, stride, shortcut, attention); the node has the name of the first one. Every other
    operation is a node of its own.
    """
    assert isinstance(graph.config, NetworkConfig)
    firsts: dict[str, str] = {}
    for stage, blocks in enumerate(graph.config.stages()):
        for position, block in enumerate(blocks):
            equal = position > 0 and is_same_block(block, blocks[position - 1])
            scope = f"stages.{stage}.{position}"
            firsts[scope] = firsts[f"stages.{stage}.{position - 1}"] if equal else scope
    scopes = {operation.name: ".".join(operation.name.split(".")[:3]) for operation in graph}
    return {name: firsts.get(scope, name) for name, scope in scopes.items()}


def is_same_block(block: BlockConfig, other: BlockConfig) -> bool:
    """Whether two blocks compute the same but for what training leaves out at random."""
    return replace(block, drop_path=0.0) == replace(other, drop_path=0.0)


def _make_network(graph: Graph, config: NetworkConfig, numbers: bool) -> Scene:
    node_of = fold_blocks(graph)
    blocks = config.named_blocks()
    nodes = tuple(
        _make_folded(graph, name, node_of, blocks, numbers)
        for name in dict.fromkeys(node_of.values())
    )
    arrivals = dict.fromkeys(
        (node_of[source], node_of[operation.name], format_shape(graph[source].shape, numbers))
        for operation in graph
        for source in operation.inputs
        if node_of[source] != node_of[operation.name]
    )
    frames = tuple(
        Frame(
            say("stage {stage}", stage=stage),
            tuple(node.name for node in nodes if node.name.startswith(f"stages.{stage}.")),
            "stage",
            _count(graph, f"stages.{stage}."),
        )
        for stage in range(len(config.depths))
    )
    given, output = (
        format_shape(operation.shape, numbers)
        for operation in (graph.operations[0], graph.operations[-1])
    )
    known = find_preset(config)
    return Scene(
        title=f"{config.model} {known}" if known else config.model,
        notes=(),
        description=say(
            "{config}; x of shape {given}, out {output}.",
            config=config.describe(),
            given=given,
            output=output,
        ),
        nodes=nodes,
        edges=tuple(Edge(source, target, "main", shape) for source, target, shape in arrivals),
        frames=frames,
        trunk=tuple(node.name for node in nodes),
        aside=(),
        output=output,
        summary=say(
            "{counts} for {size}",
            counts=_count(graph),
            size=f" {TIMES} ".join(map(str, graph.size)),
        ),
    )


def _count(graph: Graph, scope: str = "", with_products: bool = True) -> str:
    """How many parameters and multiply-adds the operations within a scope have."""
    parameters = sum(
        prod(each.shape)
        for each in graph.parameters
        if each.trainable and each.name.startswith(scope)
    )
    products = sum(each.multiply_adds for each in graph if each.name.startswith(scope))
    if not with_products:
        return say("{count} parameters", count=_shorten(parameters))
    return say(
        "{count} parameters, {products} multiply-adds",
        count=_shorten(parameters),
        products=_shorten(products),
    )


def _shorten(number: int) -> str:
    """Three digits: 11.8M, 230k, 1.82G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + unit
    return str(number)


def _make_folded(
    graph: Graph,
    name: str,
    node_of: Mapping[str, str],
    blocks: Mapping[str, BlockConfig],
    numbers: bool,
) -> SceneNode:
    """A node of a network: an operation, or equal blocks."""
    if name not in blocks:
        return make_node(graph, graph[name], numbers)
    covers = tuple(scope for scope in blocks if node_of[scope] == name)
    config = blocks[name]
    form = mark("bottleneck") if isinstance(config, BottleneckConfig) else mark("block")
    many = f"{len(covers)} {TIMES} {say(form)}" if len(covers) > 1 else say(form)
    kernel = TIMES.join(map(str, config.kernel_size))
    shortcut = _find_shortcut(config)
    attention = (
        ""
        if config.attention == "none"
        else say("{attention} attention, ", attention=config.attention)
    )
    side = SHORTCUT_LABELS["pooled" if config.shortcut_form == "average" else shortcut]
    lines = (
        many,
        f"{kernel}, {_list_widths(config)}{_describe_stride(config)}",
        *_list_options(config),
        join_texts((attention, say(side))),
    )
    given, made = graph[graph[f"{name}.conv1"].inputs[0]].shape, graph[covers[-1]].shape
    shape = format_shape(made, numbers) if made != given else ""
    return SceneNode(name, "block", lines, shape, covers, shortcut)


def _list_widths(config: BlockConfig) -> str:
    """The channels between the convolutions of the main path; equal neighbours of a bottleneck
    once.
    """
    widths = [config.in_channels, config.out_channels]
    if isinstance(config, BottleneckConfig):
        inner = dict.fromkeys((config.first_channels, config.hidden_channels))
        widths = [config.in_channels, *inner, config.out_channels]
    return f" {ARROW} ".join(map(str, widths))


def _describe_stride(config: BlockConfig) -> str:
    if config.stride == (1, 1):
        return ""
    early = isinstance(config, BottleneckConfig) and config.stride_at == "conv1"
    words = mark(", stride {stride} in conv1") if early else mark(", stride {stride}")
    return say(words, stride=format_pair(config.stride))


def _list_options(config: BlockConfig) -> tuple[str, ...]:
    """The unusual options, in one line or none."""
    groups = config.groups if isinstance(config, BottleneckConfig) else 1
    kernel = config.shortcut_kernel
    pools = {"blur": say("blur"), "average": say("average pooling")}
    words = {
        say("{count} groups", count=groups): groups > 1,
        say("dilation {dilation}", dilation=config.dilation[1]): config.dilation != (1, 1),
        pools.get(config.antialias, ""): config.pools,
        say("SAME padding"): config.padding == SAME,
        say("group norm of {count}", count=config.norm_groups): config.norm == "group",
        say("batch norms folded"): config.norm == "folded",
        say("relu before attention"): config.relu_before_attention,
        say("{kernel} shortcut", kernel=TIMES.join(map(str, kernel))): config.projects
        and kernel != (1, 1),
    }
    found = [word for word, is_set in words.items() if is_set]
    return (", ".join(found),) if found else ()
