"""The words of `resattn` in other languages: gettext catalogues in `resattn/locale`, which
`make translations` keeps.
"""

from __future__ import annotations

import ast
import gettext
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weights.errors import ArgumentError
from weights.language import say, translate_with

LOCALE = Path(__file__).with_name("locale")
DOMAIN = "resattn"
CATALOGUES = ("en", "zh")  # English is in the code
_FUNCTIONS = ("say", "mark")


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within it, reports and errors are in a language. Raises ArgumentError for an unknown one."""
    if language not in CATALOGUES:
        names = ", ".join(CATALOGUES)
        raise ArgumentError(
            say("--lang: expected one of {names}, got {language!r}", names=names, language=language)
        )
    if language == "en":
        with translate_with(str, language):
            yield
        return
    catalogue = gettext.translation(DOMAIN, LOCALE, [language])
    with translate_with(catalogue.gettext, language):
        yield


def extract_sentences(source: str) -> Iterator[str]:
    """The sentences in the text of a module: the first arguments of `say` and `mark`, where they
    are texts.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.args:
                case [ast.Constant(value=str(text)), *_] if node.func.id in _FUNCTIONS:
                    yield text
