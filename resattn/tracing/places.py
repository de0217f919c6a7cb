"""Sets of steps in which people make the same mistake: all, one stage's, all outside of the
attention modules and so on.
"""

from __future__ import annotations

import re

from resattn.tracing.steps import Program
from weights.graph import IMAGE

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
    labels = [] if name.startswith("stem") else ["outside of the stem"]
    labels += [
        "in the attention modules" if attention else "outside of the attention modules",
        "in the shortcuts" if shortcut else "outside of the shortcuts",
    ]
    if not attention and not shortcut:
        labels.append("outside of attention modules and shortcuts")
    found = re.match(r"stages\.(\d+)\.(\d+)(?:\.(.*))?$", name)
    if found:
        stage, block, leaf = found.groups()
        labels += [f"in stages.{stage}", f"in stages.{stage}.{block}"]
        labels += [f"called {leaf}"] if leaf else []
        if not attention:
            labels.append(f"in stages.{stage} outside of its attention modules")
    elif name.startswith("stem"):
        labels.append("in the stem")
    return labels


def name_places(label: str, places: list[str], most: int = 4) -> str:
    """Where a cause is, as the end of a sentence."""
    if places == [IMAGE]:
        return ", in the input"
    if len(places) == 1:
        return f", at {places[0]}"
    if len(places) <= most:
        return f", in all of {', '.join(places)}"
    span = f"({places[0]} to {places[-1]})"
    if label:
        return f", in all of the {len(places)} {label} that can have it {span}"
    return f", in all of the {len(places)} that can have it {span}"
