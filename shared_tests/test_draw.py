"""The pictures: they show exactly what the graph holds, in every form; nothing in them covers
anything else.
"""

import random
import re
import subprocess
import sys
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays
from resattn.cli.app import app, main
from resattn.drawing import pictures as draw
from resattn.drawing import terminal
from resattn.drawing.layout import CLEAR, place
from resattn.drawing.mermaid import mermaid
from resattn.drawing.scene import FORMS, TIMES, Edge, Node, Scene, folding, scene
from resattn.drawing.svg import COLOURS, drawn, sizes_of, svg, text_width
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig, preset, write
from weights.graph import graph

ROOT = Path(__file__).parent.parent
BLOCKS = ATTENTION_VARIANTS + REPRESENTATIVE
OPENED = pytest.mark.parametrize("opened", [True, False], ids=["opened", "closed"])
EVERY_BLOCK = pytest.mark.parametrize(("config", "size"), BLOCKS, ids=name_of)
EVERY_NETWORK = pytest.mark.parametrize(
    ("config", "size"),
    [*NETWORKS, (preset("resnet20"), (32, 32)), (preset("se-resnet34"), (224, 224))],
    ids=name_of,
)


def contents(found):
    """The names of a graph's operations and its edges, in order."""
    return [o.name for o in found], [(source, o.name) for o in found for source in o.inputs]


# What is shown


@OPENED
@EVERY_BLOCK
def test_pictures_hold_the_graph(config, size, opened):
    """Each operation is one node, each input one edge: in SVG, in Mermaid and on the terminal."""
    found = graph(config, size, opened)
    shown = scene(found)
    nodes, edges = contents(found)
    assert drawn(svg(shown)) == (nodes, edges)
    assert in_mermaid(mermaid(shown)) == (nodes, edges)
    for ascii_only in (False, True):
        assert on_terminal(shown, ascii_only) == [(name, set(found[name].inputs)) for name in nodes]


@EVERY_NETWORK
def test_networks_are_folded(config, size):
    """Blocks are nodes; equal ones in a row are one; their edges are those of the graph between
    different nodes.
    """
    found = graph(config, size, False)
    shown, node_of = scene(found), folding(found)
    nodes, edges = contents(found)
    folded = list(dict.fromkeys(node_of[name] for name in nodes))
    between = dict.fromkeys((node_of[a], node_of[b]) for a, b in edges if node_of[a] != node_of[b])
    assert drawn(svg(shown)) == (folded, list(between))
    assert in_mermaid(mermaid(shown)) == (folded, list(between))
    assert [name for name, _ in on_terminal(shown, False)] == folded
    covered = [scope for node in shown.nodes for scope in node.covers]
    assert covered == [
        f"stages.{s}.{p}" for s, depth in enumerate(config.depths) for p in range(depth)
    ]
    blocks = dict(zip(covered, config.blocks(), strict=True))
    for node in shown.nodes:
        assert len({blocks[scope] for scope in node.covers}) <= 1
        assert all(
            node.shortcut == ("projected" if blocks[scope].projects else "identity")
            for scope in node.covers
        )
    for before, after in pairwise([node for node in shown.nodes if node.covers]):
        same_stage = before.name.split(".")[1] == after.name.split(".")[1]
        assert not same_stage or blocks[before.name] != blocks[after.name]


def test_the_folding_of_a_network():
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


