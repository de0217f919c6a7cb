"""The content of a weights file, before its network is recognised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.checks import printable
from weights.errors import ArgumentError, WeightsError
from weights.files.label import CONFIG, Label
from weights.language import mark, say
from weights.stored import StoredArray

# What the name of a first convolution of the blocks ends with, in any dialect.
ANCHORS = (
    "layer1.0.conv1.weight",
    "stages.0.0.conv1.weight",
    "stack0_block0_1_conv/kernel",
    "conv2_block1_1_conv/kernel",
    "stages.layers.0.layers.0.conv1.kernel",
)
_SHOWN = 6  # names that an error lists
_LISTED = 20  # names that a note, or the question for one of them, lists
_LONGEST = 1000  # characters of a name


@dataclass(frozen=True)
class Header:
    """What the reader of a format finds in a file without reading the values.

    arrays: names to stored arrays, or to mappings of them; anything else between them is left out.
    label: of a file of ours, by the entries of `weights.files.label`.
    layout: the framework whose names and axis orders a model of ours has in it.
    architecture: the network that the file says it is.
    nbytes: the most that the arrays of one network can have together, where a format lets several
    of them have the same values; None where each has its own.
    """

    arrays: Mapping[str, Any]
    label: Label = field(default_factory=dict)
    layout: str = "torch"
    architecture: str | None = None
    nbytes: int | None = None


@dataclass(frozen=True)
class Content:
    """One network of a file. arrays: by the names in the file.

    notes: what was done to find them, for people. The others are those of the `Header`.
    """

    arrays: Mapping[str, StoredArray]
    label: Label = field(default_factory=dict)
    layout: str = "torch"
    architecture: str | None = None
    notes: tuple[str, ...] = ()


def unwrap(header: Header, source: str, part: str | None = None) -> Content:
    """The arrays of one network in what a trainer saved, however it wrapped them.

    part: which mapping, or which prefix of the names, to take where there are several.
    Raises ArgumentError where several networks fit, WeightsError where there is none, and for
    names that would not be shown as they are.
    """
    content = header.arrays
    notes: list[str] = []
    found = dict(_mappings(content, source))
    if not found:
        raise WeightsError(say("{file}: holds no arrays", file=source), [])
    chosen, rest = _choose(found, part, source)
    first = chosen.split("/")[0]
    if chosen and CONFIG not in header.label:
        others = [name for name in content if name not in (first, "config")]
        beside = say("; beside it, and left out: {names}", names=_list(others)) if others else ""
        notes.append(say("took {name!r} out of the file{beside}", name=chosen, beside=beside))
    elif not chosen and len(found) > 1:
        notes.append(say("left out: {names}", names=_list(filter(None, found))))
    arrays = {
        name: value for name, value in found[chosen].items() if isinstance(value, StoredArray)
    }
    arrays, stripped = _strip(arrays, rest, source)
    said = content.get("arch")  # timm's trainer and PyTorch's examples write it
    architecture = said if isinstance(said, str) else header.architecture
    return Content(arrays, header.label, header.layout, architecture, (*notes, *stripped))


def name_parts(header: Header, source: str) -> list[str]:
    """The values of `part` for which `unwrap` finds a network, where there are several."""
    found = dict(_mappings(header.arrays, source))
    networks = {name: find_prefixes(arrays) for name, arrays in found.items()}
    parts = [
        "/".join(filter(None, (name, prefix.rstrip("./"))))
        for name, prefixes in networks.items()
        for prefix in prefixes
    ]
    if not parts and len(found) > 1:  # blocks have no such names
        return list(found)
    return parts if len(parts) > 1 else []


def check_length(length: int, source: str) -> None:
    """Raises WeightsError for a name, with the keys that lead to it, of too many characters."""
    if length > _LONGEST:
        raise WeightsError(
            f"{source}: has a name of {length:,} characters, and expected are at most {_LONGEST:,}",
            [],
        )


def check_names(names: Iterable[Any], source: str) -> None:
    """Raises WeightsError for names that a terminal would not show as they are."""
    texts = [name for name in names if isinstance(name, str)]
    check_length(max(map(len, texts), default=0), source)
    strange = [name for name in texts if not name.isprintable()]
    if strange:
        raise WeightsError(
            f"{source}: has {len(strange)} names with characters that cannot be printed; nothing "
            "that a framework writes has such names:",
            [ascii(name)[:100] for name in strange[:_SHOWN]],
        )


def _mappings(
    content: Mapping[str, Any], source: str, path: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings of names to arrays, each by the keys that lead there, as "a/b".

    Single numbers beside a mapping of arrays, such as the best accuracy so far, do not count.
    """
    check_names(content, source)
    check_length(len(path), source)
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    inner = [
        found
        for name, value in named.items()
        if isinstance(value, Mapping) and "param_groups" not in value
        for found in _mappings(value, source, f"{path}/{name}".strip("/"))
    ]
    arrays = [value for value in named.values() if isinstance(value, StoredArray)]
    if any(array.ndim for array in arrays) or (arrays and not inner):
        yield path, named
    yield from inner


