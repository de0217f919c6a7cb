"""Where in a model's own code something happens, and what could not be computed there."""

from __future__ import annotations

import dis
import linecache
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from traceback import walk_stack
from types import FrameType, TracebackType
from typing import Any

# Their code is not a model's own. Models of torchvision, timm and so on are.
LIBRARIES = (
    *("torch", "functorch", "jax", "jaxlib", "flax", "keras", "tensorflow", "numpy"),
    *("resattn", "weights"),
)
# They call the model: frames outside of these are the user's call of a tool.
READERS_OF_MODELS = tuple(
    str(Path(__file__).with_name(f"{name}.py")) for name in ("pytorch", "flax", "keras")
)
# Operators and functions of Python and NumPy -> the operations of a graph.
OPERATIONS = {
    **dict.fromkeys(("+", "+=", "add", "iadd", "add_"), "sum"),
    **dict.fromkeys(("*", "*=", "mul", "imul", "mul_", "multiply"), "product"),
    **dict.fromkeys(("-", "-=", "sub", "isub", "sub_", "subtract"), "difference"),
    **dict.fromkeys(("/", "/=", "div", "truediv", "divide", "true_divide"), "quotient"),
    **dict.fromkeys(("@", "matmul", "dot", "linear"), "matrix_product"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "concatenate"),
    **dict.fromkeys(("conv2d", "conv", "conv_general_dilated"), "convolution"),
}


@dataclass(frozen=True)
class Failed:
    """What is known of an error in a model's own code.

    operation: as in `OPERATIONS`, "" if it is not known. file, line: of the model's own code.
    """

    message: str
    operation: str
    file: str
    line: int


def find_own_place(frames: Iterable[tuple[str, int]]) -> tuple[str, int]:
    """The innermost place in a model's own code, of the frames (file, line), innermost first.

    ("", 0) if there is none: a functional Keras model was written where it was made, not where it
    is called.
    """
    inside = takewhile(lambda place: place[0] not in READERS_OF_MODELS, frames)
    return next((place for place in inside if is_own_code(place[0])), ("", 0))


@cache
def is_own_code(file: str) -> bool:
    """Whether a file belongs neither to a framework nor to Python nor to these tools."""
    if file.startswith("<") and not file.startswith(("<ipython", "<stdin")):
        return False  # made by a program
    path = Path(file)
    if any(folder in path.parents for folder in _library_folders()):
        return False
    inside = [folder for folder in _python_folders() if folder in path.parents]
    return not inside or "site-packages" in path.parts or "dist-packages" in path.parts


@cache
def _library_folders() -> tuple[Path, ...]:
    found = []
    for name in LIBRARIES:
        spec = find_spec(name)
        found += [Path(each) for each in (spec and spec.submodule_search_locations) or ()]
    return tuple(found)


@cache
def _python_folders() -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def read_line(file: str, line: int) -> str:
    """The text of a line of code, without its margin; "" if the file cannot be read."""
    return linecache.getline(file, line).strip() if file else ""


def locate_error(error: BaseException, is_value: Callable[[Any], bool]) -> tuple[Failed, list[Any]]:
    """Where in a model's own code an error was raised, and the arrays (is_value) that the
    framework's function got there.
    """
    message = str(error)
    calls = list(_calls(error.__traceback__))
    own = [at for at, (frame, _, _) in enumerate(calls) if is_own_code(frame.f_code.co_filename)]
    if not own:
        return Failed(message, "", "", 0), []
    frame, line, last = calls[own[-1]]
    inner = [each for each, _, _ in calls[own[-1] + 1 :]]
    operation = _operator_at(frame, last) or next(
        (OPERATIONS[name] for each in inner for name in _names(each) if name in OPERATIONS), ""
    )
    operands = next((found for each in inner if (found := _values(each, is_value))), [])
    return Failed(message, operation, frame.f_code.co_filename, line), operands


def locate_call(message: str, function: str) -> Failed:
    """Where in a model's own code the call is that runs now and has failed.

    function: the name of the framework's function.
    """
    for frame, line in walk_stack(sys._getframe(1)):
        file = frame.f_code.co_filename
        if file in READERS_OF_MODELS and frame.f_code.co_name != "__torch_function__":
            break
        if is_own_code(file):
            operation = _operator_at(frame, frame.f_lasti) or OPERATIONS.get(function, "")
            return Failed(message, operation, file, line)
    return Failed(message, OPERATIONS.get(function, ""), "", 0)


def _calls(trace: TracebackType | None) -> Iterable[tuple[FrameType, int, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno, trace.tb_lasti
        trace = trace.tb_next


def _operator_at(frame: FrameType, offset: int) -> str:
    """The operation of the operator that a frame was executing."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset == offset and instruction.opname.startswith("BINARY_OP"):
            return OPERATIONS.get(instruction.argrepr, "")
    return ""


def _names(frame: FrameType) -> Iterable[str]:
    """What a called function may be called."""
    yield frame.f_code.co_name
    owner = frame.f_locals.get("self", frame.f_locals.get("fun"))
    yield str(getattr(owner, "__name__", ""))


def _values(frame: FrameType, is_value: Callable[[Any], bool]) -> list[Any]:
    """The different arrays among the arguments of a frame, in order."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + 2  # *args and **kwargs come after these
    waiting = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
    found: dict[int, Any] = {}
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, (list, tuple)):
            waiting[:0] = value
        elif isinstance(value, dict):
            waiting[:0] = value.values()
        elif is_value(value):
            found[id(value)] = value
    return list(found.values())
