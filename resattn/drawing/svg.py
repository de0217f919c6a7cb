"""A scene as a self-contained SVG for light and dark pages.

Every node is a group with `data-name`, every edge a path with `data-from` and `data-to`: a test
reads them back.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from resattn.drawing.layout import CLEAR, Placed, Point, Size, place
from resattn.drawing.scene import ARROW, DIVIDED, MINUS, Edge, Frame, Node, Scene

MARGIN, LINE, PADDING, SIDE_PADDING = 18, 16, 7, 12
NODE_RADIUS, DOT_RADIUS, LEAST_WIDTH, HEADING_GAP, HEADING_HEIGHT, TAIL = 15, 3.5, 84, 36, 62, 26
MAIN_WIDTH, SHORTCUT_WIDTH, BLOCK_WIDTH, GLYPH_ROOM = 210, 160, 250, 44

# Fill and stroke on a light page, then on a dark one: the hues of Okabe and Ito, which stay apart
# in every common colour blindness, darkened or lightened until they stand out. Classes: not every
# renderer knows custom properties.
COLOURS = {
    "paper": ("#ffffff", "#d0d7de", "#0d1117", "#30363d"),
    "ink": ("#1f2328", "none", "#e6edf3", "none"),
    "quiet": ("#57606a", "none", "#a3adb8", "none"),
    "main": ("none", "#57606a", "none", "#a3adb8"),
    "shortcut": ("none", "#c65300", "none", "#f0823a"),
    "convolution": ("#deedf7", "#0072b2", "#10304a", "#56b4e9"),
    "normalization": ("#dcf3eb", "#008561", "#0c382d", "#2bbf95"),
    "activation": ("#fdf0d2", "#a06a00", "#3d2e0a", "#e69f00"),
    "average": ("#ffffff", "#a3477b", "#0d1117", "#dc8fb9"),
    "attention": ("#f9edf4", "#a3477b", "#2b1a25", "#dc8fb9"),
    "operation": ("#ffffff", "#1f2328", "#0d1117", "#e6edf3"),
    "block": ("#ffffff", "#1f2328", "#0d1117", "#e6edf3"),
    "wrong": ("#ffe3e3", "#a3000f", "#4a1519", "#ff8a8a"),
    "stage": ("#f4f6f8", "#6e7781", "#161b22", "#6e7681"),
}
FIXED_STYLE = """
text { font-family: system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif }
text { font-size: 12px }
.name { font-size: 13px; font-weight: 600 }
.heading { font-size: 16px; font-weight: 600 }
.code { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
rect, polygon, circle, path { stroke-width: 1.5; stroke-linejoin: round }
path.shortcut { stroke-width: 2.5 }
rect.wrong { stroke-width: 4 }
rect.frame { stroke-dasharray: 6 4 }
"""

# Advances of DejaVu Sans, the widest of the fonts above, in thousandths of its size: no box is too
# narrow for any of them.
WIDE, USUAL, NARROW = 900, 640, 400
WIDE_LETTERS, NARROW_LETTERS = f"mwMW@{ARROW}{MINUS}{DIVIDED}", "fijlrtI.,:;()'[]|⌈⌉⌊⌋- "


def text_width(words: str, size: float = 12, bold: bool = False) -> float:
    """The width of words in pixels, in the widest of the fonts."""
    thousandths = sum(
        WIDE if c in WIDE_LETTERS else NARROW if c in NARROW_LETTERS else USUAL for c in words
    )
    return thousandths * size / 1000 * (1.1 if bold else 1)


def size_of(node: Node, aside: bool = False) -> Size:
    """The size of a node's box; those of the main path and of the shortcut have one width."""
    label = text_width(node.shape) if node.shape else 0
    if node.form in ("sum", "product"):
        return Size(2 * NODE_RADIUS, 2 * NODE_RADIUS, label, round=True)
    if node.form == "input":
        return Size(20, 18, label)
    words = max(
        text_width(line, 12 if row else 13, row == 0) for row, line in enumerate(node.lines)
    )
    least = LEAST_WIDTH
    if aside:
        least = SHORTCUT_WIDTH
    elif node.form == "block":
        words, least = words + 2 * GLYPH_ROOM - 2 * SIDE_PADDING, BLOCK_WIDTH
    elif not node.name.startswith("attention.") and node.form in (
        "convolution",
        "normalization",
        "attention",
    ):
        least = MAIN_WIDTH
    return Size(
        max(least, round(words) + 2 * SIDE_PADDING), 2 * PADDING + LINE * len(node.lines), label
    )


class _Drawing:
    """Marks in the order in which they are painted."""

    def __init__(self) -> None:
        self.marks: list[ElementTree.Element] = []

    def mark(
        self, tag: str, kind: str, words: str | None = None, **attributes: float | str
    ) -> ElementTree.Element:
        element = ElementTree.Element(tag, {"class": kind})
        for name, value in attributes.items():
            element.set(
                name.strip("_").replace("_", "-"), value if isinstance(value, str) else f"{value:g}"
            )
        element.text = words
        self.marks.append(element)
        return element

    def text(
        self, x: float, y: float, words: str, style: str = "quiet", anchor: str = "start"
    ) -> None:
        """x: where the words start, have their middle or end; y: half their height."""
        # dominant-baseline would say what dy says, but not every renderer listens.
        self.mark("text", style, words, x=x, y=y, dy="0.35em", text_anchor=anchor)

    def line(
        self, points: Sequence[Point], path: str = "main", tip: bool = True, **attributes: str
    ) -> None:
        places = " L ".join(f"{x:g} {y:g}" for x, y in points)
        self.mark(
            "path",
            path,
            d=f"M {places}",
            **({"marker_end": f"url(#tip-{path})"} if tip else {}),
            **attributes,
        )

    def outline(self, kind: str, at: Point, width: float, height: float) -> None:
        """The kinds differ in form, too: colour is never the only sign."""
        left, top, right, bottom = (
            at[0] - width / 2,
            at[1] - height / 2,
            at[0] + width / 2,
            at[1] + height / 2,
        )
        cut, bar = 10, 5
        if kind == "average":
            upper = f"{left:g},{at[1]:g} {left + cut:g},{top:g} {right - cut:g},{top:g}"
            lower = f"{right:g},{at[1]:g} {right - cut:g},{bottom:g} {left + cut:g},{bottom:g}"
            self.mark("polygon", kind, points=f"{upper} {lower}")
        else:
            rounding = {"attention": 8, "block": 8, "activation": height / 2}.get(kind, 0)
            self.mark("rect", kind, x=left, y=top, width=width, height=height, rx=rounding)
        if kind == "normalization":
            self.mark(
                "path",
                kind,
                d=f"M {left + bar:g} {top:g} V {bottom:g} M {right - bar:g} {top:g} V {bottom:g}",
            )

    def sign(self, at: Point, degrees: int) -> None:
        """A plus in a circle; turned by 45 degrees, a times."""
        x, y = at
        arm = NODE_RADIUS / 2
        self.mark("circle", "operation", cx=x, cy=y, r=NODE_RADIUS)
        plus = f"M {x - arm:g} {y:g} H {x + arm:g} M {x:g} {y - arm:g} V {y + arm:g}"
        self.mark("path", "operation", d=plus, transform=f"rotate({degrees} {x:g} {y:g})")

    def dot(self, at: Point) -> None:
        self.mark("circle", "quiet", cx=at[0], cy=at[1], r=DOT_RADIUS)

    def frame(self, form: str, left: float, top: float, right: float, bottom: float) -> None:
        self.mark(
            "rect", f"{form} frame", x=left, y=top, width=right - left, height=bottom - top, rx=8
        )


def _node(node: Node, size: Size, at: Point) -> ElementTree.Element:
    """A group with the data of the node: its form, and its words."""
    drawing = _Drawing()
    if node.form in ("sum", "product"):
        drawing.sign(at, 45 if node.form == "product" else 0)
    elif node.form == "input":
        drawing.text(*at, node.lines[0], "ink name", "middle")
    else:
        drawing.outline(node.form, at, size.width, size.height)
        for row, words in enumerate(node.lines):
            middle = at[1] - size.height / 2 + PADDING + LINE * (row + 0.5)
            drawing.text(at[0], middle, words, "ink" if row else "ink name", "middle")
    if node.shortcut:
        _glyph(drawing, node.shortcut, at[0] - size.width / 2 + GLYPH_ROOM / 2, at[1], size.height)
    data = {"data-name": node.name, "data-form": node.form}
    group = ElementTree.Element(
        "g", data | ({"data-covers": " ".join(node.covers)} if node.covers else {})
    )
    ElementTree.SubElement(group, "title").text = node.name
    group.extend(drawing.marks)
    return group


def _glyph(drawing: _Drawing, shortcut: str, x: float, y: float, height: float) -> None:
    """The shortcut of a block, small: a bare line around it, or one with a box on it."""
    reach, out, half = height / 2 - 10, 8, 5.5
    bend = [(x + out, y - reach), (x - 4, y - reach), (x - 4, y + reach), (x + out, y + reach)]
    drawing.line(bend, "shortcut", tip=False)
    drawing.line([(x + out, y - reach - 4), (x + out, y + reach + 4)], tip=False)
    drawing.mark("circle", "operation", cx=x + out, cy=y + reach, r=3)
    if shortcut == "projected":
        drawing.mark(
            "rect", "convolution", x=x - 4 - half, y=y - half, width=2 * half, height=2 * half
        )


def sizes_of(scene: Scene) -> dict[str, Size]:
    """Of all nodes; those on the shortcut have one width, and so have the blocks of a network."""
    sizes = {node.name: size_of(node, node.name in scene.aside) for node in scene.nodes}
    for alike in (scene.aside, [node.name for node in scene.nodes if node.form == "block"]):
        widest = max((sizes[name].width for name in alike), default=0)
        sizes |= {name: replace(sizes[name], width=widest) for name in alike}
    return sizes


def svg(scene: Scene, theme: str = "auto") -> str:
    """theme: "auto" follows the page's, "light" and "dark" do not."""
    sizes = sizes_of(scene)
    placed = place(
        scene, sizes, [2 * CLEAR + text_width(frame.title, 13, True) for frame in scene.frames]
    )
    drawing = _Drawing()
    for frame, bounds in zip(scene.frames, placed.frames, strict=True):
        drawing.frame(frame.form, *bounds)
    for edge, points in _parted(placed):
        drawing.line(
            points,
            edge.path,
            True,
            data_from=edge.source,
            data_to=edge.target,
            data_shape=edge.shape,
        )
    for at in placed.dots:
        drawing.dot(at)
    for frame, bounds in zip(scene.frames, placed.frames, strict=True):
        _frame_title(drawing, frame, bounds)
    for node in scene.nodes:
        drawing.marks.append(_node(node, sizes[node.name], placed.centres[node.name]))
    for node in scene.nodes:
        _label(drawing, node, sizes[node.name], placed.centres[node.name])
    end = _output(drawing, scene, sizes, placed)
    _identity(drawing, placed)
    left, top, right = _heading(drawing, scene, sizes, placed)
    return _document(drawing, scene, (left, top, right, end + MARGIN), theme)


def _parted(placed: Placed) -> list[tuple[Edge, Sequence[Point]]]:
    """The edges, each from where it parts from those of the same source: what is painted twice
    looks thicker, and the shortcut's colour begins where the paths do."""
    ways: dict[str, list[Sequence[Point]]] = {}
    parted = {}
    for edge, points in sorted(placed.routes, key=lambda route: (route[0].path, len(route[1]))):
        painted = ways.setdefault(edge.source, [])
        common = max((_common(points, way) for way in painted), key=_travel, default=[points[0]])
        rest = points[len(common) - 1 :]
        parted[edge.source, edge.target] = rest if rest[0] == common[-1] else [common[-1], *rest]
        painted.append(points)
    return [(edge, parted[edge.source, edge.target]) for edge, _ in placed.routes]


def _common(one: Sequence[Point], other: Sequence[Point]) -> list[Point]:
    """The way that two ways with one beginning have in common."""
    common = [one[0]]
    for (start, here), (_, there) in zip(pairwise(one), pairwise(other), strict=False):
        if _direction(start, here) != _direction(start, there):
            break
        common.append(min(here, there, key=lambda end: _travel([start, end])))
        if here != there:
            break
    return common


def _direction(start: Point, end: Point) -> tuple[bool, ...]:
    return end[0] > start[0], end[0] < start[0], end[1] > start[1], end[1] < start[1]


def _travel(way: Sequence[Point]) -> float:
    return sum(abs(x - next_x) + abs(y - next_y) for (x, y), (next_x, next_y) in pairwise(way))


def _frame_title(drawing: _Drawing, frame: Frame, bounds: Sequence[float]) -> None:
    left, top, _, _ = bounds
    x = max(2 * CLEAR, left + CLEAR) if frame.form == "attention" else left + CLEAR
    drawing.text(x, top + LINE - 2, frame.title, "ink name")


def _label(drawing: _Drawing, node: Node, size: Size, at: Point) -> None:
    """The shape beside the arrow that leaves a node."""
    if node.form == "input":
        drawing.text(at[0] + CLEAR, at[1], node.shape)
    elif node.shape:
        drawing.text(at[0] + CLEAR, at[1] + size.height / 2 + 11, node.shape)


def _output(drawing: _Drawing, scene: Scene, sizes: dict[str, Size], placed: Placed) -> float:
    """The arrow out of the last node, and what leaves. Returns the y of its end."""
    last = scene.nodes[-1].name
    x, y = placed.centres[last]
    start = y + sizes[last].height / 2
    drawing.line([(x, start), (x, start + TAIL)])
    drawing.text(x, start + TAIL + CLEAR, "out", "ink name", "middle")
    drawing.text(x + 2 * CLEAR, start + TAIL + CLEAR, scene.output)
    return start + TAIL + 2 * CLEAR


def _identity(drawing: _Drawing, placed: Placed) -> None:
    """The words beside a shortcut that is a bare line."""
    for edge, points in placed.routes:
        if edge.path == "shortcut" and (edge.source, edge.target) == ("input", "sum"):
            x, y = points[2][0], (points[2][1] + points[3][1]) / 2
            drawing.text(x + CLEAR, y - LINE / 2, "shortcut", "ink name")
            drawing.text(x + CLEAR, y + LINE / 2, "identity", "ink")


def _heading(
    drawing: _Drawing, scene: Scene, sizes: dict[str, Size], placed: Placed
) -> tuple[float, float, float]:
    """The title, at the right of a block's main path or above a network. Returns the picture's
    left, top and right.
    """
    xs = [x for _, points in placed.routes for x, _ in points] + [
        x for frame in placed.frames for x in (frame[0], frame[2])
    ]
    lefts = [placed.centres[n.name][0] - sizes[n.name].width / 2 for n in scene.nodes]
    rights = [
        placed.centres[n.name][0] + max(sizes[n.name].width / 2, CLEAR + sizes[n.name].label)
        for n in scene.nodes
    ]
    shapes = "shapes: (images, channels, height, width)"
    width = max(
        text_width(scene.title, 16, True),
        text_width(shapes),
        *(len(note) * 7.3 for note in scene.notes),
        0,
    )
    left, right = min(*xs, *lefts), max(*xs, *rights, 2 * CLEAR + text_width(scene.output))
    if scene.notes:
        above = [node for node in scene.nodes if placed.centres[node.name][1] < 6 * LINE]
        aside = max(
            placed.centres[n.name][0] + max(sizes[n.name].width / 2, CLEAR + sizes[n.name].label)
            for n in above
        )
        right = max(right, aside + HEADING_GAP + width)
        x, y = right - width, 0.0
    else:
        x, y = left, -HEADING_HEIGHT
        right = max(right, left + width)
    drawing.text(x, y, scene.title, "ink heading")
    drawing.text(x, y + 26, shapes)
    for row, words in enumerate(scene.notes):
        drawing.text(x, y + 52 + 1.25 * LINE * row, words, "ink code")
    return left - MARGIN, y - MARGIN, right + MARGIN


def _style(theme: str) -> str:
    light = "\n".join(
        f".{name} {{ fill: {fill}; stroke: {stroke} }}"
        for name, (fill, stroke, _, _) in COLOURS.items()
    )
    dark = "\n".join(
        f".{name} {{ fill: {fill}; stroke: {stroke} }}"
        for name, (_, _, fill, stroke) in COLOURS.items()
    )
    chosen = {"light": light, "dark": dark}.get(
        theme, f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    )
    return f"\n{chosen}{FIXED_STYLE}"


def _document(
    drawing: _Drawing, scene: Scene, bounds: tuple[float, float, float, float], theme: str
) -> str:
    left, top, right, bottom = (round(value) for value in bounds)
    width, height = right - left, bottom - top
    root = ElementTree.Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"{left} {top} {width} {height}"}
    )
    root.attrib |= {
        "width": f"{width}",
        "height": f"{height}",
        "role": "img",
        "aria-labelledby": "title description",
    }
    ElementTree.SubElement(root, "title", id="title").text = scene.title
    ElementTree.SubElement(root, "desc", id="description").text = scene.description
    ElementTree.SubElement(root, "style").text = _style(theme)
    root.extend(_tips())
    # The paper is painted, so that the words stay legible on a page whose theme is not the
    # system's.
    paper = {"x": left + 1, "y": top + 1, "width": width - 2, "height": height - 2, "rx": 8}
    ElementTree.SubElement(
        root, "rect", {"class": "paper", **{name: str(value) for name, value in paper.items()}}
    )
    root.extend(drawing.marks)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _tips() -> Iterable[ElementTree.Element]:
    for path, point in (("main", 9), ("shortcut", 10)):  # the thicker line's point reaches further
        place = {"refX": str(point), "refY": "5", "markerWidth": "12", "markerHeight": "10"}
        marker = ElementTree.Element(
            "marker", place, id=f"tip-{path}", orient="auto", markerUnits="userSpaceOnUse"
        )
        ElementTree.SubElement(marker, "path", {"class": path, "d": "M 2 1 L 8 5 L 2 9"})
        yield marker


def drawn(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of the nodes in a picture made here, and its edges, read back from it."""
    elements = list(ElementTree.fromstring(text).iter())
    nodes = [element.attrib["data-name"] for element in elements if "data-name" in element.attrib]
    edges = [
        (e.attrib["data-from"], e.attrib["data-to"]) for e in elements if "data-from" in e.attrib
    ]
    return nodes, edges
