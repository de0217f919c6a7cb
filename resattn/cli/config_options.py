"""Options that describe a config without JSON, as in `--config resnet18 --classes 10` and
`--block 64,128 --stride 2 --attention eca`. Every command with --config has them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from resattn.cli.arguments import read_config
from resattn.cli.signatures import read_hints, take_options
from resattn.cli.words import say

BlockOption = Annotated[
    str | None,
    typer.Option("--block", help="A block, by its input and output channels, as in 64,128."),
]
StrideOption = Annotated[
    int | None, typer.Option("--stride", help="With --block: its stride.", min=1)
]
ClassesOption = Annotated[
    int | None, typer.Option("--classes", help="With --config: another number of classes.", min=0)
]
ConfigAttentionOption = Annotated[
    str | None,
    typer.Option(
        "--attention",
        help="With --block or --config: the attention kind, with its default options; see "
        "`resattn attention`.",
    ),
]
CONFIG_OPTIONS = {
    "block": BlockOption,
    "stride": StrideOption,
    "classes": ClassesOption,
    "attention": ConfigAttentionOption,
}


def with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes these options as well, if it takes --config. It gets them as JSON."""
    hints = read_hints(command)
    if "config" not in hints:
        return command
    taken = {name.strip("-") for hint in hints.values() for name in _option_names(hint)}
    added = {name: hint for name, hint in CONFIG_OPTIONS.items() if name not in taken}

    @wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in added}
        chosen = {name: value for name, value in given.items() if value is not None}
        if chosen:
            arguments["config"] = describe_config(arguments["config"], **chosen)
        command(**arguments)

    take_options(run, command, added, after="config")
    return run


def _option_names(hint: Any) -> list[str]:
    names = []
    for each in getattr(hint, "__metadata__", ()):
        declared = (getattr(each, "default", None), *(getattr(each, "param_decls", None) or ()))
        names += [name for name in declared if isinstance(name, str) and name.startswith("--")]
    return names


def describe_config(
    config: str | None,
    block: str | None = None,
    stride: int | None = None,
    classes: int | None = None,
    attention: str | None = None,
) -> str:
    """The config of these options as JSON.

    Raises ArgumentError, in the words of the command line, where they do not go together.
    """
    from weights.config import BlockConfig, NetworkConfig
    from weights.errors import ArgumentError

    if (config is None) == (block is None):
        given = say("both --config and --block") if block else say("neither --config nor --block")
        others = {"--stride": stride, "--classes": classes, "--attention": attention}
        names = [name for name, value in others.items() if value is not None]
        said = say(", with {names}", names=say(" and ").join(names)) if names else ""
        more = "" if block else say("; the config of a file cannot be changed")
        raise ArgumentError(
            say(
                "expected --config or --block{said}, got {given}{more}",
                said=said,
                given=given,
                more=more,
            )
        )
    changes: dict[str, Any] = {}
    if attention is not None:
        changes |= {"attention": attention, "attention_options": None}
    try:
        if block is not None:
            if classes is not None:
                raise ArgumentError(say("--classes: a block has none; expected --config with it"))
            channels = _parse_channels(block)
            changes |= {} if stride is None else {"stride": stride}
            return BlockConfig(*channels, **changes).to_json()
        if stride is not None:
            raise ArgumentError(say("--stride: expected --block with it, got --config"))
        found = read_config(config)
        assert found is not None, "one of the two is given"
        if classes is not None and not isinstance(found, NetworkConfig):
            raise ArgumentError(say("--classes: a block has none; expected a network in --config"))
        values = found.to_dict() | changes
        values |= {} if classes is None else {"classes": classes}
        return type(found).from_dict(values).to_json()
    except ArgumentError as error:
        raise ArgumentError(name_options(str(error), _FIELDS)) from None


_FIELDS = {
    "in_channels": "--block",
    "out_channels": "--block",
    "stride": "--stride",
    "classes": "--classes",
    "attention": "--attention",
}


def name_options(message: str, options: Mapping[str, str]) -> str:
    """A message that begins with the name of an argument as one about the option that gave it.

    options: by the names of arguments. A message that begins with a file stays as it is.
    """
    name, colon, rest = message.partition(":")
    is_argument = colon and name in options and name not in sys.argv
    return f"{options[name]}:{rest}" if is_argument else message


def _parse_channels(text: str) -> tuple[int, int]:
    from weights.checks import quote
    from weights.errors import ArgumentError

    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise ArgumentError(
            say(
                "--block: expected input and output channels, as in 64,128, got {text}",
                text=quote(text),
            )
        )
    return int(words[0]), int(words[1])
