"""The pictures of a block or a network: `resattn draw`, and `python -m resattn.drawing.pictures` for those of
the README.

They are made from the graph of the config (`weights.graph`), node by node: `resattn.drawing.scene` says
what is shown, and `resattn.drawing.layout` where. By the suffix of the file: .svg, .png, .mmd (Mermaid),
.md (Markdown with Mermaid).
"""

from pathlib import Path

from resattn.drawing.mermaid import markdown, mermaid
from resattn.drawing.scene import Scene, scene
from resattn.drawing.svg import svg
from weights.checks import Pair, pair_of
from weights.config import BlockConfig, Config, NetworkConfig, preset
from weights.files.store import write_atomically
from weights.graph import Graph, graph

SUFFIXES = (".svg", ".png", ".mmd", ".md")
SIZE = (224, 224)  # of the image, where nobody gave one: formulas of H and W hold for others, too

FOLDER = Path(__file__).parent.with_name("pictures")
README_BLOCK = BlockConfig(64, 128, 3, 2, attention_options={"hidden_channels": 8})
README_PICTURES: dict[str, Config] = {
    "block.svg": README_BLOCK,
    "network.svg": preset("se-resnet18"),
}

# Without any font the library leaves words out and says nothing.
FONT_TEST = '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="30"><text font-family="sans-serif" y="20">{}</text></svg>'


def scene_of(config: Config, size: Pair | None = None, opened: bool = True) -> Scene:
    """What to draw of a config. size: (height, width) of the image; shapes are then numbers, else
    formulas.

    opened: whether the attention module of a block is shown step by step; a network shows its
        blocks as boxes.
    Raises ValueError for a size that the config cannot take.
    """
    return scene(
        checked(config, size or config.input_size or SIZE, opened), numbers=size is not None
    )


def checked(config: Config, size: Pair, opened: bool) -> Graph:
    """The graph, if every map in it has pixels and attention for maps of one size gets that
    size.
    """
    for operation in graph(config, size):
        if operation.numbers == 0:
            raise ValueError(
                f"size: images of {_by(size)} leave no pixel for {operation.name}; use greater ones"
            )
    found = graph(config, size, opened and isinstance(config, BlockConfig))
    scopes = ("",) if isinstance(config, BlockConfig) else _scopes(config)
    for scope, block in zip(scopes, config.blocks(), strict=True):
        _, rows, cols = found[f"{scope}conv2"].shape
        _check_map(config, size, scope.rstrip(".") or "the block", block, (rows.size, cols.size))
    return found


def _check_map(config: Config, size: Pair, name: str, block: BlockConfig, sides: Pair) -> None:
    """sides: height and width of the map that comes to the attention of a block."""
    if not block.has_fixed_size or not block.attention_options or not config.input_size:
        return
    wanted = pair_of("size", block.attention_options["size"])
    if wanted != sides:
        raise ValueError(
            f"size: images of {_by(size)} give the attention of {name} maps of {_by(sides)}, but "
            f"it takes {_by(wanted)} alone; images of {_by(config.input_size)} fit"
        )


def _by(pair: Pair) -> str:
    return f"{pair[0]} x {pair[1]}"


def _scopes(config: NetworkConfig) -> tuple[str, ...]:
    return tuple(
        f"stages.{stage}.{place}."
        for stage, depth in enumerate(config.depths)
        for place in range(depth)
    )


def block_of(config: Config, name: str, size: Pair | None) -> tuple[BlockConfig, Pair | None]:
    """A block of a network by its name, as in "stages.1.0", and the size of the map that comes to
    it.
    """
    names = (
        [scope.rstrip(".") for scope in _scopes(config)]
        if isinstance(config, NetworkConfig)
        else []
    )
    if name not in names:
        expected = (
            f"expected one of {', '.join(names)}, got {name!r}"
            if names
            else f"got {name!r}, but there is only one block"
        )
        raise ValueError(f"--block: {expected}")
    block = config.blocks()[names.index(name)]
    if size is None:
        return block, None
    found = checked(config, size, False)
    rows, cols = (extent.size for extent in found[found[f"{name}.conv1"].inputs[0]].shape[1:])
    return block, (rows, cols)


def save(
    shown: Scene, target: Path, dark: bool | None = None, scale: float = 1, force: bool = False
) -> None:
    """Writes a picture in the format that the suffix of `target` names.

    dark: colours for a dark page (True) or a light one (False); None follows the page in .svg and
        is light in .png.
    scale: pixels of a .png file for each pixel of natural size. force: whether an existing file is
        replaced.
    Raises ValueError for another suffix and an existing file, and what `png` and `write_atomically`
    raise.
    """
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        what = suffix or "a file without suffix"
        raise ValueError(
            f"{target.name}: cannot draw {what}; expected one of {', '.join(SUFFIXES)}"
        )
    if target.exists() and not force:
        raise ValueError(f"{target}: exists already; pass --force to replace it")
    theme = {None: "auto", True: "dark", False: "light"}[dark]
    if suffix == ".png":
        content = png(svg(shown, "dark" if dark else "light"), scale)
    else:
        text = {
            ".svg": lambda: svg(shown, theme),
            ".mmd": lambda: mermaid(shown),
            ".md": lambda: markdown(shown),
        }[suffix]()
        content = text.encode()
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def png(text: str, scale: float) -> bytes:
    """The pixels of an SVG with its colours fixed: the library does not follow a page's.

    Raises ImportError when the library is missing, ValueError when the system has no font.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise ImportError(
            'drawing .png needs resvg-py; install it with: pip install "resattn[draw]", or draw .svg'
        ) from None
    words = [svg_to_bytes(svg_string=FONT_TEST.format(word)) for word in ("", "H")]
    if words[0] == words[1]:
        raise ValueError(
            "drawing .png needs a font, but this system has none; install one (fonts-dejavu), or "
            "draw .svg"
        )
    return bytes(svg_to_bytes(svg_string=text, zoom=scale))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, config in README_PICTURES.items():
        save(scene_of(config), FOLDER / name, force=True)


if __name__ == "__main__":
    main()
