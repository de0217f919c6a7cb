"""The words of `resattn` in other languages: gettext catalogues in `resattn/locale`.

`python -m resattn.translations` gathers the sentences of the tree, keeps the translations that
there are, and compiles the catalogues. A new sentence then has an empty translation in
`locale/zh/LC_MESSAGES/resattn.po`, which a translator fills in.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weights.errors import ArgumentError
from weights.language import translate_with

LOCALE = Path(__file__).with_name("locale")
DOMAIN = "resattn"
CATALOGUES = ("en", "zh")  # English is in the code


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within it, reports and errors are in a language. Raises ArgumentError for an unknown one."""
    if language not in CATALOGUES:
        raise ArgumentError(f"--lang: expected one of {', '.join(CATALOGUES)}, got {language!r}")
    if language == "en":
        with translate_with(str):
            yield
        return
    catalogue = gettext.translation(DOMAIN, LOCALE, [language])
    with translate_with(catalogue.gettext):
        yield
