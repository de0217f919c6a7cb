"""Which published network a checkpoint is: from the set of its names and shapes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np

from weights.config import NetworkConfig
from weights.convert import reorder
from weights.dialects import DIALECTS
from weights.dialects.derive import NOT_IN_SHAPES, derive
from weights.dialects.dialect import UNREAD, Dialect, Sizes
from weights.dialects.refused import refuse_known
from weights.errors import AmbiguousNetwork, ArgumentError, WeightsError
from weights.frameworks import FRAMEWORKS
from weights.language import say
from weights.preprocessing import from_timm
from weights.schema import schema
from weights.stored import StoredArray

AnyArray = TypeVar("AnyArray", np.ndarray, StoredArray)
Names = Mapping[str, tuple[str, Sizes]]  # as `Dialect.recognise` gives them

_SHOWN = 6  # differences that an error lists


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint was found to be.

    dialect, architectures: whose names it has, and every architecture that it can be; they have the
        same config. config: of our network. reason: how it is known, for people. libraries: the
        titles of all dialects that have it.
    """

    dialect: Dialect
    architectures: tuple[str, ...]
    config: NetworkConfig
    reason: str
    libraries: tuple[str, ...]

    @property
    def is_published(self) -> bool:
        """Whether it is one of the dialect's networks, or else was described by a config."""
        return self.architectures[0] in self.dialect.architectures

    @property
    def origin(self) -> dict[str, str]:
        """What is known of where the weights came from: the library and the architecture."""
        named = {"architecture": self.architectures[0]} if self.is_published else {}
        return {**named, "library": self.dialect.title}

    def describe(self) -> str:
        """One line for people: family, widths, attention, stem, shortcut, how sure and why."""
        names, titles = " or ".join(self.architectures), " and ".join(self.libraries)
        return f"{names} of {titles} ({self.reason}): {describe_network(self.config)}"


def describe_network(config: NetworkConfig) -> str:
    """What distinguishes a network from others, in a few words."""
    stem = "-".join(map(str, config.stem_widths))
    kernel = "x".join(map(str, config.stem_kernel_size))
    pool = config.stem_pool or "no"
    words = [
        say(
            "{forms} blocks {depths}",
            forms=" and ".join(dict.fromkeys(config.forms)),
            depths="-".join(map(str, config.depths)),
        ),
        say("widths {widths}", widths="-".join(map(str, config.widths))),
        say("attention {attention}", attention=config.attention),
        say("stem {kernel} {widths}, {pool} pooling", kernel=kernel, widths=stem, pool=pool),
        say("shortcut {shortcut}", shortcut=config.shortcut),
    ]
    words += [say("{count} groups", count=config.groups)] if config.groups > 1 else []
    words += [say("stride in conv1")] if config.stride_at == "conv1" else []
    words += [say("relu before attention")] if config.relu_before_attention else []
    words += (
        [say("antialias {antialias}", antialias=config.antialias)]
        if config.antialias != "none"
        else []
    )
    words += [say("{norm} norm", norm=config.norm)] if config.norm != "batch" else []
    head = say("{count} classes", count=config.classes) if config.classes else say("no classifier")
    return "; ".join([*words, head])


