"""The command line, one command a file.

A command imports frameworks, NumPy and whatever else takes long only when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass, field
from importlib.metadata import version
from inspect import cleandoc
from typing import Annotated

import typer

from resattn.cli.attach import attach
from resattn.cli.attention import attention
from resattn.cli.bench import bench
from resattn.cli.check import check
from resattn.cli.compare import compare
from resattn.cli.config_options import name_options, with_config_options
from resattn.cli.demo import demo
from resattn.cli.draw import draw
from resattn.cli.drift import drift
from resattn.cli.explain import explain
from resattn.cli.imports import import_module_or_file
from resattn.cli.inspect import inspect
from resattn.cli.language import LanguageOption, SpokenGroup, with_language
from resattn.cli.port import port
from resattn.cli.prepare import prepare
from resattn.cli.quiet import keep_quiet
from resattn.cli.record import record
from resattn.cli.targets import with_force
from resattn.cli.terminal import print_line, shorten


def help_of(docstring: str) -> str:
    """A docstring with each paragraph in one line. Typer folds it to the width of the terminal."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


app = typer.Typer(
    cls=SpokenGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Residual blocks with attention. Move weights between PyTorch, Flax and Keras, and "
    "check that all three compute the same.",
)
COMMANDS = (
    *(port, attach, inspect, prepare, check, drift, record, compare, attention, explain, draw),
    *(bench, demo),
)
for command in COMMANDS:
    spoken = with_language(with_force(with_config_options(command)))
    app.command(help=help_of(command.__doc__ or ""))(spoken)


def main() -> None:
    """The entry point.

    Exit status 0: the command is done, and a check passed. 1: a check failed. 2: an argument or a
    file is wrong; the message says what to correct. 130: it was interrupted. Any error that is not
    a ResattnError is a bug and keeps its traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_quiet()
    settings = Settings()
    try:
        app(obj=settings)
    except Exception as error:
        from resattn.translations import speaking  # here, since weights imports NumPy
        from weights.checks import printable
        from weights.errors import ResattnError

        if not isinstance(error, ResattnError):
            raise
        if settings.debug:
            print_line(traceback.format_exc().rstrip(), error=True)
        else:
            message = name_options(str(error), settings.options)
            with speaking(settings.language):
                print_line(shorten(f"resattn: {printable(message)}"), "bad", error=True)
        sys.exit(2)


@dataclass
class Settings:
    """What `main` reads when a command has failed. options: of the command, by their arguments.
    language: of the command.
    """

    debug: bool = False
    options: dict[str, str] = field(default_factory=dict)
    language: str = "en"


def find_options(context: typer.Context) -> dict[str, str]:
    """The options of the command that is about to run, by the names of their arguments."""
    command = getattr(context.command, "commands", {}).get(context.invoked_subcommand)
    parameters = command.params if command is not None else ()
    return {
        each.name: next((name for name in each.opts if name.startswith("--")), each.name.upper())
        for each in parameters
        if each.name is not None
    } | ({"block": "--only"} if context.invoked_subcommand in ("draw", "explain") else {})


def show_version(wanted: bool) -> None:
    """Prints the version and ends the command."""
    if wanted:
        print_line(f"resattn {version('resattn')}")
        raise typer.Exit


@app.callback()
def set_up(
    context: typer.Context,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="Import this module or .py file first, for example one that registers attention "
            "kinds of your own.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of every error.")
    ] = False,
    show: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=show_version, is_eager=True
        ),
    ] = False,
    lang: LanguageOption = None,
) -> None:
    """Applies the global options. Typer calls it before the command.

    lang: `SpokenGroup` has read it.
    """
    settings = context.ensure_object(Settings)
    settings.debug, settings.options = debug, find_options(context)
    for module in modules or []:
        import_module_or_file("--import", module)


if __name__ == "__main__":
    main()