def _choose(
    found: Mapping[str, Mapping[str, Any]], part: str | None, source: str
) -> tuple[str, str | None]:
    """One of the mappings, and what of `part` is left for a prefix."""
    if part is not None:
        for name in found:
            if part == name:  # "" may also be meant as the prefix that is none
                several = not part and len(find_prefixes(found[name])) > 1
                return name, part if several else None
            if name and part.startswith(f"{name}/"):
                return name, part.removeprefix(f"{name}/")
    if len(found) == 1:
        return next(iter(found)), part
    networks = [name for name, arrays in found.items() if find_prefixes(arrays)]
    if len(networks) == 1 and part is None:
        return networks[0], None
    if part is not None:
        known = _list(networks or filter(None, found))
        raise _miss_part(source, part, known)
    names = _list(name or say("(arrays outside of any)") for name in networks or found)
    raise ArgumentError(
        say(
            "{file}: holds several networks: {names}; say which one with --part (in Python: part=)",
            file=source,
            names=names,
        )
    )


def find_prefixes(arrays: Mapping[str, Any]) -> list[str]:
    """The prefix of the names of each network."""
    found = {}
    for name in arrays:
        for anchor in ANCHORS:
            before = name.removesuffix(anchor)
            if before != name and (not before or before[-1] in "./"):
                found[before] = True
    return list(found)


def _strip(
    arrays: Mapping[str, StoredArray], part: str | None, source: str
) -> tuple[dict[str, StoredArray], tuple[str, ...]]:
    """The arrays of one network, without the prefix of their names, and notes."""
    prefixes = find_prefixes(arrays)
    if part is not None:
        wanted = [each for each in prefixes if each.rstrip("./") == part.rstrip("./")]
        if not wanted:
            known = _list(each.rstrip("./") for each in prefixes if each) or "none"
            raise _miss_part(source, part, known)
        prefixes = wanted
    if len(prefixes) > 1:
        names = _list(each.rstrip("./") or say("(no prefix)") for each in prefixes)
        raise ArgumentError(
            say(
                "{file}: holds several networks, by the prefixes of their names: "
                "{names}; say which one with --part (in Python: part=)",
                file=source,
                names=names,
            )
        )
    if not prefixes or not prefixes[0]:
        others = tuple(each for each in find_prefixes(arrays) if each)
        return {name: each for name, each in arrays.items() if not name.startswith(others)}, ()
    prefix = prefixes[0]
    outside = sorted(name for name in arrays if not name.startswith(prefix))
    if outside and part is None:
        raise ArgumentError(
            say(
                "{file}: {count} outside of {prefix!r}: {names}; to take the network "
                "and leave them out, pass --part {prefix} (in Python: part=)",
                file=source,
                count=_count(outside),
                prefix=prefix.rstrip("./"),
                names=", ".join(outside[:_SHOWN]),
            )
        )
    kept = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    notes = [say("took the prefix {prefix!r} off all names", prefix=prefix)]
    if outside:
        notes.append(
            say(
                "left out {count} outside of it: {names}",
                count=_count(outside),
                names=", ".join(outside[:_SHOWN]),
            )
        )
    return kept, tuple(notes)


def _miss_part(source: str, part: str, known: str) -> ArgumentError:
    """known: the parts that there are."""
    sentence = mark("{file}: has no part {part!r}; its parts are: {known}")
    return ArgumentError(say(sentence, file=source, part=part, known=known))


def _list(names: Iterable[object]) -> str:
    """The first of some names, in their order, and how many more there are."""
    found = [printable(str(name)).replace("\n", r"\n")[:100] for name in names]
    more = say(" and {names:,} more", names=len(found) - _LISTED) if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more


def _count(names: list[str]) -> str:
    return say("1 array") if len(names) == 1 else say("{count} arrays", count=len(names))
