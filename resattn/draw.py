"""The picture of a block for the README: `python -m resattn.draw` writes it again.

The main path runs straight down at x = 0, the shortcut at its left, the gate of the attention at its right; the sum and
what follows stand in a row at the foot. Lengths are pixels at natural size.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weights.attention import hidden_width
from weights.config import BlockConfig, Pair

README_BLOCK = BlockConfig(64, 128, 3, 2, attention_options={"hidden_channels": 8})
PICTURE = Path(__file__).with_name("pictures") / "block.svg"

TIMES, ARROW = "\N{MULTIPLICATION SIGN}", "\N{RIGHTWARDS ARROW}"
MARGIN, GAP, LINE, PADDING, CLEAR = 18, 26, 16, 7, 9
MAIN_WIDTH, SHORTCUT_WIDTH, AVERAGE_WIDTH, DENSE_WIDTH, PILL_WIDTH = 210, 160, 136, 146, 84
SHORTCUT_X, IDENTITY_X, AVERAGE_X, DENSE_X = -220, -192, 112, 359
FRAME_LEFT, FRAME_RIGHT, PLAIN_RIGHT = -105, 462, 404
TOP, HEADING_WIDTH, OUT_WIDTH = 30, 256, 31
NODE_RADIUS, DOT_RADIUS = 15, 3.5
CHARACTER = 6.4  # at 12 px in a wide system font: a line is broken early rather than clipped

# Fill and stroke on a light page, then on a dark one: the hues of Okabe and Ito, which stay apart in every common colour
# blindness, darkened or lightened until they stand out. Classes: not every renderer knows custom properties.
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
}
FIXED_STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif }
.name { font-size: 13px; font-weight: 600 }
.heading { font-size: 16px; font-weight: 600 }
.code { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
rect, polygon, circle, path { stroke-width: 1.5; stroke-linejoin: round }
path.shortcut { stroke-width: 2.5 }
rect.attention { stroke-dasharray: 6 4 }
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A stage. kind: gives form and colour. lines: its name, then what it is. at: its centre."""

    kind: str
    width: float
    lines: tuple[str, ...]
    at: Point = (0, 0)

    def side(self, right: int, down: int) -> Point:
        """The middle of a side: (-1, 0) is the left one, (0, 1) the lower one."""
        height = 2 * PADDING + LINE * len(self.lines)
        return self.at[0] + right * self.width / 2, self.at[1] + down * height / 2

    left = property(lambda self: self.side(-1, 0))
    right = property(lambda self: self.side(1, 0))
    top = property(lambda self: self.side(0, -1))
    bottom = property(lambda self: self.side(0, 1))

    def below(self, point: Point, gap: float = GAP) -> "Box":
        return replace(self, at=(point[0], point[1] + gap - self.side(0, -1)[1] + self.at[1]))