def recognise(
    arrays: Mapping[str, np.ndarray] | Mapping[str, StoredArray],
    source: str,
    architecture: str | None = None,
    config: NetworkConfig | None = None,
    reason: str | None = None,
) -> Recognised:
    """What a checkpoint is.

    arrays: by their names, in their axis order. source: what to call them in an error.
    architecture: what the user, or a file beside it, says that it is. config: what the user says
    that the network is. reason: where the architecture was said.
    Raises WeightsError for a checkpoint of no dialect, or of none of its architectures;
    ArgumentError where it can be several, and for an architecture that does not exist or fit.
    """
    shapes = {name: array.shape for name, array in arrays.items() if not _is_unread(name)}
    refuse_known(shapes, source)
    found, known = _dialects_of(shapes)
    if not found:
        raise WeightsError(
            say(
                "{file}: its names are neither ours nor those of {known}; its first "
                "names are {names}",
                file=source,
                known=", ".join(each.title for each in DIALECTS.values()),
                names=", ".join(sorted(shapes)[:4]),
            ),
            [],
        )
    if config is not None:
        return _as_config(found, shapes, config, source)
    _refuse_strangers(found[0], known, shapes, source)
    renamed = dict(known.values())
    derived = derive(renamed)
    matches = _find_matches(found, derived, renamed, set(shapes))
    if architecture is not None:
        said = architecture.split(".")[0]  # timm's names of weights have a tag after the dot
        chosen = [match for match in matches if match[1] == said]
        if not chosen:
            _refuse_architecture(found, said, matches, derived, renamed, source)
        dialect, name, made = chosen[0]
        libraries = tuple(each.title for each, _, _ in chosen)
        return Recognised(dialect, (name,), made, reason or say("as asked for"), libraries)
    whole = [match for match in matches if match[1] not in match[0].pruned]
    matches = whole or matches  # any widths are those of a pruned network
    if not matches:
        _refuse_unknown(found, derived, renamed, source)
    configs = dict.fromkeys(made for _, _, made in matches)
    if len(configs) > 1:
        raise _ambiguous(source, matches)
    names = tuple(dict.fromkeys(name for _, name, _ in matches))
    why = say("no other network that we know has these names and shapes")
    libraries = tuple(dict.fromkeys(each.title for each, _, _ in matches))
    return Recognised(matches[0][0], names, matches[0][2], why, libraries)


def _find_matches(
    found: Iterable[Dialect],
    derived: NetworkConfig,
    shapes: Mapping[str, Sizes],
    names: set[str],
) -> list[tuple[Dialect, str, NetworkConfig]]:
    """The architectures of these shapes, by our names, and with these names of theirs."""
    return [
        (dialect, name, made)
        for dialect in found
        for name in dialect.architectures
        if (made := fit(dialect, name, derived, shapes)) is not None
        and set(dialect.names(made)) == names
    ]


def prepare_as_said(
    found: Recognised, pretrained_cfg: Mapping[str, Any] | None
) -> tuple[Recognised, tuple[str, ...]]:
    """With the preprocessing that timm's `pretrained_cfg` says, or else that of the library.

    The second value are notes for people: why that is left out, if it is.
    """
    if found.config.preprocessing is not None or found.config.in_channels != 3:
        return found, ()
    try:
        said = from_timm(pretrained_cfg) if pretrained_cfg else found.dialect.preprocessing
    except ArgumentError as error:  # nothing that the network computes depends on it
        return found, (f"left out the preprocessing in its pretrained_cfg: {error}",)
    return replace(found, config=replace(found.config, preprocessing=said)), ()


def to_canonical_names(
    found: Recognised, arrays: Mapping[str, AnyArray], source: str
) -> dict[str, AnyArray]:
    """The arrays of a recognised checkpoint under canonical names, in canonical axis order.

    Raises WeightsError with every missing and unexpected name.
    """
    names = found.dialect.names(found.config)
    missing = [say("{name}: missing", name=name) for name in set(names) - set(arrays)]
    strange = [
        say("{name}: unexpected", name=name)
        for name in set(arrays) - set(names)
        if not _is_unread(name)
    ]
    if missing or strange:
        title = say(
            "{file} is not a {network} of {library}:",
            file=source,
            network=found.architectures[0],
            library=found.dialect.title,
        )
        raise WeightsError(title, missing + strange)
    row = FRAMEWORKS[found.dialect.framework]
    return {
        parameter.name: reorder(arrays[name], row.axes(parameter), parameter.axes)
        if arrays[name].ndim == len(parameter.shape)
        else arrays[name]
        for name, parameter in names.items()
    }