def in_mermaid(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The nodes and edges of a flowchart, by the names in its comments."""
    names = dict(re.findall(r"%% (n\d+) = (.+)", text))
    declared = re.findall(r"^ +(n\d+)[\[({]", text, re.MULTILINE)
    assert declared == list(names)
    edges = re.findall(r'^ +(n\d+) [-=]{2}>(?:\|"[^"|]*"\|)? (n\d+)$', text, re.MULTILINE)
    return list(names.values()), [(names[a], names[b]) for a, b in edges]


def on_terminal(shown: Scene, ascii_only: bool) -> list[tuple[str, set[str]]]:
    """Each node with its inputs, read from the lines that lead to it."""
    names = iter(node.name for node in shown.nodes)
    lanes: dict[int, str] = {}
    nodes, joined = [], None
    text = terminal.lines(shown, ascii_only=ascii_only)
    gutter = max(len(line[0][0]) for line in text[-1:])  # the last line's is blank
    for line in terminal.plain(text).splitlines()[1:-1]:
        left = line[:gutter].ljust(gutter)
        symbols = [(place, c) for place, c in enumerate(left[::2]) if c in SYMBOLS[ascii_only]]
        if not line[gutter:].strip() and any(c in LEVEL[ascii_only] for c in left[1::2]):
            joined = across(left, ascii_only)
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


def across(left: str, ascii_only: bool) -> list[int]:
    """The lanes that a horizontal line joins: not those that it only passes."""
    return [
        place
        for place, c in enumerate(left[::2])
        if c not in RUNNING[ascii_only] + LEVEL[ascii_only] + " "
    ]


@EVERY_BLOCK
def test_what_a_block_draws(config, size):
    """Two paths that part at x and meet in one sum; one relu on each side of it; the shortcut that
    there is.
    """
    shown = scene(graph(config, size, False))
    paths = {(edge.source, edge.target) for edge in shown.edges if edge.path == "shortcut"}
    ways = {("input", "shortcut.0"), ("shortcut.0", "shortcut.1"), ("shortcut.1", "sum")}
    assert paths == (ways if config.projects else {("input", "sum")})
    assert [node.name for node in shown.nodes if node.form == "sum"] == ["sum"]
    assert [node.name for node in shown.nodes if node.lines == ("relu",)] == ["relu", "output"]
    assert shown.nodes[-1].name == "output"
    text = svg(shown)
    assert (">identity<" in text) != config.projects
    assert (f"attention: {config.attention}" in text) == (config.attention != "none")
    assert text.count('class="shortcut" d=') == len(paths) + 1  # and the tip


def test_every_operation_has_a_form():
    """What is a plain box is meant to be one."""
    kinds = {
        operation.kind for config, size in BLOCKS + NETWORKS for operation in graph(config, size)
    }
    plain = {kind for kind in kinds if kind not in FORMS}
    assert plain == {
        "affine",
        "bessel",
        "concatenate",
        "difference",
        "greater",
        "head_part",
        "matrix_product",
        "nearest",
        "quotient",
        "slice",
        "square",
        "swap_axes",
    }


def test_shapes_are_formulas_or_numbers():
    config = BlockConfig(64, 128, 3, 2)
    assert "(N, 128, ⌈H/2⌉, ⌈W/2⌉)" in svg(draw.scene_of(config))
    numbers = svg(draw.scene_of(config, (33, 30)))
    assert "(N, 128, 17, 15)" in numbers
    assert "⌈" not in numbers


# Where it is shown


@OPENED
@EVERY_BLOCK
def test_nothing_covers_anything(config, size, opened):
    """Boxes are apart, no line runs through a box or through words, words are apart."""
    for numbers in (False, True):
        apart(scene(graph(config, size, opened), numbers))


@EVERY_NETWORK
def test_networks_are_apart(config, size):
    apart(scene(graph(config, size, False)))


@pytest.mark.parametrize("seed", range(40))
def test_any_graph_is_apart(seed):
    """The layout knows no attention kind: what holds for those that there are holds for what may
    come.
    """
    apart(drawn_at_random(random.Random(seed)))


def drawn_at_random(rng: random.Random) -> Scene:
    """A graph with branches, joins and long ways, some outputs with words beside them."""
    forms = ("activation", "convolution", "operation", "average")
    nodes, edges = [Node("input", "input", ("x",), "(N, 3, H, W)")], []
    for number in range(rng.randint(4, 12)):
        names, used = [node.name for node in nodes], {edge.source for edge in edges}
        inputs = dict.fromkeys(rng.sample(names, min(rng.choice((1, 1, 1, 2, 2, 3)), len(names))))
        loose = [name for name in names if name not in used]
        inputs |= {rng.choice(loose): None} if loose and rng.random() < 0.6 else {}
        form = "sum" if len(inputs) > 1 and rng.random() < 0.7 else rng.choice(forms)
        name, words = f"attention.{number}", "(N, 3, 1, 1)" if rng.random() < 0.5 else ""
        nodes.append(Node(name, form, (name, "some words")[: rng.randint(1, 2)], words))
        edges += [Edge(source, name, "main", "") for source in inputs]
    loose = [node.name for node in nodes if node.name not in {edge.source for edge in edges}]
    nodes.append(Node("output", "sum", ("output",)))
    edges += [Edge(source, "output", "main", "") for source in loose]
    ways = {"input": ["input"]}
    for node in nodes[1:]:
        shortest = min((ways[edge.source] for edge in edges if edge.target == node.name), key=len)
        ways[node.name] = [*shortest, node.name]
    return Scene("", (), "", tuple(nodes), tuple(edges), (), tuple(ways["output"]), (), "")


def apart(shown: Scene) -> None:
    sizes = sizes_of(shown)
    placed = place(shown, sizes, [text_width(frame.title, 13, True) for frame in shown.frames])
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
        assert one == other or not along(a, b), (one, other)
    for frame, (left, top, right, bottom) in zip(shown.frames, placed.frames, strict=True):
        for name, box in boxes.items():
            within = left < box[0] and box[2] < right and top < box[1] and box[3] < bottom
            assert within == (name in frame.members), (frame.title, name)
            assert within or not overlap(box, (left, top, right, bottom)), name


def overlap(a, b):
    """Of two (left, top, right, bottom); those that touch do not."""
    return a[0] < b[2] - 0.01 and b[0] < a[2] - 0.01 and a[1] < b[3] - 0.01 and b[1] < a[3] - 0.01


def along(a, b):
    """Whether two lines, both upright or both level, run on one another."""
    x = max(a[0], b[0]), min(a[2], b[2])
    y = max(a[1], b[1]), min(a[3], b[3])
    return (a[0] == a[2] == b[0] == b[2] and y[0] < y[1] - 0.01) or (
        a[1] == a[3] == b[1] == b[3] and x[0] < x[1] - 0.01
    )


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_svg_is_whole(theme):
    """Well-formed, all of it inside its frame, words inside their boxes, with a title and a
    description.
    """
    root = ElementTree.fromstring(svg(draw.scene_of(draw.README_BLOCK), theme))
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
            half = text_width(element.text, size, size > 12) * (
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
    """Contrasts as WCAG 2.2 asks: 4.5 of words (1.4.3), 3 of lines and outlines (1.4.11)."""
    fills, strokes = (
        {name: row[2 * dark + place] for name, row in COLOURS.items()} for place in (0, 1)
    )
    for name, fill in fills.items():
        if fill == "none" or name in ("ink", "quiet"):
            continue
        assert contrast(fill, fills["ink"]) >= 4.5, name
        assert name not in ("paper", "attention") or contrast(fill, fills["quiet"]) >= 4.5, name
    for name, stroke in strokes.items():
        assert stroke == "none" or name == "paper" or contrast(stroke, fills["paper"]) >= 3, name
        assert stroke == "none" or name == "paper" or contrast(stroke, fills["attention"]) >= 3, (
            name
        )


def contrast(one: str, other: str) -> float:
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_terminal_has_80_columns():
    for config, size in [*BLOCKS, *NETWORKS]:
        for ascii_only in (False, True):
            text = terminal.plain(
                terminal.lines(draw.scene_of(config, size), ascii_only=ascii_only)
            )
            assert max(map(len, text.splitlines())) <= 80, text
            assert text.isascii() or not ascii_only


# The command


def run(*arguments):
    return CliRunner().invoke(app, ["draw", *map(str, arguments)])


def fails(error, message, *arguments):
    result = run(*arguments)
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_pictures_of_the_readme_are_up_to_date():
    for name, config in draw.README_PICTURES.items():
        assert (draw.FOLDER / name).read_text(encoding="utf-8") == svg(draw.scene_of(config)), (
            "run: make picture"
        )
    assert "pictures/block.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_draw_on_the_terminal(tmp_path):
    output = run().output
    assert f"conv1  3{TIMES}3 conv, 64 → 128, stride 2" in output
    assert "sigmoid" in output
    assert "\x1b" not in output
    assert "\n│ ▣  attention: se\n" in run("--closed").output
    config = attention_block("eca", {}, (3, 6))
    write(tmp_path / "block.safetensors", config, random_arrays(config))
    assert "1-d conv, kernel" in run(tmp_path / "block.safetensors").output
    assert "(N, 6, 5, 4)" in run(tmp_path / "block.safetensors", "--size", "9x8").output


def test_a_terminal_without_unicode():
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "resattn.cli.app", "draw"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "64 -> 128, stride 2" in done.stdout


def test_draw_files(tmp_path):
    for suffix, start in (
        (".svg", b"<svg "),
        (".mmd", b"%%{init: "),
        (".md", b"# ResidualBlockWithAttention\n"),
    ):
        target = tmp_path / f"picture{suffix}"
        assert run("--to", target).exit_code == 0
        assert target.read_bytes().startswith(start)
    fails(ValueError, "exists already; pass --force to replace it", "--to", target)
    assert run("--to", target, "--force", "--config", "se-resnet18").exit_code == 0
    page = target.read_text(encoding="utf-8")
    assert page.startswith("# ResidualAttentionNetwork\n")
    assert re.search(r"```mermaid\n%%\{init.*\}%%\nflowchart TB\n", page)
    dark = tmp_path / "dark.svg"
    run("--to", dark, "--dark")
    assert "prefers-color-scheme" not in dark.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dark.svg",
        "picture.md",
        "picture.mmd",
        "picture.svg",
    ]


def test_draw_pixels(tmp_path):
    pytest.importorskip("resvg_py")
    heights = []
    for scale, options in ((1, []), (2, ["--dark"])):
        target = tmp_path / f"{scale}.png"
        result = run("--to", target, "--scale", scale, *options)
        if "needs a font" in str(result.exception):
            pytest.skip("this machine has no font")
        assert result.exit_code == 0, result.output
        content = target.read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        heights.append(int.from_bytes(content[20:24]))
    assert heights[1] == 2 * heights[0]


def test_without_a_font(tmp_path, monkeypatch):
    resvg_py = pytest.importorskip("resvg_py")
    monkeypatch.setattr(
        resvg_py, "svg_to_bytes", partial(resvg_py.svg_to_bytes, skip_system_fonts=True)
    )
    fails(
        ValueError,
        "drawing .png needs a font, but this system has none",
        "--to",
        tmp_path / "picture.png",
    )


def test_without_the_library_for_pixels(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    target = tmp_path / "picture.png"
    fails(
        ImportError, 'needs resvg-py; install it with: pip install "resattn[draw]"', "--to", target
    )
    monkeypatch.setattr(sys, "argv", ["resattn", "draw", "--to", str(target)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_one_block_of_a_network():
    output = run("--config", "se-resnet18", "--block", "stages.1.0", "--size", "224x224").output
    assert "(N, 64, 56, 56)" in output
    assert f"shortcut.0  1{TIMES}1 conv, 64 → 128, stride 2, no bias" in output
    fails(
        ValueError,
        "block: expected one of stages.0.0, stages.0.1,",
        "--config",
        "resnet18",
        "--block",
        "stage1",
    )
    fails(ValueError, "block: got 'conv1', but there is only one block", "--block", "conv1")


def test_what_cannot_be_drawn(tmp_path):
    fails(
        ValueError,
        "picture.gif: cannot draw .gif; expected one of .svg, .png, .mmd, .md",
        "--to",
        tmp_path / "picture.gif",
    )
    fails(ValueError, "cannot draw a file without suffix", "--to", tmp_path / "picture")
    fails(FileNotFoundError, "does not exist", "--to", tmp_path / "none" / "picture.svg")
    fails(ValueError, "--open, --closed: are for one block", "--config", "resnet18", "--open")
    fails(ValueError, "--size: expected HEIGHTxWIDTH", "--size", "9")
    fails(ValueError, "--naming: names what is in a file", "--naming", "torchvision")
    mhsa = attention_block("mhsa", {"heads": 1, "size": None}).to_json()
    message = (
        "size: images of 9 x 9 do not fit attention: mhsa: was made for maps of 5 x 4 (height x "
        "width) by its option size, got 5 x 5; images of 10 x 8 fit"
    )
    fails(ValueError, message, "--config", mhsa, "--size", "9x9")
    halved = attention_block("nonlocal", {"subsample": True}).to_json()
    fails(
        ValueError,
        "nonlocal with subsample: expected 2 or more along each axis, got 1 x 5",
        "--config",
        halved,
        "--size",
        "2x9",
    )