class Drawing:
    """Marks in the order in which they are painted."""

    def __init__(self) -> None:
        self.marks: list[ElementTree.Element] = []

    def mark(self, tag: str, kind: str, words: str | None = None, **attributes: float | str) -> None:
        element = ElementTree.Element(tag, {"class": kind})
        for name, value in attributes.items():
            element.set(name.replace("_", "-"), value if isinstance(value, str) else f"{value:g}")
        element.text = words
        self.marks.append(element)

    def text(self, x: float, y: float, words: str, style: str = "quiet", anchor: str = "start") -> None:
        """x: where the words start, have their middle or end; y: half their height."""
        # dominant-baseline would say what dy says, but not every renderer listens.
        self.mark("text", style, words, x=x, y=y, dy="0.35em", text_anchor=anchor)

    def line(self, *points: Point, path: str = "main", tip: bool = True) -> None:
        places = " L ".join(f"{x:g} {y:g}" for x, y in points)
        self.mark("path", path, d=f"M {places}", **({"marker_end": f"url(#tip-{path})"} if tip else {}))

    def outline(self, kind: str, left: float, top: float, right: float, bottom: float) -> None:
        """The kinds differ in form, too: colour is never the only sign."""
        middle, cut, bar = (top + bottom) / 2, 10, 5
        if kind == "average":
            upper = f"{left:g},{middle:g} {left + cut:g},{top:g} {right - cut:g},{top:g}"
            lower = f"{right:g},{middle:g} {right - cut:g},{bottom:g} {left + cut:g},{bottom:g}"
            self.mark("polygon", kind, points=f"{upper} {lower}")
        else:
            rounding = {"paper": 8, "attention": 8, "activation": (bottom - top) / 2}.get(kind, 0)
            self.mark("rect", kind, x=left, y=top, width=right - left, height=bottom - top, rx=rounding)
        if kind == "normalization":
            self.mark("path", kind, d=f"M {left + bar:g} {top:g} V {bottom:g} M {right - bar:g} {top:g} V {bottom:g}")

    def box(self, box: Box) -> None:
        self.outline(box.kind, box.left[0], box.top[1], box.right[0], box.bottom[1])
        for row, words in enumerate(box.lines):
            middle = box.top[1] + PADDING + LINE * (row + 0.5)
            self.text(box.at[0], middle, words, "ink" if row else "ink name", "middle")

    def node(self, x: float, y: float, degrees: int = 0) -> None:
        """A plus in a circle; turned by 45 degrees, a times."""
        arm = NODE_RADIUS / 2
        self.mark("circle", "operation", cx=x, cy=y, r=NODE_RADIUS)
        plus = f"M {x - arm:g} {y:g} H {x + arm:g} M {x:g} {y - arm:g} V {y + arm:g}"
        self.mark("path", "operation", d=plus, transform=f"rotate({degrees} {x:g} {y:g})")

    def dot(self, at: Point) -> None:
        self.mark("circle", "quiet", cx=at[0], cy=at[1], r=DOT_RADIUS)

    def descend(self, boxes: Sequence[Box], *lead: Point, path: str = "main") -> list[Box]:
        """Boxes one below the other, with an arrow into each, the first from `lead`; returned with the places they got."""
        placed = []
        for box in boxes:
            placed.append(box.below(lead[-1]))
            self.line(*lead, placed[-1].top, path=path)
            self.box(placed[-1])
            lead = (placed[-1].bottom,)
        return placed

    def shape_below(self, point: Point, shape: str) -> None:
        """Beside the arrow that leaves the point downwards."""
        self.text(point[0] + CLEAR, point[1] + GAP / 2 - 1, shape)


def _shape(channels: int, stride: Pair = (1, 1)) -> str:
    """Odd kernels with padding (kernel - 1) / 2 leave ceil(size / stride) pixels."""
    ceiling = "\N{LEFT CEILING}{}/{}\N{RIGHT CEILING}"
    height, width = (name if step == 1 else ceiling.format(name, step) for name, step in zip("HW", stride, strict=True))
    return f"(N, {channels}, {height}, {width})"


def _shapes(config: BlockConfig) -> tuple[str, str]:
    """Of the input and of the output."""
    return _shape(config.in_channels), _shape(config.out_channels, config.stride)


