"""The command line, one command a file. A command imports frameworks, and whatever else takes long,
when it runs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.attention import attention
from resattn.cli.check import check
from resattn.cli.demo import demo
from resattn.cli.draw import draw
from resattn.cli.drift import drift
from resattn.cli.explain import explain
from resattn.cli.inspect import inspect
from resattn.cli.port import port
from resattn.cli.terminal import shortened


def help_of(docstring: str) -> str:
    """The paragraphs of a docstring, each in one line: the terminal folds them."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Residual blocks with attention: port weights between PyTorch, Flax and Keras, check that "
    "they compute the same.",
)
for command in (port, inspect, check, drift, attention, explain, draw, demo):
    app.command(help=help_of(command.__doc__ or ""))(command)


def main() -> None:
    """The entry point. What the user can mend is one message and exit status 2; a failed check is
    exit status 1.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        typer.secho(f"resattn: {shortened(str(error))}", fg=typer.colors.RED, err=True)
        sys.exit(2)


@app.callback()
def before(
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="A Python module to import first, such as one with attention kinds of your own.",
        ),
    ] = None,
) -> None:
    for module in modules or []:
        import_module_or_file(module)


def import_module_or_file(name: str) -> None:
    """A module by its name, from this folder or among what is installed, or a .py file."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"--import {name}: there is no such file")
        import_file(Path(name))
        return
    sys.path.insert(0, os.getcwd())
    if importlib.util.find_spec(name) is None:
        raise ValueError(
            f"--import {name}: there is no such module in this folder or among what is installed"
        )
    importlib.import_module(name)


def import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
