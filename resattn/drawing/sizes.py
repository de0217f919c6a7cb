"""The sizes of the nodes of a scene, from the words in them."""

from dataclasses import replace

from resattn.drawing.geometry import Size
from resattn.drawing.nodes import ARROW, DIVIDED, MINUS, SceneNode
from resattn.drawing.scene import Scene
from weights.language import count_cells

LINE, PADDING, SIDE_PADDING = 16, 7, 12
NODE_RADIUS, LEAST_WIDTH = 15, 84
MAIN_WIDTH, SHORTCUT_WIDTH, BLOCK_WIDTH, GLYPH_ROOM = 210, 160, 250, 44
NAME_SIZE, TEXT_SIZE = 13, 12

# Advances of DejaVu Sans, the widest of the fonts in a picture, in thousandths of the font size, so
# that no box is too narrow in any of them.
FULL, WIDE, USUAL, NARROW = 1000, 900, 640, 400
WIDE_LETTERS, NARROW_LETTERS = f"mwMW@{ARROW}{MINUS}{DIVIDED}", "fijlrtI.,:;()'[]|⌈⌉⌊⌋- "


def measure_text(words: str, size: float = TEXT_SIZE, bold: bool = False) -> float:
    """The width of words in pixels, in the widest of the fonts."""
    thousandths = sum(map(_measure_letter, words))
    return thousandths * size / 1000 * (1.1 if bold else 1)


def _measure_letter(letter: str) -> int:
    if count_cells(letter) > 1:  # as Chinese characters are
        return FULL
    return WIDE if letter in WIDE_LETTERS else NARROW if letter in NARROW_LETTERS else USUAL


def measure_nodes(scene: Scene) -> dict[str, Size]:
    """The sizes of all nodes. Nodes on the shortcut have one width, and so have the blocks of a
    network.
    """
    sizes = {node.name: measure_node(node, node.name in scene.aside) for node in scene.nodes}
    for alike in (scene.aside, [node.name for node in scene.nodes if node.is_block]):
        widest = max((sizes[name].width for name in alike), default=0)
        sizes |= {name: replace(sizes[name], width=widest) for name in alike}
    return sizes


def measure_node(node: SceneNode, aside: bool = False) -> Size:
    """The size of a node. aside: whether it is on the shortcut."""
    label = measure_text(node.shape) if node.shape else 0
    if node.form in ("sum", "product"):
        return Size(2 * NODE_RADIUS, 2 * NODE_RADIUS, label, round=True)
    if node.form == "input":
        return Size(20, 18, label)
    title, *details = node.lines
    words = max(
        measure_text(title, NAME_SIZE, bold=True),
        *(measure_text(line) for line in details),
        0,
    )
    if node.is_block:
        words += 2 * GLYPH_ROOM - 2 * SIDE_PADDING
    width = max(_least_width(node, aside), round(words) + 2 * SIDE_PADDING)
    return Size(width, 2 * PADDING + LINE * len(node.lines), label)


def _least_width(node: SceneNode, aside: bool) -> int:
    if aside:
        return SHORTCUT_WIDTH
    if node.is_block:
        return BLOCK_WIDTH
    wide = node.form in ("convolution", "normalization", "attention")
    return MAIN_WIDTH if wide and not node.name.startswith("attention.") else LEAST_WIDTH
