"""A scene as a Mermaid flowchart, which GitHub and GitLab draw inside Markdown."""

from collections.abc import Iterator

from resattn.drawing.nodes import TIMES, SceneNode
from resattn.drawing.scene import Edge, Scene
from weights.checks import printable
from weights.language import say

BRACKETS = {
    "normalization": ("[[", "]]"),
    "activation": ("([", "])"),
    "average": ("{{", "}}"),
    "sum": ("((", "))"),
    "product": ("((", "))"),
    "input": ("(", ")"),
    "attention": ("(", ")"),
    "block": ("(", ")"),
}
CIRCLE_SIGNS = {"sum": "+", "product": TIMES}
ARROWS = {"main": "-->", "shortcut": "==>"}

# Fill and stroke of a class: light boxes with dark words, on light and dark pages alike. The hues
# are those of Okabe and Ito.
INK = "#1f2328"
CLASS_COLOURS = {
    "convolution": ("#deedf7", "#0072b2"),
    "normalization": ("#dcf3eb", "#008561"),
    "activation": ("#fdf0d2", "#a06a00"),
    "average": ("#ffffff", "#a3477b"),
    "attention": ("#f9edf4", "#a3477b"),
    "operation": ("#ffffff", "#1f2328"),
    "wrong": ("#ffe3e3", "#a3000f"),
}
# The forms that have no class of their own.
FORM_CLASSES = {"sum": "operation", "product": "operation", "block": "operation"}
SHORTCUT_COLOUR, FRAME_COLOUR = "#c65300", "#a3477b"
# The lines of a box do not wrap, and the title of a frame is clear of the nodes in it.
SETTINGS = (
    '%%{init: {"flowchart": {"wrappingWidth": 400, '
    '"subGraphTitleMargin": {"top": 4, "bottom": 18}}}}%%'
)


def mermaid(scene: Scene) -> str:
    """The flowchart.

    The identifiers are n0, n1, ... in the order of execution; a comment has the name of each
    operation.
    """
    number = {node.name: f"n{place}" for place, node in enumerate(scene.nodes)}
    lines = [SETTINGS, "flowchart TB", *_write_nodes(scene, number)]
    if scene.output:
        lines.append(f'    out("{say("out")}<br/>{_escape(scene.output)}"):::input')
    lines += [f"    {_write_edge(edge, number, scene)}" for edge in scene.edges]
    if scene.output:
        lines.append(f"    {number[scene.nodes[-1].name]} --> out")
    return "\n".join([*lines, *_write_styles(scene)]) + "\n"


def markdown(scene: Scene) -> str:
    """A Markdown page: the flowchart, and a description in words."""
    formula = "".join(f"    {note}\n" for note in scene.notes)
    head = f"# {scene.title}\n\n{scene.description}\n\n"
    return f"{head}{formula}{chr(10) if formula else ''}```mermaid\n{mermaid(scene)}```\n"


def _write_nodes(scene: Scene, number: dict[str, str]) -> Iterator[str]:
    members = {name: frame for frame in scene.frames for name in frame.members}
    for node in scene.nodes:
        frame = members.get(node.name)
        if frame and node.name == frame.members[0]:
            yield f'    subgraph f{scene.frames.index(frame)}["{frame.title}"]'
        yield f"    %% {number[node.name]} = {node.name}"
        yield f"    {_write_node(node, number[node.name])}"
        if frame and node.name == frame.members[-1]:
            yield "    end"


def _write_node(node: SceneNode, identifier: str) -> str:
    left, right = BRACKETS.get(node.form, ("[", "]"))
    label, *details = map(_escape, node.lines)
    words = CIRCLE_SIGNS.get(node.form) or "<br/>".join((f"<b>{label}</b>", *details))
    return f'{identifier}{left}"{words}"{right}:::{FORM_CLASSES.get(node.form, node.form)}'


def _write_edge(edge: Edge, number: dict[str, str], scene: Scene) -> str:
    """An edge with the shape of its value if that is a new one, or if it is the identity
    shortcut.
    """
    words = edge.shape if scene[edge.source].shape else ""
    if edge.is_identity:
        words = f"{say('identity')} {edge.shape}"
    label = f'|"{_escape(words)}"|' if words else ""
    return f"{number[edge.source]} {ARROWS[edge.path]}{label} {number[edge.target]}"


def _write_styles(scene: Scene) -> Iterator[str]:
    used = {node.form for node in scene.nodes}
    for form, (fill, stroke) in CLASS_COLOURS.items():
        if form == "wrong" and form not in used:
            continue
        yield f"    classDef {form} fill:{fill},stroke:{stroke},color:{INK}"
    yield "    classDef input fill:none,stroke:none"
    for place in range(len(scene.frames)):
        yield f"    style f{place} fill:none,stroke:{FRAME_COLOUR},stroke-dasharray:6 4"
    aside = [str(place) for place, edge in enumerate(scene.edges) if edge.path == "shortcut"]
    if aside:
        yield f"    linkStyle {','.join(aside)} stroke:{SHORTCUT_COLOUR},stroke-width:3px"


def _escape(words: str) -> str:
    words = printable(words).replace("\n", " ")
    return (
        words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
