"""Sentences about the attention kinds, one file a kind, with the names of `weights/attention`.

A file has `WORDS`. A kind without a file gets plain sentences, made from the kinds of its
operations.
"""

from importlib import import_module
from pkgutil import iter_modules

from resattn.explaining.attention.kind_words import KindWords
from weights.attention import ATTENTION

BY_FILE: dict[str, KindWords] = {
    file.name: import_module(f"{__name__}.{file.name}").WORDS
    for file in iter_modules(__path__)
    if file.name != "kind_words"
}


def words_of(kind: str) -> KindWords:
    """The words of a kind. They are empty for a kind without a file."""
    module = ATTENTION[kind].parameters.__module__
    return BY_FILE.get(module.rpartition(".")[2] if ATTENTION[kind].built_in else "", KindWords())
