"""The Chinese characters of pictures, and the font that has them.

`python -m resattn.drawing.chinese NotoSansCJK-Regular.ttc NotoSansCJK-Bold.ttc` cuts the fonts to
the characters of our words, after these have changed. It needs fontTools.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from resattn.drawing.nodes import ARROW, DIVIDED, MINUS, TIMES
from resattn.translations import extract_sentences, speaking
from weights.language import say

FONTS = Path(__file__).with_name("fonts")
CHARACTERS = FONTS / "characters.txt"  # that the fonts have
FAMILY = "Noto Sans CJK SC"
FIRST = "\N{CJK RADICAL REPEAT}"  # what comes before it is in DejaVu
_ROOT = Path(__file__).parents[2]
_FILES = ("resattn/drawing/*.py", "weights/attention/*.py")


def list_characters() -> str:
    """The Chinese characters and marks of the words that a picture may have, sorted."""
    files = sorted(path for pattern in _FILES for path in _ROOT.glob(pattern))
    with speaking("zh"):
        words = "".join(
            say(text)
            for file in files
            for text in extract_sentences(file.read_text(encoding="utf-8"))
        )
    return "".join(sorted(each for each in set(words) if each >= FIRST))


def list_latin() -> str:
    """What may be in one line with Chinese characters."""
    return f"{''.join(map(chr, range(0x20, 0x7F)))}{TIMES}{ARROW}{MINUS}{DIVIDED}"


def cut_font(source: Path, target: Path, characters: str) -> None:
    """Writes the characters of one font of a collection."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTCollection

    fonts = TTCollection(source).fonts
    font: Any = next(each for each in fonts if each["name"].getDebugName(1) == FAMILY)
    options = Options(hinting=False, desubroutinize=True, layout_features=[], notdef_outline=True)
    options.drop_tables += ["BASE", "VORG", "vhea", "vmtx", "GPOS", "GSUB"]
    subsetter = Subsetter(options)
    subsetter.populate(text=characters)
    subsetter.subset(font)
    font.recalcTimestamp = False
    font.flavor = None
    font.save(target)


def main() -> None:
    characters = list_characters()
    for source in map(Path, sys.argv[1:]):
        weight = source.stem.rpartition("-")[2]
        cut_font(source, FONTS / f"NotoSansCJKsc-{weight}.otf", characters + list_latin())
    CHARACTERS.write_text(f"{characters}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
