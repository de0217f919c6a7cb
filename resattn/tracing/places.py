"""Sets of steps in which people make the same mistake: all, one stage's, all outside of the
attention modules and so on.
"""

from __future__ import annotations

import re

from resattn.tracing.steps import Program
from weights.graph import IMAGE
from weights.language import say

Sets = list[tuple[str, list[str]]]  # what the places have in common, and the places


def list_sets(region: list[str], program: Program) -> list[Sets]:
    """All of the region and the image; single places, the last first; parts of it."""
    if len(region) < 2:
        return [[], [("", region)], []]
    parts: dict[str, list[str]] = {}
    for name in region:
        for label in _label(name):
            parts.setdefault(label, []).append(name)
    several = [(label, places) for label, places in parts.items() if 1 < len(places) < len(region)]
    single: Sets = [("", [name]) for name in reversed(region)]
    whole: Sets = [("", region), *(("", [name]) for name in region if name == IMAGE)]
    return [whole, single, several]


def _label(name: str) -> list[str]:
    """The parts of a model that a step belongs to."""
    if name == IMAGE:
        return []
    attention, shortcut = "attention" in name, "shortcut" in name
    labels = [] if name.startswith("stem") else [say("outside of the stem")]
    labels += [
        say("in the attention modules") if attention else say("outside of the attention modules"),
        say("in the shortcuts") if shortcut else say("outside of the shortcuts"),
    ]
    if not attention and not shortcut:
        labels.append(say("outside of attention modules and shortcuts"))
    found = re.match(r"stages\.(\d+)\.(\d+)(?:\.(.*))?$", name)
    if found:
        stage, block, leaf = found.groups()
        labels += [
            say("in stages.{stage}", stage=stage),
            say("in stages.{stage}.{block}", stage=stage, block=block),
        ]
        labels += [say("called {leaf}", leaf=leaf)] if leaf else []
        if not attention:
            labels.append(say("in stages.{stage} outside of its attention modules", stage=stage))
    elif name.startswith("stem"):
        labels.append(say("in the stem"))
    return labels


def name_places(label: str, places: list[str], most: int = 4) -> str:
    """Where a cause is, as the end of a sentence."""
    if places == [IMAGE]:
        return say(", in the input")
    if len(places) == 1:
        return say(", at {place}", place=places[0])
    if len(places) <= most:
        return say(", in all of {places}", places=", ".join(places))
    span = say("({first} to {last})", first=places[0], last=places[-1])
    if label:
        return say(
            ", in all of the {count} {label} that can have it {span}",
            count=len(places),
            label=label,
            span=span,
        )
    return say(", in all of the {count} that can have it {span}", count=len(places), span=span)
