"""A live model of the user's own on the command line: "net.py:Net(10, width=64)"."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from resattn.cli.imports import import_module_or_file
from resattn.cli.words import say

ChannelsOption = Annotated[
    int | None,
    typer.Option(
        "--channels",
        help="For a model of your own: how many channels its images have. Default: what its first "
        "convolution takes.",
        min=1,
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="For a model of your own: the path of the part that is meant, as in layer1.0.",
    ),
]
ChoiceOption = Annotated[
    int | None,
    typer.Option(
        "--choice",
        help="For a model of your own that can be several things: the number of the one that is "
        "meant.",
        min=1,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help='A model of your own, as in "net.py:Net(10)". This runs the file.',
    ),
]
LIVE_HELP = (
    'Or a model of your own as "FILE.py:NAME" or "MODULE:NAME", with arguments as in '
    '"net.py:Net(10, width=64)": a class, a function that returns the model, or the model itself. '
    "This runs the file."
)

# A path of a .py file or a dotted module, then a name; not a drive or a URL.
_FORM = re.compile(r"(?P<module>.+\.py|[^\W\d][\w.]*):(?P<call>[^\W\d][\w.]*\s*(\(.*\))?)", re.S)


@dataclass(frozen=True)
class LiveCall:
    """What the user wrote: where the model is, the name there, and the arguments of its call.

    called: whether there were parentheses.
    """

    text: str
    module: str
    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    called: bool


def parse_live(text: str | Path | None) -> LiveCall | None:
    """The call in an argument, or None for a file. Raises ArgumentError for arguments that are not
    plain values, and for a .py file without such a call.
    """
    from weights.errors import ArgumentError

    if text is None:
        return None
    found = None if _is_there(text) and not str(text).endswith(".py") else _match(str(text))
    if found is None:
        return None
    try:
        call = ast.parse(found["call"].strip(), mode="eval").body
    except SyntaxError as error:
        raise ArgumentError(
            say("{text}: cannot be read as a call: {reason}", text=text, reason=error.msg)
        ) from None
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    name = ast.unparse(call)
    if isinstance(call, ast.Call):
        name = ast.unparse(call.func)
        try:
            arguments = tuple(ast.literal_eval(each) for each in call.args)
            options = {_name(each): ast.literal_eval(each.value) for each in call.keywords}
        except (ValueError, TypeError):
            raise ArgumentError(
                say(
                    "{text}: expected plain values as arguments (numbers, strings, True, "
                    "None, tuples and lists of them); for others write a function without "
                    "arguments in the file",
                    text=text,
                )
            ) from None
    return LiveCall(
        str(text), found["module"], name, arguments, options, isinstance(call, ast.Call)
    )


def _is_there(text: str | Path) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for the name of a file
        return False


def _match(text: str) -> re.Match[str] | None:
    from weights.errors import ArgumentError

    found = _FORM.fullmatch(text)
    if found is None and re.match(r".+\.py(:|$)", text, re.S):
        raise ArgumentError(
            say(
                "{text}: expected a file and one name in it, with or without the "
                'arguments of a call, as in "net.py:Net(10)"',
                text=text,
            )
        )
    return found


def _name(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError("**")
    return keyword.arg


def make_live(call: LiveCall, channels: int | None, size: tuple[int, int] | None) -> Any:
    """The live model, in evaluation mode. It runs the user's file.

    A Flax class gets `rngs=nnx.Rngs(0)` where it asks for it and the user gave none. A Keras layer
    that has no variables yet is called once with zeros. Raises what `import_module_or_file` raises,
    and ArgumentError for what is not there or no model. Errors of the user's code pass through.
    """
    from weights.errors import ArgumentError
    from weights.live import owner

    _import_torch_first()
    if call.module.split(".")[0] in ("timm", "torchvision"):
        from resattn.benchmarks.libraries import import_library

        import_library(call.module.split(".")[0])  # also beside a PyTorch without CUDA
    model: Any = import_module_or_file(say("the model"), call.module)
    for part in call.name.split("."):
        if not hasattr(model, part):
            raise ArgumentError(
                say(
                    "{text}: there is no {name!r} in {module}",
                    text=call.text,
                    name=part,
                    module=call.module,
                )
            )
        model = getattr(model, part)
    if call.called or inspect.isclass(model) or inspect.isroutine(model):
        model = _call(call, model)
    framework = owner(model)
    if framework != "tf":  # Keras takes the mode in each call
        model.eval()
    if framework == "tf" and not getattr(model, "variables", ()):
        _build_keras(call, model, channels, size)
    return model


def _call(call: LiveCall, made: Any) -> Any:
    """What a class or a function gives. Raises ArgumentError for arguments that it does not take,
    and for a model, which needs no call.
    """
    from weights.errors import ArgumentError

    if not callable(made) or (not inspect.isclass(made) and _is_live(made)):
        if _is_live(made):
            raise ArgumentError(
                say(
                    "{text}: {name} is a model already; leave out the parentheses",
                    text=call.text,
                    name=call.name,
                )
            )
        raise ArgumentError(
            say(
                "{text}: {name} cannot be called; leave out the parentheses",
                text=call.text,
                name=call.name,
            )
        )
    options = _with_rngs(made, call.options)
    try:
        return made(*call.arguments, **options)
    except TypeError as error:
        taken = _signature(made)
        if taken is None or _binds(taken, call.arguments, options):
            raise  # of the user's code
        raise ArgumentError(
            say(
                "{text}: {reason}; expected arguments as in {call}{taken}",
                text=call.text,
                reason=error,
                call=call.name,
                taken=taken,
            )
        ) from None


def _is_live(value: object) -> bool:
    """Whether it is a live model of any framework."""
    from weights.errors import ModelError
    from weights.live import owner

    try:
        owner(value)
    except ModelError:
        return False
    return True


def _signature(made: Any) -> inspect.Signature | None:
    """Without self; None for what is not written in Python."""
    try:
        if not inspect.isclass(made):
            return inspect.signature(made)
        found = inspect.signature(made.__init__)
    except (TypeError, ValueError):
        return None
    return found.replace(
        parameters=list(found.parameters.values())[1:], return_annotation=inspect.Signature.empty
    )


def _binds(taken: inspect.Signature, given: tuple[Any, ...], options: dict[str, Any]) -> bool:
    try:
        taken.bind(*given, **options)
    except TypeError:
        return False
    return True


def _import_torch_first() -> None:
    """Where PyTorch and TensorFlow are installed, one of them may break in the other order."""
    with suppress(ImportError):
        import_module("torch")


def _with_rngs(made: Any, options: dict[str, Any]) -> dict[str, Any]:
    taken = _signature(made)
    if taken is None or "rngs" not in taken.parameters or "rngs" in options:
        return options
    from flax import nnx

    return {**options, "rngs": nnx.Rngs(0)}


def _build_keras(
    call: LiveCall, model: Any, channels: int | None, size: tuple[int, int] | None
) -> None:
    """Creates the variables of a layer, by calling it. One that fails has those up to there."""
    import numpy as np

    from weights.errors import ArgumentError

    if channels is None:
        raise ArgumentError(
            say(
                "{text}: this layer has no variables before it is called; say with "
                "--channels how many channels its images have",
                text=call.text,
            )
        )
    try:
        model(np.zeros((1, *(size or (32, 32)), channels), "float32"))
    except Exception:
        if not model.variables:
            raise
