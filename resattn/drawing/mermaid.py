"""A scene as a Mermaid flowchart, which GitHub and GitLab draw inside Markdown."""

from resattn.drawing.scene import Edge, Node, Scene

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
SIGNS = {"sum": "+", "product": "\N{MULTIPLICATION SIGN}"}
PATHS = {"main": "-->", "shortcut": "==>"}

# Fill, stroke and words of a class: light boxes with dark words, on light and dark pages alike. The
# hues of Okabe and Ito.
INK = "#1f2328"
COLOURS = {
    "convolution": ("#deedf7", "#0072b2"),
    "normalization": ("#dcf3eb", "#008561"),
    "activation": ("#fdf0d2", "#a06a00"),
    "average": ("#ffffff", "#a3477b"),
    "attention": ("#f9edf4", "#a3477b"),
    "operation": ("#ffffff", "#1f2328"),
}
SHORTCUT, FRAME = "#c65300", "#a3477b"
# No line of a box is broken, and a frame's title stands clear of what is in it.
SETTINGS = '%%{init: {"flowchart": {"wrappingWidth": 400, "subGraphTitleMargin": {"top": 4, "bottom": 18}}}}%%'


def mermaid(scene: Scene) -> str:
    """The flowchart. The identifiers are n0, n1, ... in the order of execution; a comment names the
    operation of each.
    """
    number = {node.name: f"n{place}" for place, node in enumerate(scene.nodes)}
    members = {name: frame for frame in scene.frames for name in frame.members}
    lines = [SETTINGS, "flowchart TB"]
    for node in scene.nodes:
        frame = members.get(node.name)
        if frame and node.name == frame.members[0]:
            lines.append(f'    subgraph f{scene.frames.index(frame)}["{frame.title}"]')
        lines += [
            f"    %% {number[node.name]} = {node.name}",
            f"    {_node(node, number[node.name])}",
        ]
        if frame and node.name == frame.members[-1]:
            lines.append("    end")
    lines.append(f'    out("out<br/>{_escaped(scene.output)}"):::input')
    lines += [f"    {_edge(edge, number, scene)}" for edge in scene.edges]
    lines.append(f"    {number[scene.nodes[-1].name]} --> out")
    lines += [
        f"    classDef {form} fill:{fill},stroke:{stroke},color:{INK}"
        for form, (fill, stroke) in COLOURS.items()
    ]
    lines.append("    classDef input fill:none,stroke:none")
    lines += [
        f"    style f{place} fill:none,stroke:{FRAME},stroke-dasharray:6 4"
        for place in range(len(scene.frames))
    ]
    aside = [str(place) for place, edge in enumerate(scene.edges) if edge.path == "shortcut"]
    lines += (
        [f"    linkStyle {','.join(aside)} stroke:{SHORTCUT},stroke-width:3px"] if aside else []
    )
    return "\n".join(lines) + "\n"


def markdown(scene: Scene) -> str:
    """A Markdown page: the flowchart, and in words what it shows."""
    formula = "".join(f"    {note}\n" for note in scene.notes)
    head = f"# {scene.title}\n\n{scene.description}\n\n"
    return f"{head}{formula}{chr(10) if formula else ''}```mermaid\n{mermaid(scene)}```\n"


def _node(node: Node, identifier: str) -> str:
    left, right = BRACKETS.get(node.form, ("[", "]"))
    words = SIGNS.get(node.form) or "<br/>".join(
        (f"<b>{_escaped(node.lines[0])}</b>", *map(_escaped, node.lines[1:]))
    )
    form = {"sum": "operation", "product": "operation", "block": "operation"}.get(
        node.form, node.form
    )
    return f'{identifier}{left}"{words}"{right}:::{form}'


def _edge(edge: Edge, number: dict[str, str], scene: Scene) -> str:
    """With the shape that it carries where that is a new one, and on a shortcut that is the
    identity.
    """
    words = edge.shape if scene[edge.source].shape else ""
    if edge.path == "shortcut" and (edge.source, edge.target) == ("input", "sum"):
        words = f"identity {edge.shape}"
    label = f'|"{_escaped(words)}"|' if words else ""
    return f"{number[edge.source]} {PATHS[edge.path]}{label} {number[edge.target]}"


def _escaped(words: str) -> str:
    return (
        words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
