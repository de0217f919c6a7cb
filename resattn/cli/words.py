"""The words of commands: `say` without NumPy."""

from __future__ import annotations

from typing import Any


def say(text: str, /, **values: Any) -> str:
    """As `weights.language.say`, which is imported when it is needed, since weights imports
    NumPy.
    """
    from weights.language import say as translate

    return translate(text, **values)
