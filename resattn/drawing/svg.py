"""A scene as a self-contained SVG for light and dark pages.

Every node is a group with `data-name`, and every edge a path with `data-from` and `data-to`, so
that a test can read them back.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence

from resattn.drawing.canvas import CHINESE, PALETTE, Canvas
from resattn.drawing.geometry import (
    CLEAR,
    Bounds,
    Position,
    Size,
    find_common_start,
    measure_travel,
)
from resattn.drawing.layout import Layout, place
from resattn.drawing.nodes import SceneNode
from resattn.drawing.scene import SHAPES, Edge, Frame, Scene
from resattn.drawing.sizes import GLYPH_ROOM, LINE, NAME_SIZE, PADDING, measure_nodes, measure_text
from resattn.drawing.stacking import arrange_columns
from weights.checks import printable
from weights.language import count_cells, say

MARGIN, HEADING_GAP, HEADING_LINE, HEADING_SIZE, TAIL = 18, 36, 22, 16, 26
CODE_ADVANCE = 7.3  # of a letter in the fonts of code

FIXED_STYLE = """
text { font-family: system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, \
Arial, sans-serif }
text { font-size: 12px }
.name { font-size: 13px; font-weight: 600 }
.heading { font-size: 16px; font-weight: 600 }
.code { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
rect, polygon, circle, path { stroke-width: 1.5; stroke-linejoin: round }
path.shortcut { stroke-width: 2.5 }
rect.wrong { stroke-width: 4 }
rect.frame { stroke-dasharray: 6 4 }
"""
# Of texts with Chinese characters.
CHINESE_STYLE = """\
.chinese { font-family: 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', 'DejaVu Sans', \
sans-serif }
"""


def svg(scene: Scene, theme: str = "auto") -> str:
    """The picture as SVG. theme: "light", "dark", or "auto", which follows the page."""
    sizes = measure_nodes(scene)
    titles = [
        max(2 * CLEAR + measure_text(frame.title, NAME_SIZE, True),
            CLEAR + measure_text(frame.detail))
        for frame in scene.frames
    ]  # fmt: skip
    layout = arrange_columns(place(scene, sizes, titles), scene, sizes)
    canvas = Canvas()
    for frame, bounds in zip(scene.frames, layout.frames, strict=True):
        canvas.frame(frame.form, bounds)
    for edge, points in _split_shared(layout):
        data = {"data_from": edge.source, "data_to": edge.target, "data_shape": edge.shape}
        canvas.line(points, edge.path, True, **data)
    for at in layout.dots:
        canvas.dot(at)
    for frame, bounds in zip(scene.frames, layout.frames, strict=True):
        _draw_frame_title(canvas, frame, bounds, layout.centres[frame.members[0]][0])
    for node in scene.nodes:
        canvas.marks.append(_make_group(node, sizes[node.name], layout.centres[node.name]))
    for node in scene.nodes:
        _draw_label(canvas, node, sizes[node.name], layout.centres[node.name])
    end = max(_draw_output(canvas, scene, sizes, layout), _find_bottom(scene, sizes, layout))
    _draw_identity(canvas, layout)
    left, top, right = _draw_heading(canvas, scene, sizes, layout)
    words, bounds = (scene.title, scene.description), (left, top, right, end + MARGIN)
    return make_document(canvas, words, bounds, theme, _make_tips())


# Nodes and edges


def _make_group(node: SceneNode, size: Size, at: Position) -> ElementTree.Element:
    """A group with the data of the node, its form and its words."""
    canvas = Canvas()
    if node.form in ("sum", "product"):
        canvas.sign(at, 45 if node.form == "product" else 0)
    elif node.form == "input":
        canvas.text(*at, node.lines[0], "ink name", "middle")
    else:
        canvas.outline(node.form, at, size.width, size.height)
        for row, words in enumerate(node.lines):
            middle = at[1] - size.height / 2 + PADDING + LINE * (row + 0.5)
            canvas.text(at[0], middle, words, "ink" if row else "ink name", "middle")
    if node.shortcut:
        left = at[0] - size.width / 2 + GLYPH_ROOM / 2
        _draw_glyph(canvas, node.shortcut, (left, at[1]), size.height)
    data = {"data-name": node.name, "data-form": node.form}
    if node.covers:
        data["data-covers"] = " ".join(node.covers)
    group = ElementTree.Element("g", data)
    ElementTree.SubElement(group, "title").text = node.name
    group.extend(canvas.marks)
    return group


def _draw_glyph(canvas: Canvas, shortcut: str, at: Position, height: float) -> None:
    """A small picture of a block's shortcut: a bare line around the block, or one with a box."""
    (x, y), reach, out, half = at, height / 2 - 10, 8, 5.5
    bend = [(x + out, y - reach), (x - 4, y - reach), (x - 4, y + reach), (x + out, y + reach)]
    canvas.line(bend, "shortcut", tip=False)
    canvas.line([(x + out, y - reach - 4), (x + out, y + reach + 4)], tip=False)
    canvas.mark("circle", "operation", cx=x + out, cy=y + reach, r=3)
    if shortcut != "identity":
        side = 2 * half
        canvas.mark("rect", "convolution", x=x - 4 - half, y=y - half, width=side, height=side)


def _split_shared(layout: Layout) -> list[tuple[Edge, Sequence[Position]]]:
    """The edges, each from the point where it leaves the others of its source.

    A line that is painted twice looks thicker, and the shortcut's colour must begin where the paths
    separate.
    """
    lines: dict[str, list[Sequence[Position]]] = {}
    split = {}
    for edge, points in sorted(layout.routes, key=lambda route: (route[0].path, len(route[1]))):
        painted = lines.setdefault(edge.source, [])
        common = max(
            (find_common_start(points, line) for line in painted),
            key=measure_travel,
            default=[points[0]],
        )
        rest = points[len(common) - 1 :]
        split[edge.source, edge.target] = rest if rest[0] == common[-1] else [common[-1], *rest]
        painted.append(points)
    return [(edge, split[edge.source, edge.target]) for edge, _ in layout.routes]


# Words


def _draw_frame_title(canvas: Canvas, frame: Frame, bounds: Bounds, middle: float) -> None:
    """middle: the x of the first node, at which an arrow comes in."""
    left, top, _, _ = bounds
    x = max(2 * CLEAR, left + CLEAR) if frame.form == "attention" else left + CLEAR
    canvas.text(x, top + LINE - 2, frame.title, "ink name")
    if frame.detail:
        canvas.text(middle + CLEAR, top + LINE - 2, frame.detail)


def _draw_label(canvas: Canvas, node: SceneNode, size: Size, at: Position) -> None:
    """The shape beside the arrow that leaves a node."""
    if node.form == "input":
        canvas.text(at[0] + CLEAR, at[1], node.shape)
    elif node.shape:
        canvas.text(at[0] + CLEAR, at[1] + size.height / 2 + 11, node.shape)


def _draw_output(canvas: Canvas, scene: Scene, sizes: Mapping[str, Size], layout: Layout) -> float:
    """The arrow that leaves the last node, and the output if there is one. Returns the y of its
    end.
    """
    last = scene.nodes[-1].name
    x, y = layout.centres[last]
    start = y + sizes[last].height / 2
    if not scene.output:
        return start
    canvas.line([(x, start), (x, start + TAIL)])
    canvas.text(x, start + TAIL + CLEAR, say("out"), "ink name", "middle")
    canvas.text(x + 2 * CLEAR, start + TAIL + CLEAR, scene.output)
    return start + TAIL + 2 * CLEAR


def _draw_identity(canvas: Canvas, layout: Layout) -> None:
    """The words beside a shortcut that is a bare line."""
    for edge, points in layout.routes:
        if edge.is_identity:
            x, y = points[2][0], (points[2][1] + points[3][1]) / 2
            canvas.text(x + CLEAR, y - LINE / 2, say("shortcut"), "ink name")
            canvas.text(x + CLEAR, y + LINE / 2, say("identity"), "ink")


def _find_bottom(scene: Scene, sizes: Mapping[str, Size], layout: Layout) -> float:
    """That of all nodes, frames and arrows."""
    lows = [y for _, points in layout.routes for _, y in points]
    lows += [frame[3] for frame in layout.frames]
    return max(*lows, *(layout.centres[n.name][1] + sizes[n.name].height / 2 for n in scene.nodes))


def _draw_heading(
    canvas: Canvas, scene: Scene, sizes: Mapping[str, Size], layout: Layout
) -> tuple[float, float, float]:
    """The title above the picture, and beside it, or below it where it is narrow, the formulas.
    Returns the left, the top and the right of the picture.
    """
    lines = [*([scene.summary] if scene.summary else []), say(SHAPES)]
    width = max(
        measure_text(scene.title, HEADING_SIZE, True), *(measure_text(line) for line in lines)
    )
    formulas = max((count_cells(note) * CODE_ADVANCE for note in scene.notes), default=0)
    left, right = _bound_width(scene, sizes, layout)
    beside = formulas > 0 and left + width + HEADING_GAP + formulas <= right
    below = 0 if beside else len(scene.notes)
    height = HEADING_LINE * (max(len(lines), len(scene.notes) - 1) + below) + HEADING_GAP
    y = -float(height)
    right = max(right, left + width, left + formulas)
    canvas.text(left, y, scene.title, "ink heading")
    for row, words in enumerate(lines, 1):
        canvas.text(left, y + HEADING_LINE * row + 2, words)
    x, first = (right - formulas, 0) if beside else (left, len(lines) + 1)
    for row, words in enumerate(scene.notes, first):
        canvas.text(x, y + HEADING_LINE * row, words, "ink code")
    return left - MARGIN, y - MARGIN, right + MARGIN


def _bound_width(scene: Scene, sizes: Mapping[str, Size], layout: Layout) -> tuple[float, float]:
    """The left and the right of a picture without its heading."""
    xs = [x for _, points in layout.routes for x, _ in points]
    xs += [x for frame in layout.frames for x in (frame[0], frame[2])]
    lefts = [layout.centres[n.name][0] - sizes[n.name].width / 2 for n in scene.nodes]
    rights = [_find_right(node, sizes, layout) for node in scene.nodes]
    output = 2 * CLEAR + measure_text(scene.output)
    return min(*xs, *lefts), max(*xs, *rights, output)


def _find_right(node: SceneNode, sizes: Mapping[str, Size], layout: Layout) -> float:
    size = sizes[node.name]
    return layout.centres[node.name][0] + max(size.width / 2, CLEAR + size.label)


# The document


def _make_style(theme: str, has_chinese: bool) -> str:
    light, dark = (
        "\n".join(
            f".{name} {{ fill: {row[first]}; stroke: {row[first + 1]} }}"
            for name, row in PALETTE.items()
        )
        for first in (0, 2)
    )
    both = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    chosen = {"light": light, "dark": dark}.get(theme, both)
    return f"\n{chosen}{FIXED_STYLE}{CHINESE_STYLE if has_chinese else ''}"


def make_document(
    canvas: Canvas,
    words: tuple[str, str],
    bounds: Bounds,
    theme: str,
    tips: Iterable[ElementTree.Element] = (),
) -> str:
    """The marks on a paper with these bounds, as SVG.

    words: the title and the description, for readers who do not see it. theme: as in `svg`. tips:
    of the arrows.
    """
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
    ElementTree.SubElement(root, "title", id="title").text = words[0]
    ElementTree.SubElement(root, "desc", id="description").text = words[1]
    texts = (each for mark in canvas.marks for each in mark.iter("text"))
    has_chinese = any(CHINESE in each.attrib["class"].split() for each in texts)
    ElementTree.SubElement(root, "style").text = _make_style(theme, has_chinese)
    root.extend(tips)
    # The paper is painted, so that the words are legible on a page whose theme is not the system's.
    paper = {"x": left + 1, "y": top + 1, "width": width - 2, "height": height - 2, "rx": 8}
    attributes = {name: str(value) for name, value in paper.items()}
    ElementTree.SubElement(root, "rect", {"class": "paper", **attributes})
    root.extend(canvas.marks)
    ElementTree.indent(root)
    # XML cannot hold control characters, and ElementTree writes them as they are.
    return printable(ElementTree.tostring(root, encoding="unicode")) + "\n"


def _make_tips() -> Iterator[ElementTree.Element]:
    for path, point in (("main", 9), ("shortcut", 10)):  # the thicker line's point is longer
        size = {"refX": str(point), "refY": "5", "markerWidth": "12", "markerHeight": "10"}
        marker = ElementTree.Element(
            "marker", size, id=f"tip-{path}", orient="auto", markerUnits="userSpaceOnUse"
        )
        ElementTree.SubElement(marker, "path", {"class": path, "d": "M 2 1 L 8 5 L 2 9"})
        yield marker
