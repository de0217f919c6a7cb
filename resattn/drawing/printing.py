"""Pictures as pixels (PNG) and for printing (PDF), from their SVG.

Both use the fonts in this package, so that a picture is the same on every machine. Fonts of the
system are used as well where a picture has other characters, as a module of the user's may.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from weights.errors import ArgumentError, MissingFramework
from weights.language import say

_FONTS = Path(__file__).with_name("fonts")
# The ranges that the fonts were cut to. Not every font has all of each.
_RANGES = (
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x370, 0x3FF),
    (0x2010, 0x205F),
    (0x2070, 0x209F),
    (0x2190, 0x22FF),
    (0x2300, 0x232F),
    (0x25A0, 0x25FF),
)
_POINTS = 0.75  # of a pixel of SVG
_SIZE = re.compile(r'<svg [^>]*width="([\d.]+)" height="([\d.]+)"')


def check_drawn_suffix(target: Path, known: Sequence[str]) -> None:
    """Raises ArgumentError for the name of a file that is no picture of these formats."""
    if target.suffix.lower() not in known:
        raise ArgumentError(
            say(
                "{file}: cannot draw {what}; expected one of {known}",
                file=target.name,
                what=target.suffix.lower() or say("a file without suffix"),
                known=", ".join(known),
            )
        )


def check_png() -> None:
    """Raises MissingFramework if the library for PNG is missing."""
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        raise MissingFramework(
            say(
                "drawing .png needs resvg-py; install it with: pip install "
                '"resattn[draw]", or draw .svg'
            )
        ) from None


def png(text: str, scale: float) -> bytes:
    """An SVG as PNG. Its theme must be "light" or "dark".

    Raises what `check_png` raises.
    """
    check_png()
    from resvg_py import svg_to_bytes

    return bytes(
        svg_to_bytes(
            svg_string=text,
            zoom=scale,
            font_files=[str(path) for path in list_fonts()],
            skip_system_fonts=_has_glyphs(text),
            sans_serif_family="DejaVu Sans",
            monospace_family="DejaVu Sans Mono",
        )
    )


def check_pdf() -> None:
    """Raises MissingFramework if the library for PDF is missing."""
    try:
        import typst  # noqa: F401
    except ImportError:
        raise MissingFramework(
            say(
                "drawing .pdf needs typst; install it with: pip install "
                '"resattn[draw]", or draw .svg'
            )
        ) from None


def pdf(text: str) -> bytes:
    """An SVG as PDF, a page of its size, its words as text. Its theme must be "light" or "dark".

    Raises what `check_pdf` raises.
    """
    check_pdf()
    import typst

    found = _SIZE.match(text)
    assert found is not None, "a picture has a size"
    width, height = (_POINTS * float(side) for side in found.groups())
    page = f"""
        #set page(width: {width}pt, height: {height}pt, margin: 0pt)
        #image(bytes(sys.inputs.picture), format: "svg", width: 100%)
    """
    given: dict[str, Any] = {"sys_inputs": {"picture": text}, "font_paths": [str(_FONTS)]}
    made: bytes = typst.compile(page.encode(), ignore_system_fonts=_has_glyphs(text), **given)
    return made


@cache
def list_fonts() -> tuple[Path, ...]:
    """The files of the fonts."""
    return tuple(sorted((*_FONTS.glob("*.ttf"), *_FONTS.glob("*.otf"))))


@cache
def _list_chinese() -> str:
    """What the Chinese fonts have; see `resattn.drawing.chinese`."""
    return (_FONTS / "characters.txt").read_text(encoding="utf-8")


def _has_glyphs(text: str) -> bool:
    """Whether the fonts have every character of a picture."""
    return all(
        each in "\n\t"
        or any(first <= ord(each) <= last for first, last in _RANGES)
        or each in _list_chinese()
        for each in set(text)
    )