def _filled(parts: Sequence[str], width: float) -> tuple[str, ...]:
    """Parts joined by commas, on a new line where the next does not fit."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(f"{lines[-1]}, {part}") * CHARACTER <= width:
            lines[-1] += f", {part}"
        else:
            lines[-1] += ","
            lines.append(part)
    return tuple(lines)


def _convolution(
    name: str, width: float, channels: Pair, kernel: Pair = (1, 1), stride: Pair = (1, 1), bias: bool = True
) -> Box:
    parts = [f"{kernel[0]}{TIMES}{kernel[1]} conv", f"{channels[0]} {ARROW} {channels[1]}"]
    if stride != (1, 1):
        parts.append(f"stride {stride[0] if stride[0] == stride[1] else stride}")
    if not bias:
        parts.append("no bias")
    return Box("convolution", width, (name, *_filled(parts, width - 2 * PADDING)))


def _normalization(name: str, width: float) -> Box:
    return Box("normalization", width, (name, "batch norm"))


def _activation(name: str) -> Box:
    return Box("activation", PILL_WIDTH, (name,))


def _main_path(drawing: Drawing, config: BlockConfig, start: Point) -> Point:
    """From the fork to the end of the attention, which is returned."""
    kernel, width, bias = config.kernel_size, config.out_channels, config.conv_bias
    boxes = [
        _convolution("conv1", MAIN_WIDTH, (config.in_channels, width), kernel, config.stride, bias),
        _normalization("bn1", MAIN_WIDTH),
        _activation("relu"),
        _convolution("conv2", MAIN_WIDTH, (width, width), kernel, bias=bias),
        _normalization("bn2", MAIN_WIDTH),
    ]
    placed = drawing.descend(boxes, start)
    before, after = _shapes(config)
    if before != after:
        drawing.shape_below(placed[0].bottom, after)
    return ATTENTION_DRAWINGS.get(config.attention, _closed)(drawing, config, placed[-1].bottom)


def _no_attention(drawing: Drawing, config: BlockConfig, start: Point) -> Point:
    return start


def _squeeze_excite(drawing: Drawing, config: BlockConfig, start: Point) -> Point:
    """The module opened: the gate leaves the main line to the right, comes back below and multiplies it."""
    x, frame_top = start[0], start[1] + GAP
    options = dict(config.attention_options)
    gate = options.pop("gate", "sigmoid")
    channels, hidden = config.out_channels, hidden_width(config.out_channels, **options)
    fc1 = _convolution("fc1", DENSE_WIDTH, (channels, hidden)).below((DENSE_X, frame_top), gap=2 * LINE)
    relu = _activation("relu").below(fc1.bottom)
    fc2 = _convolution("fc2", DENSE_WIDTH, (hidden, channels)).below(relu.bottom)
    out, back = fc1.at[1], fc2.at[1]
    average = Box("average", AVERAGE_WIDTH, ("global average", "over H and W"), at=(AVERAGE_X, out))
    sigmoid = replace(_activation(gate.replace("_", " ")), at=(AVERAGE_X, back))
    end = (x, fc2.bottom[1] + LINE)

    drawing.outline("attention", FRAME_LEFT, frame_top, FRAME_RIGHT, end[1])
    drawing.text(x + 2 * CLEAR, frame_top + LINE, "attention: squeeze-and-excitation", "ink name")
    drawing.line(start, (x, back - NODE_RADIUS))
    drawing.line((x, out), average.left)
    drawing.line(average.right, fc1.left)
    drawing.line(fc1.bottom, relu.top)
    drawing.line(relu.bottom, fc2.top)
    drawing.line(fc2.left, sigmoid.right)
    drawing.line(sigmoid.left, (x + NODE_RADIUS, back))
    drawing.line((x, back + NODE_RADIUS), end, tip=False)
    for box in (average, fc1, relu, fc2, sigmoid):
        drawing.box(box)
    for y in (out, back):
        between = (average.right[0] + fc1.left[0]) / 2
        drawing.text(between, y - CLEAR - 2, f"(N, {channels}, 1, 1)", anchor="middle")
    drawing.shape_below(fc1.bottom, f"(N, {hidden}, 1, 1)")
    drawing.dot((x, out))
    drawing.node(x, back, degrees=45)
    drawing.text(x - NODE_RADIUS - CLEAR, back, "multiply", anchor="end")
    return end


def _closed(drawing: Drawing, config: BlockConfig, start: Point) -> Point:
    """One box with the name of the kind and its options, a kind of a user's own too."""
    options = [f"{name} {value}" for name, value in (config.attention_options or {}).items()]
    lines = (f"attention: {config.attention}", *(_filled(options, MAIN_WIDTH - 2 * PADDING) if options else ()))
    return drawing.descend([Box("attention", MAIN_WIDTH, lines)], start)[-1].bottom


# Each draws an attention kind below a point of the main line and returns where the line leaves it; other kinds are closed.
ATTENTION_DRAWINGS: dict[str, Callable[[Drawing, BlockConfig, Point], Point]] = {
    "none": _no_attention,
    "se": _squeeze_excite,
}


def _shortcut(drawing: Drawing, config: BlockConfig, fork: Point, total: Point) -> None:
    """The second path: around the left of the first, from the same x to the same sum."""
    join = (total[0] - NODE_RADIUS, total[1])
    middle = (fork[1] + total[1]) // 2
    if not config.projects:
        drawing.line(fork, (IDENTITY_X, fork[1]), (IDENTITY_X, total[1]), join, path="shortcut")
        drawing.text(IDENTITY_X + CLEAR, middle - LINE / 2, "shortcut", "ink name")
        drawing.text(IDENTITY_X + CLEAR, middle + LINE / 2, "identity", "ink")
        return
    channels = (config.in_channels, config.out_channels)
    boxes = [
        _convolution("shortcut.0", SHORTCUT_WIDTH, channels, stride=config.stride, bias=config.conv_bias),
        _normalization("shortcut.1", SHORTCUT_WIDTH),
    ]
    above = (SHORTCUT_X, middle - SHORTCUT_WIDTH / 2)
    end = drawing.descend(boxes, fork, (SHORTCUT_X, fork[1]), above, path="shortcut")[-1].bottom
    drawing.line(end, (SHORTCUT_X, total[1]), join, path="shortcut")
    drawing.text((SHORTCUT_X + join[0]) / 2, total[1] - CLEAR - 3, _shapes(config)[1], anchor="middle")


