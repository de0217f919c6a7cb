"""The settings of the modules of a live model, so that two models can be compared: everything that
decides what they compute besides their arrays, their mode and their random state.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from weights.checks import DEEPEST, quote
from weights.fields import Options, Plain

ModuleSettings = dict[str, Any]  # {"path.of.the.module name": value that can be compared}
KIND, OVERRIDES, HOOKS = "(class)", "(replaced methods)", "(hooks)"


def own_settings(path: str, module: object, skipped: Collection[str] = ()) -> ModuleSettings:
    """The settings that a module has itself: its class, replaced methods and attributes.

    path: of the module in the model. skipped: names of attributes that are none, and submodules.
    Those that begin with an underscore are none.
    """
    kind = type(module)
    attributes = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in skipped
    }
    replaced = [name for name, value in attributes.items()
                if callable(value) and callable(getattr(kind, name, None))]  # fmt: skip
    found: ModuleSettings = {KIND: _name(kind), OVERRIDES: tuple(sorted(replaced))}
    found |= {name: _plain(value) for name, value in attributes.items() if name not in replaced}
    return {f"{path} {name}": value for name, value in found.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """A value that can be compared; of other objects the name or the class."""
    if value is None or isinstance(value, (bool, int, float, str, Plain)):
        return value
    if depth == DEEPEST:  # a user's own attribute may be within itself
        return _name(type(value))
    if isinstance(value, (tuple, list)):
        return tuple(_plain(item, depth + 1) for item in value)
    if isinstance(value, (Options, Mapping)):
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, partial):
        return (
            _name(value.func),
            *(_plain(each, depth + 1) for each in (value.args, value.keywords)),
        )
    return (
        _name(value) if callable(value) and hasattr(value, "__qualname__") else _name(type(value))
    )


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def compare_settings(expected: ModuleSettings, found: ModuleSettings) -> list[str]:
    """One line for each setting that is another, `conv1.stride: expected (2, 2), got (1, 1)`.

    What only `found` has is not compared: it may be anything that a user keeps there.
    """
    lines = []
    for place, value in expected.items():
        path, _, name = place.partition(" ")
        if place not in found:
            absent = name == KIND  # whose settings are not there either
            lines += [f"{path or 'the model'}: missing"] if absent else []
        elif found[place] != value:
            where = path if name == KIND else f"{path}.{name}".strip(".")
            lines.append(f"{where}: expected {_words(value)}, got {_words(found[place])}")
    return lines


def _words(value: Any) -> str:
    if value == ():
        return "none"
    return value if isinstance(value, str) and value.isprintable() else quote(value)
