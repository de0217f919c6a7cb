"""The pictures: they show exactly what is in the graph, in every format, and nothing covers
anything else.
"""

import random
import re
from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from resattn.drawing import terminal
from resattn.drawing.canvas import PALETTE
from resattn.drawing.geometry import CLEAR
from resattn.drawing.layout import place
from resattn.drawing.mermaid import mermaid
from resattn.drawing.nodes import FORMS, TIMES, SceneNode
from resattn.drawing.pictures import README_BLOCK, scene_of
from resattn.drawing.scene import Edge, Scene, fold_blocks, scene
from resattn.drawing.sizes import measure_nodes, measure_text
from resattn.drawing.svg import svg
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED_BLOCKS, PUBLISHED_NETWORKS
from weights import BlockConfig, BottleneckConfig, preset
from weights.graph import graph

BLOCKS = [*ATTENTION_VARIANTS, *REPRESENTATIVE, *PUBLISHED_BLOCKS.values()]
OPENED = pytest.mark.parametrize("opened", [True, False], ids=["opened", "closed"])
EVERY_BLOCK = pytest.mark.parametrize(("config", "size"), BLOCKS, ids=name_of)
EVERY_NETWORK = pytest.mark.parametrize(
    ("config", "size"),
    [
        *NETWORKS,
        *PUBLISHED_NETWORKS.values(),
        (preset("resnet20"), (32, 32)),
        (preset("se-resnet34"), (224, 224)),
        (preset("resnet50"), (224, 224)),
    ],
    ids=name_of,
)


def list_contents(found):
    """The names of a graph's operations and its edges, in order."""
    return [o.name for o in found], [(source, o.name) for o in found for source in o.inputs]


# The contents


@OPENED
@EVERY_BLOCK
def test_pictures_hold_the_graph(config, size, opened):
    """Each operation is one node and each input one edge, in SVG, Mermaid and on the terminal."""
    found = graph(config, size, opened)
    shown = scene(found)
    nodes, edges = list_contents(found)
    assert read_svg(svg(shown)) == (nodes, edges)
    assert read_mermaid(mermaid(shown)) == (nodes, edges)
    for ascii_only in (False, True):
        assert read_terminal(shown, ascii_only) == [
            (name, set(found[name].inputs)) for name in nodes
        ]


@EVERY_NETWORK
def test_networks_are_folded(config, size):
    """Blocks are nodes, consecutive equal blocks are one node, and the edges are those of the graph
    between different nodes.
    """
    found = graph(config, size, False)
    shown, node_of = scene(found), fold_blocks(found)
    nodes, edges = list_contents(found)
    folded = list(dict.fromkeys(node_of[name] for name in nodes))
    between = dict.fromkeys((node_of[a], node_of[b]) for a, b in edges if node_of[a] != node_of[b])
    assert read_svg(svg(shown)) == (folded, list(between))
    assert read_mermaid(mermaid(shown)) == (folded, list(between))
    assert [name for name, _ in read_terminal(shown, False)] == folded
    covered = [scope for node in shown.nodes for scope in node.covers]
    assert covered == [
        f"stages.{s}.{p}" for s, depth in enumerate(config.depths) for p in range(depth)
    ]
    same = [replace(block, drop_path=0.0) for block in config.blocks()]
    blocks = dict(zip(covered, same, strict=True))
    for node in shown.nodes:
        assert len({blocks[scope] for scope in node.covers}) <= 1
        for block in (blocks[scope] for scope in node.covers):
            changed = "padded" if block.shortcut == "subsample" else "projected"
            assert node.shortcut == (
                changed if block.projects or (block.changes and changed == "padded") else "identity"
            )
    for before, after in pairwise([node for node in shown.nodes if node.covers]):
        same_stage = before.name.split(".")[1] == after.name.split(".")[1]
        assert not same_stage or blocks[before.name] != blocks[after.name]


