"""A scene as text: one operation a line, in the order of execution, with a lane for each value that
is still needed.

A node stands in the lane of its output. Lanes that end or branch in the line above a node, between
the two ends of its horizontal line, are its inputs; a lane that the line only passes is drawn
through it. So the text holds every edge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from resattn.drawing.scene import ARROW, DIVIDED, MINUS, TIMES, Edge, Node, Scene

Part = tuple[str, str]  # words, and the form that gives their colour, "" for none
Line = tuple[Part, ...]

TITLE = "shapes: (images, channels, height, width)"
SYMBOLS = {"sum": "⊕", "product": "⊗", "input": "○", "average": "◆", "attention": "▣", "block": "▣"}
SYMBOL = "●"
# For terminals that know no more: words, then lines and symbols, one character each.
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
}
ASCII_WORDS |= {"·": "*", "λ": "lambda"}
ASCII_MARKS = str.maketrans("⊕⊗○◆▣●│║─┄╭╮╰╯┬┴├┤┼", "+xo*#*|H--..''.'+++")
IDENTITY = "║"
# The terminal's own colours, so that they suit its background.
COLOURS = {
    "shortcut": "red",
    "convolution": "blue",
    "normalization": "green",
    "activation": "yellow",
    "average": "magenta",
    "attention": "magenta",
    "stage": "cyan",
}
COLUMNS = 80

# Whether a line goes left, right, up and down from it. One that a horizontal line passes is drawn
# through: "│".
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


def lines(scene: Scene, columns: int = COLUMNS, ascii_only: bool = False) -> list[Line]:
    """The picture, each line a sequence of words with their forms."""
    shown = _in_ascii(scene) if ascii_only else scene
    indent = 2 * len(_Text(shown, columns, 0).lanes) + 1
    drawn = _Text(shown, columns, indent).lines
    return (
        [tuple((words.translate(ASCII_MARKS), form) for words, form in line) for line in drawn]
        if ascii_only
        else drawn
    )


def plain(text: Iterable[Line]) -> str:
    """The lines without colours."""
    return "\n".join("".join(words for words, _ in line).rstrip() for line in text)


def _in_ascii(scene: Scene) -> Scene:
    def spelled(words: str) -> str:
        known = "".join(ASCII_WORDS.get(character, character) for character in words)
        return known.encode("ascii", "replace").decode()

    return replace(
        scene,
        nodes=tuple(
            replace(n, lines=tuple(map(spelled, n.lines)), shape=spelled(n.shape))
            for n in scene.nodes
        ),
        output=spelled(scene.output),
    )


class _Text:
    def __init__(self, scene: Scene, columns: int, indent: int):
        self.scene, self.columns, self.indent = scene, columns, indent
        self.lanes: list[str] = []  # the value in each, "" if it is free
        self.left = {
            node.name: [edge for edge in scene.edges if edge.source == node.name]
            for node in scene.nodes
        }
        self.lines: list[Line] = []
        self.lines.append(
            ((scene.title, "title name"), (TITLE.rjust(columns - len(scene.title)), "quiet"))
        )
        for node in scene.nodes:
            self._frame(node.name, first=True)
            self._node(node)
            self._frame(node.name, first=False)
        self._say([(f"{'':{self.indent}}", ""), ("out", "name")], scene.output)

    def _frame(self, name: str, first: bool) -> None:
        """The dashed line above and below what belongs together."""
        for frame in self.scene.frames:
            if name == frame.members[0 if first else -1]:
                words = f"┄┄ {frame.title} " if first else ""
                room = self.columns - self.indent
                self.lines.append((*self._gutter(), (words.ljust(room, "┄"), frame.form)))

    def _node(self, node: Node) -> None:
        inputs = list(dict.fromkeys(self.scene.inputs(node.name)))
        before = [self.lanes.index(name) for name in inputs]
        for name in inputs:
            self.left[name] = [edge for edge in self.left[name] if edge.target != node.name]
        ended = [lane for lane, name in zip(before, inputs, strict=True) if not self.left[name]]
        lane = min(ended) if ended else self._free()
        after = [*self.lanes]
        for number in ended:
            after[number] = ""
        after[lane] = node.name
        if [lane] != before and before:
            self._connect(before, lane, after)
        self.lanes = after
        marks = self._gutter(lane, SYMBOLS.get(node.form, SYMBOL), node.form)
        self._words(marks, node)
        if not self.left[node.name]:
            self.lanes[lane] = ""

    def _free(self) -> int:
        """The first lane to the right of all that are in use."""
        used = max((number for number, name in enumerate(self.lanes) if name), default=-1) + 1
        self.lanes += [""] * (used + 1 - len(self.lanes))
        return used

    def _connect(self, before: Sequence[int], lane: int, after: Sequence[str]) -> None:
        """The line between the lanes of the inputs and that of the node."""
        low, high = min([*before, lane]), max([*before, lane])
        parts = []
        for number, name in enumerate(self.lanes):
            within = low <= number <= high
            if within and number in {*before, lane}:
                corner = CORNERS[number > low, number < high, bool(name), bool(after[number])]
            elif name:
                corner = self._lane(name)
            else:
                corner = "─" if within else " "
            parts.append((corner, self._path(name) if name else "main"))
            parts.append(("─" if low <= number < high else " ", "main"))
        used = max(number for number, (words, _) in enumerate(parts) if words != " ")
        self.lines.append(tuple(parts[: used + 1]))

    def _gutter(self, lane: int = -1, symbol: str = "", form: str = "") -> Line:
        parts = []
        for number, name in enumerate(self.lanes):
            parts.append((symbol, form) if number == lane else (self._lane(name), self._path(name)))
            parts.append((" ", ""))
        return self._filled(parts)

    def _filled(self, parts: Sequence[Part]) -> Line:
        return (*parts, (" " * (self.indent - len(parts)), ""))

    def _lane(self, name: str) -> str:
        """The identity shortcut is a double line, from where nothing else takes the input."""
        bare = self._path(name) == "shortcut" and name == "input"
        return (IDENTITY if bare and self.left[name][0].target == "sum" else "│") if name else " "

    def _path(self, name: str) -> str:
        remaining: list[Edge] = self.left.get(name, [])
        return (
            "shortcut"
            if remaining and all(edge.path == "shortcut" for edge in remaining)
            else "main"
        )

    def _words(self, marks: Line, node: Node) -> None:
        """The name and what it is; where both and the shape are too long for a line, on several."""
        title, *details = node.lines
        words: list[Part] = [(title, f"{node.form} name")]
        used = self.indent + len(title)
        rest = list(details)
        while rest and used + 2 + len(rest[0]) <= self.columns:
            gap = " " if words[-1][0].endswith(",") else "  "
            words.append((gap + rest[0], ""))
            used += len(gap) + len(rest.pop(0))
        fits = used + 2 + len(node.shape) <= self.columns and not rest
        self._say([*marks, *words], node.shape if fits else "")
        for number, detail in enumerate(rest):
            last = (
                number == len(rest) - 1
                and self.indent + 4 + len(detail) + len(node.shape) <= self.columns
            )
            self._say([*self._gutter(), (f"  {detail}", "")], node.shape if last else "")
            fits = fits or last
        if node.shape and not fits:
            self._say([*self._gutter()], node.shape)

    def _say(self, parts: Sequence[Part], shape: str) -> None:
        used = sum(len(words) for words, _ in parts)
        self.lines.append(
            (*parts, (shape.rjust(self.columns - used), "quiet")) if shape else tuple(parts)
        )