def _foot(drawing: Drawing, config: BlockConfig, total: Point) -> None:
    """The sum, relu and the output, in a row to the right."""
    x, y = total
    relu = replace(_activation("relu"), at=(x + NODE_RADIUS + GAP + PILL_WIDTH / 2, y))
    end = relu.right[0] + GAP
    drawing.node(x, y)
    drawing.line((x + NODE_RADIUS, y), relu.left)
    drawing.box(relu)
    drawing.line(relu.right, (end, y))
    drawing.text(end + CLEAR, y, "out", "ink name")
    drawing.text(end + CLEAR + OUT_WIDTH, y, _shapes(config)[1])


def _formula(config: BlockConfig) -> tuple[str, ...]:
    second = "bn2(conv2(y))" if config.attention == "none" else "attention(bn2(conv2(y)))"
    return "y = relu(bn1(conv1(x)))", f"y = {second}", f"out = relu(y + {'shortcut(x)' if config.projects else 'x'})"


def _heading(drawing: Drawing, config: BlockConfig, x: float) -> None:
    drawing.text(x, TOP, "ResidualBlockWithAttention", "ink heading")
    drawing.text(x, TOP + GAP, "shapes: (images, channels, height, width)")
    for row, words in enumerate(_formula(config)):
        drawing.text(x, TOP + 2 * GAP + 1.25 * LINE * row, words, "ink code")


def _description(config: BlockConfig) -> str:
    before, after = _shapes(config)
    shortcut = f"a 1{TIMES}1 convolution and batch norm" if config.projects else "the identity"
    return f"x of shape {before}; {'; '.join(_formula(config))}, of shape {after}. The shortcut is {shortcut}."


def _style() -> str:
    light = "\n".join(f".{name} {{ fill: {fill}; stroke: {stroke} }}" for name, (fill, stroke, _, _) in COLOURS.items())
    dark = "\n".join(f".{name} {{ fill: {fill}; stroke: {stroke} }}" for name, (_, _, fill, stroke) in COLOURS.items())
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}{FIXED_STYLE}"


def _document(drawing: Drawing, config: BlockConfig, left: float, width: float, height: float) -> str:
    root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"{left:g} 0 {width:g} {height:g}"})
    root.attrib |= {"width": f"{width:g}", "height": f"{height:g}", "role": "img", "aria-labelledby": "title description"}
    ElementTree.SubElement(root, "title", id="title").text = "ResidualBlockWithAttention"
    ElementTree.SubElement(root, "desc", id="description").text = _description(config)
    ElementTree.SubElement(root, "style").text = _style()
    for path, point in (("main", 9), ("shortcut", 10)):  # the thicker line's point reaches further
        place = {"refX": str(point), "refY": "5", "markerWidth": "12", "markerHeight": "10"}
        marker = ElementTree.SubElement(root, "marker", place, id=f"tip-{path}", orient="auto", markerUnits="userSpaceOnUse")
        ElementTree.SubElement(marker, "path", {"class": path, "d": "M 2 1 L 8 5 L 2 9"})
    root.extend(drawing.marks)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def block_svg(config: BlockConfig) -> str:
    """The block as a self-contained SVG for light and dark pages: main path, shortcut, and its attention opened."""
    left = (SHORTCUT_X - SHORTCUT_WIDTH / 2 if config.projects else IDENTITY_X) - MARGIN
    right = (FRAME_RIGHT if config.attention == "se" else PLAIN_RIGHT) + MARGIN
    fork = (0.0, TOP + GAP)
    drawing = Drawing()
    drawing.text(0, TOP, "x", "ink name", "middle")
    drawing.text(CLEAR, TOP, _shapes(config)[0])
    drawing.line((0, TOP + CLEAR), fork, tip=False)
    end = _main_path(drawing, config, fork)
    total = (0.0, end[1] + GAP + NODE_RADIUS)
    drawing.line(end, (0, total[1] - NODE_RADIUS))
    _shortcut(drawing, config, fork, total)
    drawing.dot(fork)
    _foot(drawing, config, total)
    _heading(drawing, config, right - MARGIN - HEADING_WIDTH)
    # The paper is painted, so that the words stay legible on a page whose theme is not the system's.
    paper, height = Drawing(), total[1] + NODE_RADIUS + MARGIN
    paper.outline("paper", left + 1, 1, right - 1, height - 1)
    paper.marks += drawing.marks
    return _document(paper, config, left, right - left, height)


def main() -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(block_svg(README_BLOCK), encoding="utf-8")


if __name__ == "__main__":
    main()
