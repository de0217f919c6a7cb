"""The language in which results and errors are worded: English, unless a program chooses another.

A sentence is written in English where it is needed, `say("{count} files in {folder}", count=3,
folder="a")`. What translates it is chosen by the program; see `resattn.translations`. Words in a
table of constants are marked, `mark("batch norm")`, and said where they are used.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_translate: Callable[[str], str] = str
_language = "en"


class Translated(str):
    """A sentence in another language. english: the same in English, for programs."""

    english = ""


def say(text: str, /, **values: Any) -> str:
    """A sentence in the language that was chosen. text: the English one, with the names of values
    in braces. Where there is no translation it stays English.
    """
    if isinstance(text, Translated):
        return text
    if _translate is str or not text:
        return text.format(**values) if values else text
    spoken = _translate(text)
    found = Translated(spoken.format(**values) if values else spoken)
    found.english = text.format(**in_english(values)) if values else text
    return found


def mark(text: str) -> str:
    """The English text itself, which is translated where `say` gets it."""
    return text


def join_texts(texts: Iterable[str], between: str = "") -> str:
    """One text of several, some of which `say` may have translated."""
    parts = [*texts]
    found = between.join(parts)
    if any(isinstance(each, Translated) for each in (between, *parts)):
        found = Translated(found)
        found.english = in_english(between).join(map(in_english, parts))
    return found


def in_english(value: Any) -> Any:
    """A text that `say` translated in English again, also within lists and mappings."""
    if isinstance(value, Translated):
        return value.english
    if isinstance(value, dict):
        return {in_english(key): in_english(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(map(in_english, value))
    return value


def count_cells(text: str) -> int:
    """The width of a text on a terminal, where Chinese characters take two cells."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def current_language() -> str:
    """The language that was chosen, as in "en"."""
    return _language


@contextmanager
def translate_with(translate: Callable[[str], str], language: str) -> Iterator[None]:
    """Within it, `say` looks sentences up with `translate`, in all threads."""
    global _translate, _language
    before = _translate, _language
    _translate, _language = translate, language
    try:
        yield
    finally:
        _translate, _language = before