def to_dialect_names(
    dialect: Dialect, config: NetworkConfig, arrays: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """Canonical arrays -> the names and axis orders of another library."""
    row = FRAMEWORKS[dialect.framework]
    return {
        name: reorder(arrays[parameter.name], parameter.axes, row.axes(parameter))
        for name, parameter in dialect.names(config).items()
    }


def fit(
    dialect: Dialect, name: str, derived: NetworkConfig, shapes: Mapping[str, Sizes]
) -> NetworkConfig | None:
    """The config of an architecture, with the classes and the stages of a checkpoint; None if its
    shapes are others.
    """
    made = dialect.architecture(name)
    count = len(derived.depths)
    if made.forms[:count] != derived.forms or made.depths[:count] != derived.depths:
        return None
    made = adapt(made, derived)
    if name in dialect.pruned:
        if made.attention != derived.attention:
            return None
        made = _prune(made, derived)
    held = {each.name: each.shape for each in schema(made)}
    return made if held == dict(shapes) else None


def adapt(made: NetworkConfig, derived: NetworkConfig) -> NetworkConfig:
    """A config with the image channels, the classes and the number of stages of another one."""
    count = len(derived.depths)
    fields: dict[str, Any] = {
        "in_channels": derived.in_channels,
        "classes": derived.classes,
    }
    if count < len(made.depths):
        for name in ("widths", "depths", "strides", "hidden_widths", "first_widths"):
            value = getattr(made, name)
            fields[name] = value and value[:count]
        for name in ("attention", "attention_options", "form"):
            value = getattr(made, name)
            fields[name] = value[:count] if isinstance(value, tuple) else value
    return replace(made, **fields)


def _prune(made: NetworkConfig, derived: NetworkConfig) -> NetworkConfig:
    names = ("widths", "hidden_widths", "first_widths", "stem_channels", "attention_options")
    return replace(made, **{name: getattr(derived, name) for name in names})


def _dialects_of(shapes: Mapping[str, Sizes]) -> tuple[list[Dialect], Names]:
    """The dialects that know most of the names, and what the first of them makes of the names."""
    known = {name: each.recognise(shapes) for name, each in DIALECTS.items()}
    most = max(map(len, known.values()))
    found = [name for name, names in known.items() if len(names) == most > 4]
    return [DIALECTS[name] for name in found], known[found[0]] if found else {}


def _refuse_strangers(
    dialect: Dialect, known: Names, shapes: Mapping[str, Sizes], source: str
) -> None:
    strange = sorted(set(shapes) - set(known))
    if strange:
        raise WeightsError(
            say(
                "{file}: most of its names are those of {library}, but {count} are "
                "not, so it may compute something else:",
                file=source,
                library=dialect.title,
                count=len(strange),
            ),
            [f"{name}: {shapes[name]}" for name in strange[:_SHOWN]],
        )


def _as_config(
    found: list[Dialect], shapes: Mapping[str, Sizes], config: NetworkConfig, source: str
) -> Recognised:
    """The dialect that has a name for every parameter of a config."""
    errors: list[Exception] = []
    for dialect in found:
        try:
            names = dialect.names(config)
        except ArgumentError as error:
            errors.append(error)
            continue
        if set(names) == set(shapes):
            title = dialect.title
            return Recognised(dialect, ("a network",), config, "by the config given", (title,))
        faults = [say("{name}: missing", name=name) for name in set(names) - set(shapes)]
        faults += [say("{name}: unexpected", name=name) for name in set(shapes) - set(names)]
        title = say(
            "{file} does not fit the config given, by the names of {library}:",
            file=source,
            library=dialect.title,
        )
        errors.append(WeightsError(title, faults))
    raise errors[0]


def _ambiguous(
    source: str, matches: Iterable[tuple[Dialect, str, NetworkConfig]]
) -> AmbiguousNetwork:
    by_config: dict[NetworkConfig, list[str]] = {}
    for _, name, config in matches:
        names = by_config.setdefault(config, [])
        if name not in names:
            names.append(name)
    fields = [
        name
        for name in NetworkConfig.__dataclass_fields__
        if len({getattr(config, name) for config in by_config}) > 1
    ]
    lines = [
        f"  {' or '.join(names)}: "
        + ", ".join(f"{name} {getattr(config, name)}" for name in fields)
        for config, names in by_config.items()
    ]
    candidates = tuple(names[0] for names in by_config.values())
    message = say(
        "{file}: {count} networks have these names and shapes but compute "
        "different things, so the file alone does not say which one it is; say "
        "it, as in --as {example} (in Python: architecture=):\n",
        file=source,
        count=len(by_config),
        example=candidates[0],
    )
    return AmbiguousNetwork(message + "\n".join(lines), candidates)


def _refuse_architecture(
    found: list[Dialect],
    said: str,
    matches: list[tuple[Dialect, str, NetworkConfig]],
    derived: NetworkConfig,
    shapes: Mapping[str, Sizes],
    source: str,
) -> None:
    owners = [each for each in DIALECTS.values() if said in each.architectures]
    fitting = ", ".join(dict.fromkeys(name for _, name, _ in matches))
    hint = f"; what fits is {fitting}" if fitting else ""
    titles = " and ".join(each.title for each in found)
    if not owners:
        known = [name for each in DIALECTS.values() for name in each.architectures]
        near = " or ".join(get_close_matches(said, dict.fromkeys(known), 3))
        meant = f"; did you mean {near}?" if near and not fitting else hint
        raise ArgumentError(
            say(
                "architecture: we know no network {name!r} of {libraries}{hint}",
                name=said,
                libraries=titles,
                hint=meant,
            )
        )
    if owners[0] not in found:
        raise ArgumentError(
            f"{source}: {said!r} has the names of {owners[0].title}, but here are those of "
            f"{titles}{hint}"
        )
    made = adapt(owners[0].architecture(said), derived)
    faults = _unlike(made, shapes) or [f"its modules have other names in {owners[0].title}"]
    raise WeightsError(f"{source} is not a {said}{hint}:", faults)


def _refuse_unknown(
    found: list[Dialect], derived: NetworkConfig, shapes: Mapping[str, Sizes], source: str
) -> None:
    """Names the nearest architecture, and in what the checkpoint differs from it."""
    near = []
    for dialect in found:
        for name in dialect.architectures:
            made = dialect.architecture(name)
            if made.forms[: len(derived.forms)] == derived.forms:
                faults = _unlike(adapt(made, derived), shapes)
                near.append((_distance(made, derived, faults), name, dialect.title, faults))
    if not near:
        titles = " and ".join(each.title for each in found)
        raise WeightsError(
            say("{file}: no network of {libraries} is like it", file=source, libraries=titles), []
        )
    _, name, title, faults = min(near, key=lambda each: each[:2])
    count = len(faults)
    rest = say(" (the first {most} of {count})", most=_SHOWN, count=count) if count > _SHOWN else ""
    raise WeightsError(
        say(
            "{file}: none of the networks that we know; the nearest is {network} "
            "of {library}. If it is a network of your own, describe it with "
            "--config (in Python: config=): {config}; shapes do not say {fields}. "
            "Differences from {network}{rest}:",
            file=source,
            network=name,
            library=title,
            config=describe_network(derived),
            fields=", ".join(NOT_IN_SHAPES),
            rest=rest,
        ),
        faults[:_SHOWN],
    )


def _distance(made: NetworkConfig, derived: NetworkConfig, faults: list[str]) -> tuple[int, ...]:
    """How far a network is from one of the same forms: another family is farther than a depth."""
    depths = zip_longest(made.depths, derived.depths, fillvalue=0)
    return (
        int(made.attention != derived.attention) + int(made.norm != derived.norm),
        int(len(made.stem_widths) != len(derived.stem_widths)),
        sum(abs(one - other) for one, other in depths),
        len(faults),
    )


def _unlike(made: NetworkConfig, shapes: Mapping[str, Sizes]) -> list[str]:
    held = {each.name: each.shape for each in schema(made)}
    faults = [
        say("{name}: expected {expected}, missing", name=name, expected=held[name])
        for name in sorted(set(held) - set(shapes))
    ]
    faults += [
        say("{name}: {found}, unexpected", name=name, found=shapes[name])
        for name in sorted(set(shapes) - set(held))
    ]
    return faults + [
        say(
            "{name}: expected {expected}, got {found}",
            name=name,
            expected=held[name],
            found=shapes[name],
        )
        for name in held
        if name in shapes and held[name] != shapes[name]
    ]


def _is_unread(name: str) -> bool:
    return name.rpartition(".")[2] in UNREAD
