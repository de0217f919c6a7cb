"""The marks of an SVG, and their colours."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from resattn.drawing.geometry import Bounds, Position
from resattn.drawing.sizes import NODE_RADIUS
from weights.language import count_cells

DOT_RADIUS = 3.5
CHINESE = "chinese"  # the class of texts that need such a font

# Fill and stroke on a light page, then on a dark one. The hues are those of Okabe and Ito, which
# differ in every common colour blindness, darkened or lightened until the contrast is sufficient.
# They are classes because not every renderer knows custom properties.
PALETTE = {
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


class Canvas:
    """Marks in the order in which they are painted. kind: the class of a mark, as in `PALETTE`."""

    def __init__(self) -> None:
        self.marks: list[ElementTree.Element] = []

    def mark(
        self, tag: str, kind: str, words: str | None = None, **attributes: float | str
    ) -> ElementTree.Element:
        """Adds an element. attributes: with "_" for "-" in their names."""
        element = ElementTree.Element(tag, {"class": kind})
        for name, value in attributes.items():
            text = value if isinstance(value, str) else f"{value:g}"
            element.set(name.replace("_", "-"), text)
        element.text = words
        self.marks.append(element)
        return element

    def text(
        self, x: float, y: float, words: str, style: str = "quiet", anchor: str = "start"
    ) -> None:
        """x: the start, the middle or the end of the words, as `anchor` says. y: their middle."""
        if count_cells(words) > len(words):
            style = f"{style} {CHINESE}"
        # Not every renderer knows dominant-baseline, which would centre them without dy.
        self.mark("text", style, words, x=x, y=y, dy="0.35em", text_anchor=anchor)

    def line(
        self, points: Sequence[Position], path: str = "main", tip: bool = True, **attributes: str
    ) -> None:
        """A line through points. tip: whether it ends in an arrow."""
        corners = " L ".join(f"{x:g} {y:g}" for x, y in points)
        marker = {"marker_end": f"url(#tip-{path})"} if tip else {}
        self.mark("path", path, d=f"M {corners}", **marker, **attributes)

    def outline(self, kind: str, at: Position, width: float, height: float) -> None:
        """A box around a centre. The kinds differ in form too, for readers who see no colour."""
        left, top = at[0] - width / 2, at[1] - height / 2
        right, bottom = at[0] + width / 2, at[1] + height / 2
        cut, bar = 10, 5
        if kind == "average":
            upper = f"{left:g},{at[1]:g} {left + cut:g},{top:g} {right - cut:g},{top:g}"
            lower = f"{right:g},{at[1]:g} {right - cut:g},{bottom:g} {left + cut:g},{bottom:g}"
            self.mark("polygon", kind, points=f"{upper} {lower}")
        else:
            rounding = {"attention": 8, "block": 8, "activation": height / 2}.get(kind, 0)
            self.mark("rect", kind, x=left, y=top, width=width, height=height, rx=rounding)
        if kind == "normalization":
            bars = f"M {left + bar:g} {top:g} V {bottom:g} M {right - bar:g} {top:g} V {bottom:g}"
            self.mark("path", kind, d=bars)

    def sign(self, at: Position, degrees: int) -> None:
        """A plus sign in a circle; rotated by 45 degrees, a multiplication sign."""
        x, y = at
        arm = NODE_RADIUS / 2
        self.mark("circle", "operation", cx=x, cy=y, r=NODE_RADIUS)
        plus = f"M {x - arm:g} {y:g} H {x + arm:g} M {x:g} {y - arm:g} V {y + arm:g}"
        self.mark("path", "operation", d=plus, transform=f"rotate({degrees} {x:g} {y:g})")

    def dot(self, at: Position) -> None:
        self.mark("circle", "quiet", cx=at[0], cy=at[1], r=DOT_RADIUS)

    def frame(self, form: str, bounds: Bounds) -> None:
        left, top, right, bottom = bounds
        self.mark(
            "rect", f"{form} frame", x=left, y=top, width=right - left, height=bottom - top, rx=8
        )
