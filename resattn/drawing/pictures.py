"""The pictures of a block or a network: `resattn draw`.

`python -m resattn.drawing.pictures` makes those of the README. A picture has one node for each
operation of the config's graph; `resattn.drawing.scene` decides what is in it, and
`resattn.drawing.layout` where. The suffix of the file decides the format: .svg, .png, .pdf, .mmd
(Mermaid) or .md (Markdown with Mermaid).
"""

import os
from pathlib import Path
from typing import Any

from resattn.drawing.executed import executed_scene
from resattn.drawing.mermaid import markdown, mermaid
from resattn.drawing.printing import check_drawn_suffix, pdf, png
from resattn.drawing.scene import Scene, scene
from resattn.drawing.svg import svg
from resattn.reading.blocks import cut_block
from resattn.reading.executed import ExecutedGraph, check_unsaid, execute
from resattn.reading.models import read_model
from resattn.reading.reading import Reading
from weights.checks import Pair
from weights.config import BlockConfig, Config
from weights.errors import ArgumentError
from weights.files.atomic import write_atomically
from weights.graph import check_size, default_size, graph
from weights.language import say
from weights.presets import preset

SUFFIXES = (".svg", ".png", ".pdf", ".mmd", ".md")

PICTURES = Path(__file__).parent.with_name("pictures")
README_BLOCK = BlockConfig(64, 128, 3, 2, attention_options={"hidden_channels": 8})
README_PICTURES: dict[str, Config] = {
    "block.svg": README_BLOCK,
    "network.svg": preset("se-resnet18"),
}


def draw(
    model: Any,
    to: str | os.PathLike[str] | None = None,
    *,
    size: Pair | None = None,
    opened: bool = True,
    block: str | None = None,
    dark: bool | None = None,
    scale: float = 2,
    force: bool = False,
) -> Scene:
    """Draws a block or a network. Writes the picture to a file if `to` names one.

    model: a config; or any live model of PyTorch, Flax or Keras, or what `resattn.read_model` made
    of it, which is drawn as it is executed. to: a .svg, .png, .pdf, .mmd (Mermaid) or .md
    (Markdown) file. block: one block of a network, as in "stages.1.0". size: of the image, as in
    `scene_of` and `read_model`. opened: as in `scene_of`, for a config alone. dark, scale, force:
    as in `save_picture`.
    Raises whatever `scene_of`, `block_of`, `read_model`, `scene_of_reading` and `save_picture`
    raise.
    """
    if not isinstance(model, (Config, Reading, ExecutedGraph)):
        model, size = read_model(model, size), None
    if isinstance(model, (Reading, ExecutedGraph)):
        check_unsaid(model.size, size=size)
        shown = scene_of_reading(model, block)
    else:
        if block is not None:
            model, size = block_of(model, block, size)
        shown = scene_of(model, size, opened)
    if to is not None:
        save_picture(shown, Path(to), dark, scale, force)
    return shown


def scene_of(config: Config, size: Pair | None = None, opened: bool = True) -> Scene:
    """The scene of a config.

    size: (height, width) of the image. With it, shapes are numbers; without it, formulas.
    opened: whether to show the attention module of a block step by step. A network shows its blocks
        as boxes.
    Raises ArgumentError for a size that the config cannot take.
    """
    image = size or default_size(config)
    check_size(config, image)
    found = graph(config, image, opened and isinstance(config, BlockConfig))
    return scene(found, numbers=size is not None)


def scene_of_reading(model: Reading | ExecutedGraph, block: str | None = None) -> Scene:
    """The scene of a live model, as it is executed. Shapes are numbers.

    block: one residual block of it, by its name, as in "layer1.0". Raises ArgumentError for a name
    that no block has.
    """
    found = execute(model) if isinstance(model, Reading) else model
    return executed_scene(found if block is None else cut_block(found, block))


def block_of(config: Config, name: str, size: Pair | None) -> tuple[BlockConfig, Pair | None]:
    """A block of a network by its name, as in "stages.1.0", and the size of its input.

    Raises ArgumentError for a name that no block has.
    """
    blocks = config.named_blocks()
    if isinstance(config, BlockConfig) or name not in blocks:
        if isinstance(config, BlockConfig):
            raise ArgumentError(say("block: got {name!r}, but there is only one block", name=name))
        raise ArgumentError(
            say("block: expected one of {known}, got {name!r}", known=", ".join(blocks), name=name)
        )
    if size is None:
        return blocks[name], None
    check_size(config, size)
    found = graph(config, size, opened=False)
    _, rows, cols = found[found[f"{name}.conv1"].inputs[0]].shape
    return blocks[name], (rows.size, cols.size)


def check_picture(target: Path) -> None:
    """Raises ArgumentError for the name of a file that is no picture of ours."""
    check_drawn_suffix(target, SUFFIXES)


def save_picture(
    shown: Scene, target: Path, dark: bool | None = None, scale: float = 1, force: bool = False
) -> None:
    """Writes a picture in the format of the suffix of `target`.

    dark: whether the colours are for a dark page. None: a .svg follows the page, a .png or .pdf is
        light. scale: pixels of a .png for each pixel of natural size. force: whether to replace an
        existing file.
    Raises ArgumentError for another suffix and for an existing file, and whatever `png`, `pdf`
    and `write_atomically` raise.
    """
    check_picture(target)
    suffix = target.suffix.lower()
    if target.exists() and not force:
        raise ArgumentError(say("{file}: exists already; pass --force to replace it", file=target))
    theme = {None: "auto", True: "dark", False: "light"}[dark]
    if suffix in (".png", ".pdf"):
        fixed = svg(shown, "dark" if dark else "light")
        content = png(fixed, scale) if suffix == ".png" else pdf(fixed)
    else:
        text = {
            ".svg": lambda: svg(shown, theme),
            ".mmd": lambda: mermaid(shown),
            ".md": lambda: markdown(shown),
        }[suffix]()
        content = text.encode()
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, config in README_PICTURES.items():
        save_picture(scene_of(config), PICTURES / name, force=True)


if __name__ == "__main__":
    main()
