"""Cards on the command line: `check --card` makes them, `inspect` shows them, `port` keeps them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import list_given_options, write_json
from resattn.cli.check_forms import Request, cross_check
from resattn.cli.targets import WRITTEN
from resattn.cli.terminal import print_line
from resattn.cli.words import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from resattn.checking.card import Card
    from weights import Report
    from weights.files.formats import CheckpointHeader
    from weights.stored import StoredArray

CardOption = Annotated[
    Path | None,
    typer.Option(
        "--card",
        help="Also write what was found to this file, to be published with FILE: verdict, "
        "distances, same classes, versions, hashes and this command. A .md file for people, or a "
        ".json file for programs.",
    ),
    WRITTEN,
]
EmbedOption = Annotated[
    bool,
    typer.Option(
        "--embed",
        help="With --card: also put the card into FILE, beside its weights, which stay as they "
        "are, bit for bit. resattn inspect shows it.",
    ),
]


def card_check(context: typer.Context, request: Request) -> Report:
    """Makes and prints the cross-check, writes its card, and puts it into FILE with --embed."""
    from resattn.checking.card import make_card
    from weights.files.hub import is_hub_address

    file, target, embed = (context.params[name] for name in ("file", "card", "embed"))
    check_card_name(target)
    if embed:
        find_place(file)  # refused before anything is computed
    options = request.options | {"classify": bool(getattr(request.config, "classes", 0))}
    report = cross_check(replace(request, options=options))
    assert request.arrays is not None
    card = make_card(
        report,
        request.config,
        request.arrays,
        file=str(file) if is_hub_address(file) else file.name,
        file_sha256=None,
        images=describe_images(request),
        command=repeat_command(context),
    )
    if embed:
        embed_card(file, card)
        print_line(
            say("Put the card into {file}: its weights are the same, bit for bit.", file=file)
        )
    write_card(target, hash_source(card, file))
    print_line(say("Wrote {file}.", file=target))
    return report


def check_card_name(target: Path) -> None:
    """Raises ArgumentError for a card that is to be neither Markdown nor JSON."""
    from weights.errors import ArgumentError

    if target.suffix.lower() not in (".md", ".json"):
        raise ArgumentError(
            say("--card: expected a .md or a .json file, got {name!r}", name=target.name)
        )


def write_card(target: Path, card: Card) -> None:
    """The card as Markdown or as JSON; the suffix says which."""
    from resattn.reporting.card import to_markdown
    from weights.files.atomic import write_atomically

    if target.suffix.lower() == ".json":
        write_json(target, card.to_dict())
        return
    text = to_markdown(card)
    write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def hash_source(card: Card, file: Path) -> Card:
    """The card with the hash of the file, where it is a file and here."""
    from weights.fingerprint import fingerprint_file

    return replace(card, file_sha256=fingerprint_file(file)) if file.is_file() else card


def find_place(file: Path) -> CheckpointHeader:
    """What the header of FILE says. Raises ArgumentError for a file that cannot hold a card, or
    that holds more than resattn would write again.
    """
    from weights.errors import ArgumentError
    from weights.files.formats import read_header
    from weights.files.hub import is_hub_address
    from weights.files.label import CHECKSUMS, list_written
    from weights.files.opening import find_suffix

    if is_hub_address(file):
        raise ArgumentError(
            say("--embed: {file} is on a hub; port it to a file, and check that", file=file)
        )
    find_suffix(file, "write")
    header = read_header(file)
    if CHECKSUMS not in header.label:
        raise ArgumentError(
            say(
                "--embed: {name} has no place for a card, since resattn did not write "
                "it, or an old version did; port it to a file of its own (resattn port "
                "SOURCE TARGET), and check that",
                name=file.name,
            )
        )
    if list_written(header.label, file.name) != set(header.arrays):
        raise ArgumentError(
            say(
                "--embed: {name} holds more than the weights of a model, such as the "
                "state of a training, which would be lost; port its weights to another "
                "file (resattn port SOURCE TARGET), and check that",
                name=file.name,
            )
        )
    return header


def embed_card(file: Path, card: Card) -> None:
    """Writes FILE again, with the card in it. Raises WeightsError for a file whose weights are not
    those of the card: it changed while it was checked.
    """
    from weights.errors import WeightsError
    from weights.files.formats import transfer
    from weights.fingerprint import fingerprint_weights

    header = find_place(file)
    if fingerprint_weights(header.arrays) != card.weights_sha256:
        raise WeightsError(
            say(
                "--embed: {name} changed while it was checked, and was left as it is; "
                "check it again",
                name=file.name,
            ),
            [],
        )
    transfer(header, file, card=card.to_json())


def describe_images(request: Request) -> str:
    """What the models computed with, in words."""
    from resattn.checking.crosscheck import choose_inputs

    options = request.options
    given, seed = options["inputs"], options["seed"]
    found = choose_inputs(request.config, given, options["size"], options["batch"], "float32", seed)
    count, *shape = found.shape
    images = f"{count} {'random ' if given is None else ''}{'image' if count == 1 else 'images'}"
    words = f"{images} of {' x '.join(map(str, shape))} (channels x height x width)"
    return f"{words}, seed {seed}" if given is None else words


def repeat_command(context: typer.Context) -> str:
    """The words of the command line that say what was checked, with the names of files alone."""
    from weights.files.hub import is_hub_address

    given = list_given_options(context)
    words = ["resattn", "check"]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        option = parameter.opts[0]
        if (option if option.startswith("-") else option.upper()) not in given:
            continue
        if option == "--config" and str(value).endswith(".json"):
            value = Path(str(value))
        if isinstance(value, Path):
            value = str(value) if is_hub_address(value) else value.name
        if option in ("--embed", "--json", "--all", "--force"):
            continue  # they change nothing of what is found
        words += [option] if value is True else [str(value)]
        if option.startswith("-") and value is not True:
            words[-1:] = [option, str(value)]
    return shlex.join(words)


def show_card(
    header: CheckpointHeader, arrays: Mapping[str, np.ndarray | StoredArray] | None
) -> None:
    """Prints what the card in a file says, and whether it is about the weights there.

    arrays: those of the file; None if they were not read.
    """
    from weights.errors import ArgumentError

    try:
        card = find_card(header)
    except ArgumentError as error:
        print_line(say("card: cannot be read ({error})", error=error), "warning")
        return
    if card is None:
        return
    from weights.fingerprint import fingerprint_weights

    checked = ", ".join(dict.fromkeys(f"{row.framework} {row.dtype}" for row in card.rows))
    print_line(say("card: {verdict}", verdict=card.verdict), "" if card.ok else "bad")
    print_line(
        say(
            "card: of {network}, checked in {checked}",
            network=card.network,
            checked=checked or say("no framework"),
        )
    )
    print_line(
        say(
            "card: made by {command}, with {environment}",
            command=card.command,
            environment="; ".join(card.environment),
        )
    )
    about = say("card: weights {hash}", hash=card.weights_sha256)
    if arrays is None:
        print_line(say("{about}: not compared with the values here (--values does)", about=about))
    elif fingerprint_weights(arrays) == card.weights_sha256:
        print_line(say("{about}: those in this file", about=about), "good")
    else:
        print_line(
            say("{about}: NOT those in this file, so the card is about other weights", about=about),
            "bad",
        )


def find_card(header: CheckpointHeader) -> Card | None:
    """The card in a file. Raises ArgumentError for one that cannot be read."""
    from weights.files.label import CARD

    text = header.label.get(CARD)
    if text is None:
        return None
    from resattn.checking.card import Card  # with all that a check needs

    return Card.from_json(text, f"the card in {header.source}")


def keep_card(header: CheckpointHeader, fold: bool, dialect: str | None) -> str | None:
    """The JSON of the card in SOURCE, if it is about the weights that TARGET gets; else a line says
    why TARGET has none.
    """
    from weights.errors import ArgumentError
    from weights.files.label import CARD
    from weights.fingerprint import fingerprint_weights

    if CARD not in header.label:
        return None
    reason = ""
    if dialect is not None:
        reason = say("a file with the names of {dialect} has no place for it", dialect=dialect)
    elif fold:
        reason = say("it is about the weights before they were folded")
    else:
        try:
            card = find_card(header)
        except ArgumentError as error:
            reason = say("it cannot be read ({error})", error=error)
        else:
            if card is None or card.weights_sha256 != fingerprint_weights(header.arrays):
                reason = say("it is about other weights")
    if reason:
        print_line(
            say("The card in {file} was left out: {reason}.", file=header.source, reason=reason),
            "warning",
        )
        return None
    print_line(
        say(
            "The card in {file} is kept: the weights are the same, bit for bit.", file=header.source
        )
    )
    return header.label[CARD]
