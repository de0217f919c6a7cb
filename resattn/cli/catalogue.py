"""Keeps the catalogues of `resattn/locale`; see `resattn.translations`. It needs Babel.

`python -m resattn.cli.catalogue` gathers the sentences of the tree, keeps the translations that
there are, and compiles the catalogues. A new sentence then has an empty translation in
`locale/zh/LC_MESSAGES/resattn.po`, which a translator fills in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

from resattn.translations import CATALOGUES, DOMAIN, LOCALE, extract_sentences

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("resattn", "weights")
_MAGIC = 0x950412DE  # of .mo files


def catalogue_of(language: str) -> Path:
    """The file that a translator edits. What programs read is beside it, as .mo."""
    return LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def list_sentences() -> dict[str, list[str]]:
    """The sentences of the tree, sorted, and the files that have them."""
    from resattn.reporting.rendering import list_template_sentences

    found: dict[str, set[str]] = {}
    for folder in _FOLDERS:
        for file in sorted((_ROOT / folder).rglob("*.py")):
            for text in extract_sentences(file.read_text(encoding="utf-8")):
                found.setdefault(text, set()).add(file.relative_to(_ROOT).as_posix())
    for name, texts in (("help", _list_help()), ("page", list_template_sentences())):
        for text in texts:
            found.setdefault(text, set()).add(name)
    return {text: sorted(found[text]) for text in sorted(found) if text}


def _list_help() -> Iterator[str]:
    from typer.main import get_command

    from resattn.cli.app import app
    from resattn.cli.help_words import list_help_texts

    yield from list_help_texts(get_command(app))


def read_catalogue(path: Path) -> Any:
    """The catalogue in a .po file, as Babel has it."""
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return read_po(file)


def merge_sentences(language: str) -> Any:
    """The catalogue of a language with the sentences of the tree: a translation stays as it is
    where the sentence does.
    """
    from babel.messages.catalog import Catalog

    path = catalogue_of(language)
    known = read_catalogue(path) if path.exists() else Catalog()
    merged = Catalog(language, domain=DOMAIN, header_comment=_HEADER)
    for text, files in list_sentences().items():
        before = known.get(text)
        merged.add(
            text,
            before.string if before and not before.fuzzy else "",
            auto_comments=[", ".join(files)],
        )
    return merged


_HEADER = """\
# The words of resattn. `make translations` adds new sentences, without a translation.
# In braces are the names of values, which stay as they are."""


def write_catalogue(catalogue: Any) -> bytes:
    """The text of a .po file, which depends on its sentences and translations alone."""
    from babel.messages.pofile import write_po

    written = BytesIO()
    write_po(written, catalogue, width=100, omit_header=True, sort_output=True)
    head = '{}\nmsgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
    return head.format(_HEADER).encode() + written.getvalue()


def compile_catalogue(path: Path) -> bytes:
    """The .mo file of a .po file: as the manual of GNU gettext says ("The Format of GNU MO Files"),
    without the dates and versions that tools put in.
    """
    texts = {message.id: message.string for message in read_catalogue(path) if message.id}
    texts[""] = "Content-Type: text/plain; charset=utf-8\n"
    pairs = sorted((text.encode(), texts[text].encode()) for text in texts)
    place = 28 + 16 * len(pairs)
    table, held = b"", b""
    for side in zip(*pairs, strict=True):
        for text in side:
            table += pack("<2I", len(text), place)
            held += text + b"\0"
            place += len(text) + 1
    return pack("<7I", _MAGIC, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0) + table + held


def main() -> None:
    for language in CATALOGUES[1:]:
        path, merged = catalogue_of(language), merge_sentences(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_catalogue(merged))
        path.with_suffix(".mo").write_bytes(compile_catalogue(path))
        missing = [message.id for message in merged if message.id and not message.string]
        for text in missing:
            print(f"{language}: not translated: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
