"""What a model of a user's own returns: an array, or a container that holds one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from weights.errors import ArgumentError, ModelError, ResattnError

# What libraries call the array that other models return alone.
MAIN_OUTPUTS = ("logits", "out", "output", "last_hidden_state")


def is_array(value: Any) -> bool:
    """Whether a value has a shape and a dtype, as the arrays of all frameworks have."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def find_array(
    value: Any, what: str, is_array: Callable[[Any], bool] = is_array
) -> tuple[Any, Callable[[Any], Any]]:
    """The array that an output is or holds, and a function that puts another in its place.

    That is the one with a name of `MAIN_OUTPUTS`, or else the only one. what: names the output in
    an error. Raises ArgumentError for an output without an array, and for one with several.
    """
    if is_array(value):
        return value, lambda array: array
    held = {name: part for name, part in _list_parts(value) if is_array(part)}
    main = next((name for name in MAIN_OUTPUTS if name in held), None)
    if main is None and len(held) == 1:
        main = next(iter(held))
    if main is None:
        kind = type(value).__qualname__
        with_arrays = f" with {len(held)} arrays ({', '.join(map(str, held))})" if held else ""
        raise ArgumentError(
            f"{what}: expected one array, got {kind}{with_arrays}; "
            "wrap the model so that it returns the array alone"
        )
    return held[main], lambda array: _replace_part(value, main, array)


def _list_parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", range(len(value)))
        yield from zip(names, value, strict=True)
    elif is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))


def _replace_part(value: Any, name: Any, array: Any) -> Any:
    if hasattr(value, "_replace"):
        return value._replace(**{name: array})
    if isinstance(value, tuple):
        return type(value)(array if place == name else part for place, part in enumerate(value))
    changed = copy.copy(value)
    if isinstance(value, (Mapping, list)):
        changed[name] = array
    else:
        setattr(changed, name, array)
    return changed


def attempt_gradients(
    compute: Callable[[], Any], otherwise: Any, notes: list[str] | None = None
) -> Any:
    """The gradients that a function computes. If it raises an error, notes get it, and the result
    is `otherwise`. notes: None for a model of ours, whose errors are bugs.
    """
    try:
        return compute()
    except Exception as error:
        if notes is None:
            raise
        notes.append(f"no gradients, because they raised {_describe_error(error)}")
        return otherwise


@contextmanager
def blame_model(model: Any, x: np.ndarray, ours: bool) -> Iterator[None]:
    """Within it, what a model of a user's own raises becomes a ModelError.

    x: the images that it was given, channels first. ours: whether the model is one of ours;
    whatever that raises is a bug and keeps its traceback.
    """
    try:
        yield
    except ResattnError:
        raise
    except Exception as error:
        if ours:
            raise
        raise ModelError(
            f"{type(model).__qualname__}, called with the images alone, of the shape {x.shape} "
            f"(batch channel row col), raised {_describe_error(error)}"
        ) from error


def _describe_error(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"
