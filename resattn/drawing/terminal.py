"""A scene as text: one operation a line in the order of execution, beside lanes for the values that
are still needed.

A node is in the lane of its output. Its inputs are the lanes that end or branch on the horizontal
line above it; a lane that this line only crosses is drawn through it. So the text shows every edge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from resattn.drawing.nodes import ARROW, DIVIDED, MINUS, TIMES, SceneNode
from resattn.drawing.scene import SHAPES, Edge, Scene
from weights.language import count_cells, current_language, say

TextPart = tuple[str, str]  # words, and the form that decides their colour, "" for none
TextLine = tuple[TextPart, ...]

SYMBOLS = {
    "sum": "⊕",
    "product": "⊗",
    "input": "○",
    "average": "◆",
    "attention": "▣",
    "block": "▣",
    "wrong": "✗",
}
SYMBOL = "●"
# For terminals without Unicode: words, then lines and symbols of one character each.
ASCII_WORDS = {
    TIMES: "x",
    ARROW: "->",
    MINUS: "-",
    DIVIDED: "/",
    "√": "sqrt ",
    "⌈": "ceil(",
    "⌉": ")",
    "⌊": "floor(",
    "⌋": ")",
    "·": "*",
    "λ": "lambda",
}
ASCII_MARKS = str.maketrans("⊕⊗○◆▣✗●│║─┄╭╮╰╯┬┴├┤┼", "+xo*#!*|H--..''.'+++")
IDENTITY = "║"
# Colours of the terminal, which suit its background.
COLOURS = {
    "shortcut": "red",
    "wrong": "red",
    "convolution": "blue",
    "normalization": "green",
    "activation": "yellow",
    "average": "magenta",
    "attention": "magenta",
    "stage": "cyan",
}
COLUMNS, MOST_COLUMNS = 80, 120  # of a picture: by default, and at most

# By whether a line goes left, right, up and down from there. A lane that a horizontal line only
# crosses is "│".
CORNERS = {
    (False, True, True, True): "├",
    (True, False, True, True): "┤",
    (True, True, True, True): "┼",
    (False, True, True, False): "╰",
    (True, False, True, False): "╯",
    (True, True, True, False): "┴",
    (False, True, False, True): "╭",
    (True, False, False, True): "╮",
    (True, True, False, True): "┬",
}


def lines(scene: Scene, columns: int = COLUMNS, ascii_only: bool = False) -> list[TextLine]:
    """The picture, each line a sequence of words with their forms."""
    shown = _spell_ascii(scene) if ascii_only else scene
    indent = 2 * len(_Writer(shown, columns, 0).lanes) + 1
    written = _Writer(shown, columns, indent).lines
    if not ascii_only:
        return written
    return [tuple((words.translate(ASCII_MARKS), form) for words, form in line) for line in written]


def strip_colours(text: Iterable[TextLine]) -> str:
    """The lines without colours."""
    return "\n".join("".join(words for words, _ in line).rstrip() for line in text)


def _spell_ascii(scene: Scene) -> Scene:
    def spell(words: str) -> str:
        known = "".join(ASCII_WORDS.get(character, character) for character in words)
        return "".join(each if each.isascii() or is_kept(each) else "?" for each in known)

    def is_kept(character: str) -> bool:
        """Chinese characters are, if the picture is in Chinese: then the terminal has them."""
        return current_language() == "zh" and count_cells(character) > 1

    return replace(
        scene,
        nodes=tuple(
            replace(n, lines=tuple(map(spell, n.lines)), shape=spell(n.shape)) for n in scene.nodes
        ),
        output=spell(scene.output),
    )


class _Writer:
    """Writes the lines of a scene. indent: the width of the lanes.

    lanes: the value in each, "" if it is free. left: the edges of each node that are not drawn yet.
    """

    def __init__(self, scene: Scene, columns: int, indent: int):
        self.scene, self.columns, self.indent = scene, columns, indent
        self.lanes: list[str] = []
        self.left = {
            node.name: [edge for edge in scene.edges if edge.source == node.name]
            for node in scene.nodes
        }
        self.lines: list[TextLine] = []
        self.lines.append(
            (
                (scene.title, "title name"),
                (_right(say(SHAPES), columns - count_cells(scene.title)), "quiet"),
            )
        )
        for node in scene.nodes:
            self._write_frame(node.name, first=True)
            self._write_node(node)
            self._write_frame(node.name, first=False)
        if scene.output:
            self._write([(f"{'':{self.indent}}", ""), (say("out"), "name")], scene.output)

    def _write_frame(self, name: str, first: bool) -> None:
        """The dashed line above the first node of a frame, or below the last one."""
        for frame in self.scene.frames:
            if name == frame.members[0 if first else -1]:
                detail = f": {frame.detail}" if frame.detail else ""
                words = f"┄┄ {frame.title}{detail} " if first else ""
                room = self.columns - self.indent
                self.lines.append(
                    (*self._write_lanes(), (words + "┄" * (room - count_cells(words)), frame.form))
                )

    def _write_node(self, node: SceneNode) -> None:
        inputs = list(dict.fromkeys(self.scene.inputs(node.name)))
        before = [self.lanes.index(name) for name in inputs]
        for name in inputs:
            self.left[name] = [edge for edge in self.left[name] if edge.target != node.name]
        ended = [lane for lane, name in zip(before, inputs, strict=True) if not self.left[name]]
        lane = min(ended) if ended else self._find_free_lane()
        after = [*self.lanes]
        for number in ended:
            after[number] = ""
        after[lane] = node.name
        if [lane] != before and before:
            self._connect_lanes(before, lane, after)
        self.lanes = after
        marks = self._write_lanes(lane, SYMBOLS.get(node.form, SYMBOL), node.form)
        self._write_words(marks, node)
        if not self.left[node.name]:
            self.lanes[lane] = ""

    def _find_free_lane(self) -> int:
        """The first lane to the right of all that are in use."""
        used = max((number for number, name in enumerate(self.lanes) if name), default=-1) + 1
        self.lanes += [""] * (used + 1 - len(self.lanes))
        return used

    def _connect_lanes(self, before: Sequence[int], lane: int, after: Sequence[str]) -> None:
        """The horizontal line between the lanes of the inputs and the lane of the node."""
        low, high = min([*before, lane]), max([*before, lane])
        parts = []
        for number, name in enumerate(self.lanes):
            within = low <= number <= high
            if within and number in {*before, lane}:
                corner = CORNERS[number > low, number < high, bool(name), bool(after[number])]
            elif name:
                corner = self._draw_lane(name)
            else:
                corner = "─" if within else " "
            parts.append((corner, self._find_path(name) if name else "main"))
            parts.append(("─" if low <= number < high else " ", "main"))
        used = max(number for number, (words, _) in enumerate(parts) if words != " ")
        self.lines.append(tuple(parts[: used + 1]))

    def _write_lanes(self, lane: int = -1, symbol: str = "", form: str = "") -> TextLine:
        parts = []
        for number, name in enumerate(self.lanes):
            parts.append(
                (symbol, form) if number == lane else (self._draw_lane(name), self._find_path(name))
            )
            parts.append((" ", ""))
        return (*parts, (" " * (self.indent - len(parts)), ""))

    def _draw_lane(self, name: str) -> str:
        """The identity shortcut is a double line once no other node needs the input."""
        if not name:
            return " "
        identity = self._find_path(name) == "shortcut" and self.left[name][0].is_identity
        return IDENTITY if identity else "│"

    def _find_path(self, name: str) -> str:
        remaining: list[Edge] = self.left.get(name, [])
        aside = remaining and all(edge.path == "shortcut" for edge in remaining)
        return "shortcut" if aside else "main"

    def _write_words(self, marks: TextLine, node: SceneNode) -> None:
        """The label, the details and the shape, on several lines if one is too short."""
        title, *details = node.lines
        words: list[TextPart] = [(title, f"{node.form} name")]
        used = self.indent + count_cells(title)
        rest = list(details)
        while rest and used + 2 + count_cells(rest[0]) <= self.columns:
            gap = " " if words[-1][0].endswith(",") else "  "
            words.append((gap + rest[0], ""))
            used += len(gap) + count_cells(rest.pop(0))
        fits = used + 2 + count_cells(node.shape) <= self.columns and not rest
        self._write([*marks, *words], node.shape if fits else "")
        for number, detail in enumerate(rest):
            room = self.columns - self.indent - 4 - count_cells(detail)
            last = number == len(rest) - 1 and count_cells(node.shape) <= room
            self._write([*self._write_lanes(), (f"  {detail}", "")], node.shape if last else "")
            fits = fits or last
        if node.shape and not fits:
            self._write([*self._write_lanes()], node.shape)

    def _write(self, parts: Sequence[TextPart], shape: str) -> None:
        used = sum(count_cells(words) for words, _ in parts)
        self.lines.append(
            (*parts, (_right(shape, self.columns - used), "quiet")) if shape else tuple(parts)
        )


def _right(text: str, room: int) -> str:
    """A text at the right end of a room, in cells."""
    return " " * (room - count_cells(text)) + text