def test_which_blocks_of_a_network_are_folded():
    shown = scene(graph(preset("resnet34"), (224, 224), False))
    blocks = [(node.name, len(node.covers), node.shortcut) for node in shown.nodes if node.covers]
    assert blocks == [
        ("stages.0.0", 3, "identity"),
        ("stages.1.0", 1, "projected"),
        ("stages.1.1", 3, "identity"),
        ("stages.2.0", 1, "projected"),
        ("stages.2.1", 5, "identity"),
        ("stages.3.0", 1, "projected"),
        ("stages.3.1", 2, "identity"),
    ]
    assert [edge.shape for edge in shown.edges][-1] == "(N, 512, 1, 1)"


def read_svg(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of the nodes in a picture, and its edges."""
    elements = list(ElementTree.fromstring(text).iter())
    nodes = [element.attrib["data-name"] for element in elements if "data-name" in element.attrib]
    edges = [
        (e.attrib["data-from"], e.attrib["data-to"]) for e in elements if "data-from" in e.attrib
    ]
    return nodes, edges


def read_mermaid(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The nodes and edges of a flowchart, by the names in its comments."""
    names = dict(re.findall(r"%% (n\d+) = (.+)", text))
    declared = re.findall(r"^ +(n\d+)[\[({]", text, re.MULTILINE)
    assert declared == list(names)
    edges = re.findall(r'^ +(n\d+) [-=]{2}>(?:\|"[^"|]*"\|)? (n\d+)$', text, re.MULTILINE)
    return list(names.values()), [(names[a], names[b]) for a, b in edges]


def read_terminal(shown: Scene, ascii_only: bool) -> list[tuple[str, set[str]]]:
    """Each node with its inputs, read from the lines that lead to it."""
    names = iter(node.name for node in shown.nodes)
    lanes: dict[int, str] = {}
    nodes, joined = [], None
    text = terminal.lines(shown, ascii_only=ascii_only)
    gutter = max(len(line[0][0]) for line in text[-1:])  # the last line's is blank
    for line in terminal.strip_colours(text).splitlines()[1:-1]:
        left = line[:gutter].ljust(gutter)
        symbols = [(place, c) for place, c in enumerate(left[::2]) if c in SYMBOLS[ascii_only]]
        if not line[gutter:].strip() and any(c in LEVEL[ascii_only] for c in left[1::2]):
            joined = find_lanes(left, ascii_only)
        elif len(symbols) == 1 and line[gutter:].strip():
            lane, name = symbols[0][0], next(names)
            entering = {place for place in joined or [lane] if place in lanes}
            nodes.append((name, {lanes[place] for place in entering}))
            lanes = {
                place: source
                for place, source in lanes.items()
                if left[2 * place] in RUNNING[ascii_only]
            }
            lanes[lane], joined = name, None
    return nodes


SYMBOLS = {False: "⊕⊗○◆▣●", True: "+xo*#"}
LEVEL = {False: "─", True: "-"}
RUNNING = {False: "│║", True: "|H"}


def find_lanes(left: str, ascii_only: bool) -> list[int]:
    """The lanes that a horizontal line joins, without those that it only crosses."""
    return [
        place
        for place, c in enumerate(left[::2])
        if c not in RUNNING[ascii_only] + LEVEL[ascii_only] + " "
    ]


def graph_names(config, size):
    return [operation.name for operation in graph(config, size, False)]


@EVERY_BLOCK
def test_what_a_block_draws(config, size):
    """Two paths from x to one sum, a relu on each side of it, and the right shortcut."""
    shown = scene(graph(config, size, False))
    paths = {(edge.source, edge.target) for edge in shown.edges if edge.path == "shortcut"}
    names = [name for name in graph_names(config, size) if name.split(".")[0] == "shortcut"]
    held = ["shortcut.0", "shortcut.1"][: 1 if config.norm == "folded" else 2]
    layers = held if config.projects else []
    before = {"average": ["shortcut.average_pool"], "subsample": ["shortcut"]}
    added = before.get(config.shortcut, []) if config.stride != (1, 1) else []
    assert names == [*added, *layers]
    assert paths == set(pairwise(["input", *names, "sum"]))
    assert [node.name for node in shown.nodes if node.form == "sum"] == ["sum"]
    bottleneck = isinstance(config, BottleneckConfig)
    count = 1 + bottleneck + config.relu_before_attention
    relus = [node.name for node in shown.nodes if node.lines == ("relu",)]
    assert relus == [*["relu", "relu 2", "relu 3"][:count], "output"]
    assert shown.nodes[-1].name == "output"
    text = svg(shown)
    assert (">identity<" in text) != bool(names)
    assert (f"attention: {config.attention}" in text) == (config.attention != "none")
    assert text.count('class="shortcut" d=') == len(paths) + 1  # and the tip


def test_every_operation_has_a_form():
    """Only these kinds are plain boxes."""
    cases = [*BLOCKS, *NETWORKS, *PUBLISHED_NETWORKS.values()]
    kinds = {operation.kind for config, size in cases for operation in graph(config, size)}
    plain = {kind for kind in kinds if kind not in FORMS}
    assert plain == {
        "affine",
        "bessel",
        "concatenate",
        "difference",
        "flatten",
        "greater",
        "head_part",
        "matrix_product",
        "nearest",
        "pad",
        "quotient",
        "slice",
        "square",
        "subsample",
        "swap_axes",
    }


def test_shapes_are_formulas_or_numbers():
    config = BlockConfig(64, 128, 3, 2)
    assert "(N, 128, ⌈H/2⌉, ⌈W/2⌉)" in svg(scene_of(config))
    numbers = svg(scene_of(config, (33, 30)))
    assert "(N, 128, 17, 15)" in numbers
    assert "⌈" not in numbers


# The layout


@OPENED
@EVERY_BLOCK
def test_nothing_covers_anything(config, size, opened):
    """No boxes or words overlap, and no line runs through a box or through words."""
    for numbers in (False, True):
        check_apart(scene(graph(config, size, opened), numbers))


@EVERY_NETWORK
def test_networks_are_apart(config, size):
    check_apart(scene(graph(config, size, False)))


@pytest.mark.parametrize("seed", range(40))
def test_any_graph_is_apart(seed):
    """The layout does not depend on the attention kinds that exist."""
    check_apart(draw_at_random(random.Random(seed)))


def draw_at_random(rng: random.Random) -> Scene:
    """A graph with branches, joins and long paths; some outputs have words beside them."""
    forms = ("activation", "convolution", "operation", "average")
    nodes, edges = [SceneNode("input", "input", ("x",), "(N, 3, H, W)")], []
    for number in range(rng.randint(4, 12)):
        names, used = [node.name for node in nodes], {edge.source for edge in edges}
        inputs = dict.fromkeys(rng.sample(names, min(rng.choice((1, 1, 1, 2, 2, 3)), len(names))))
        loose = [name for name in names if name not in used]
        inputs |= {rng.choice(loose): None} if loose and rng.random() < 0.6 else {}
        form = "sum" if len(inputs) > 1 and rng.random() < 0.7 else rng.choice(forms)
        name, words = f"attention.{number}", "(N, 3, 1, 1)" if rng.random() < 0.5 else ""
        nodes.append(SceneNode(name, form, (name, "some words")[: rng.randint(1, 2)], words))
        edges += [Edge(source, name, "main", "") for source in inputs]
    loose = [node.name for node in nodes if node.name not in {edge.source for edge in edges}]
    nodes.append(SceneNode("output", "sum", ("output",)))
    edges += [Edge(source, "output", "main", "") for source in loose]
    ways = {"input": ["input"]}
    for node in nodes[1:]:
        shortest = min((ways[edge.source] for edge in edges if edge.target == node.name), key=len)
        ways[node.name] = [*shortest, node.name]
    return Scene("", (), "", tuple(nodes), tuple(edges), (), tuple(ways["output"]), (), "")


def check_apart(shown: Scene) -> None:
    sizes = measure_nodes(shown)
    placed = place(shown, sizes, [measure_text(frame.title, 13, True) for frame in shown.frames])
    boxes, labels = {}, {}
    for node in shown.nodes:
        (x, y), size = placed.centres[node.name], sizes[node.name]
        boxes[node.name] = (
            x - size.width / 2,
            y - size.height / 2,
            x + size.width / 2,
            y + size.height / 2,
        )
        if node.shape and node.form != "input":
            middle = y + size.height / 2 + 11
            labels[node.name] = (x + CLEAR, middle - 6, x + CLEAR + size.label, middle + 6)
    for (one, a), (other, b) in combinations([*boxes.items(), *labels.items()], 2):
        assert not overlap(a, b), (one, other)
    lines = []
    for edge, points in placed.routes:
        assert points[-1][1] >= points[0][1]
        for (x0, y0), (x1, y1) in pairwise(points):
            assert x0 == x1 or y0 == y1
            line = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
            lines.append((edge.source, line))
            for name, box in (*boxes.items(), *labels.items()):
                # A line ends at its circle, inside of the square around it.
                assert not overlap(line, box) or (name == edge.target and sizes[name].round), (
                    edge,
                    name,
                )
    for (one, a), (other, b) in combinations(lines, 2):
        assert one == other or not run_along(a, b), (one, other)
    for frame, (left, top, right, bottom) in zip(shown.frames, placed.frames, strict=True):
        for name, box in boxes.items():
            within = left < box[0] and box[2] < right and top < box[1] and box[3] < bottom
            assert within == (name in frame.members), (frame.title, name)
            assert within or not overlap(box, (left, top, right, bottom)), name


def overlap(a, b):
    """Whether two bounds (left, top, right, bottom) overlap; those that only touch do not."""
    return a[0] < b[2] - 0.01 and b[0] < a[2] - 0.01 and a[1] < b[3] - 0.01 and b[1] < a[3] - 0.01


def run_along(a, b):
    """Whether two lines, both upright or both level, share a part."""
    x = max(a[0], b[0]), min(a[2], b[2])
    y = max(a[1], b[1]), min(a[3], b[3])
    return (a[0] == a[2] == b[0] == b[2] and y[0] < y[1] - 0.01) or (
        a[1] == a[3] == b[1] == b[3] and x[0] < x[1] - 0.01
    )


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_svg_is_whole(theme):
    """It is well-formed, has a title and a description, and nothing is outside of its frame."""
    root = ElementTree.fromstring(svg(scene_of(README_BLOCK), theme))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        if element.tag.endswith("}text"):
            size = (
                16
                if "heading" in element.attrib["class"]
                else 13
                if "name" in element.attrib["class"]
                else 12
            )
            half = measure_text(element.text, size, size > 12) * (
                0.5 if element.attrib["text-anchor"] == "middle" else 1
            )
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            assert left < x + (0 if element.attrib["text-anchor"] == "start" else -half)
            assert x + half < left + width
            assert top < y < top + height
    assert ("prefers-color-scheme" in root.find("{*}style").text) == (theme == "auto")
    assert f"shortcut is a 1{TIMES}1 convolution" in root.find("{*}desc").text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_stand_out(dark):
    """Contrasts as WCAG 2.2 asks: 4.5 for words (1.4.3), 3 for lines and outlines (1.4.11)."""
    fills, strokes = (
        {name: row[2 * dark + place] for name, row in PALETTE.items()} for place in (0, 1)
    )
    for name, fill in fills.items():
        if fill == "none" or name in ("ink", "quiet"):
            continue
        assert measure_contrast(fill, fills["ink"]) >= 4.5, name
        assert (
            name not in ("paper", "attention") or measure_contrast(fill, fills["quiet"]) >= 4.5
        ), name
    for name, stroke in strokes.items():
        assert (
            stroke == "none" or name == "paper" or measure_contrast(stroke, fills["paper"]) >= 3
        ), name
        assert (
            stroke == "none" or name == "paper" or measure_contrast(stroke, fills["attention"]) >= 3
        ), name


def measure_contrast(one: str, other: str) -> float:
    lights = sorted(map(measure_luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def measure_luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_terminal_has_80_columns():
    for config, size in [*BLOCKS, *NETWORKS]:
        for ascii_only in (False, True):
            text = terminal.strip_colours(
                terminal.lines(scene_of(config, size), ascii_only=ascii_only)
            )
            assert max(map(len, text.splitlines())) <= 80, text
            assert text.isascii() or not ascii_only
