"""The language in which results and errors are worded: English, unless a program chooses another.

A sentence is written in English where it is needed, `say("{count} files in {folder}", count=3,
folder="a")`. What translates it is chosen by the program; see `resattn.translations`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_translate: Callable[[str], str] = str


def say(text: str, /, **values: Any) -> str:
    """A sentence in the language that was chosen. text: the English one, with the names of values
    in braces. Where there is no translation it stays English.
    """
    translated = _translate(text)
    return translated.format(**values) if values else translated


def count_cells(text: str) -> int:
    """The width of a text on a terminal, where Chinese characters take two cells."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


@contextmanager
def translate_with(translate: Callable[[str], str]) -> Iterator[None]:
    """Within it, `say` looks sentences up with `translate`, in all threads."""
    global _translate
    before, _translate = _translate, translate
    try:
        yield
    finally:
        _translate = before
