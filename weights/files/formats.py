"""Reading and writing weights files: which format a suffix names, and what every format is held to.

| suffix | what | needs |
| --- | --- | --- |
| .safetensors | the canonical file | |
| .safetensors.index.json | the same in several files | |
| .npz | NumPy, without pickles | |
| .pt .pth .th .bin | PyTorch, zip and legacy, `weights_only=True` | PyTorch |
| .weights.h5 | Keras 3; .h5 of Keras 2 is only read | Keras, to write |
| .keras | a Keras model | Keras, to write |
| .msgpack | Flax | |
| .orbax, or a folder | an Orbax checkpoint of Flax | Orbax, which Flax brings |
| hf://owner/name[/file][@revision] | any of them, only read | huggingface_hub |

Nothing in a file is ever executed. A file is read in two steps: first its header, which says names,
shapes and dtypes; then, if these are those of the network, the values. A file is moved into place
once it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weights.checks import at_least
from weights.config import BlockConfig, Config, NetworkConfig
from weights.config_json import config_from_json
from weights.convert import Arrays, check, reorder
from weights.errors import ArgumentError, WeightsError
from weights.files import label as labels
from weights.files.atomic import existing
from weights.files.content import Content, find_prefixes
from weights.files.hub import INDEX
from weights.files.label import (
    CHECKSUMS,
    UNKNOWN_SUM,
    Label,
    check_arrays,
    check_sums,
    checksums,
    make_label,
)
from weights.files.limits import MOST_HEADER
from weights.files.opening import (
    SUMMED_WHILE_WRITTEN,
    find_suffix,
    format_module,
    open_content,
)
from weights.files.origin import find_origin, origin_from_json, origin_to_json
from weights.frameworks import FRAMEWORKS, Framework
from weights.language import say
from weights.live import LiveModel, build, check_unchanged
from weights.parameters import Parameters
from weights.schema import schema
from weights.stored import StoredArray, as_stored, read_arrays


def save(path: str | os.PathLike[str], model: Any) -> None:
    """Writes a live model of any framework to a file, with its config inside.

    The suffix says the format. Its arrays are written one after another, and not copied as a whole.
    Raises what `export` and `write` raise.
    """
    live = LiveModel.of(model)
    check_unchanged(live)
    write(path, model.config, live.see())


def write(
    path: str | os.PathLike[str],
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    *,
    origin: Mapping[str, Any] | None = None,
    dialect: str | None = None,
    shard_bytes: int | None = None,
    sums: Mapping[str, str] | None = None,
    card: str | None = None,
    compare: Callable[[Mapping[str, str]], object] = lambda sums: None,
) -> None:
    """Writes canonical arrays to a file, with their config inside. The suffix says the format.

    origin: where the weights came from. dialect: one of `weights.dialects.DIALECTS`: with that
        library's names and axis orders instead, and without a config, as it loads them strictly.
    shard_bytes: of values in each file of a .safetensors.index.json, 1 GiB by default.
    sums: the CRC-32 of each array, where they are known, as `CheckpointHeader.check` gives them.
    card: the JSON of a card of these weights (`resattn.checking.card`). A file in a dialect has no
        place for it, nor for the origin.
    compare: is called with the checksums of the arrays, and may raise an error, which leaves no
        file: before anything is written, or before the file is moved into place. It is not called
        with `dialect` or `sums`.
    Raises WeightsError when the arrays do not fit the config; ArgumentError for a suffix that
    cannot be written, and for a dialect that has no such network or whose network with these names
    and shapes computes something else; FileError where the system refuses. If anything fails, the
    file that was at `path` before is still there.
    """
    target = Path(path)
    suffix = find_suffix(target, "write")
    parameters = schema(config)
    headline = say("{file} was not written: the arrays do not fit the config", file=target.name)
    check(parameters, arrays, headline=headline)
    stored = {each.name: as_stored(arrays[each.name]) for each in parameters}
    label: Label = {}
    options: dict[str, Any] = {}
    if dialect is None:
        make = partial(make_label, config.to_json(), stored, origin_to_json(origin), card=card)

        def finish(found: Mapping[str, str]) -> Label:
            compare(found)
            return make(sums=found)

        if sums is not None:
            label = make(sums=sums)
        elif suffix in SUMMED_WHILE_WRITTEN:
            label = make(sums=dict.fromkeys(stored, UNKNOWN_SUM))
            options["finish"] = finish
        else:
            label = finish(checksums(stored))
    else:
        stored = _in_dialect(dialect, config, stored)
    described = config if dialect is None else None
    if suffix == INDEX and shard_bytes is not None:
        options["shard_bytes"] = at_least("shard_bytes", shard_bytes, 1)
    elif shard_bytes is not None:
        raise ArgumentError(f"shard_bytes: {target.name} is one file; expected a {INDEX}")
    format_module(suffix).write(target, label, stored, described, **options)


def _in_dialect(
    dialect: str, config: Config, stored: Mapping[str, StoredArray]
) -> dict[str, StoredArray]:
    from weights.dialects import dialect_named
    from weights.dialects.back import find_architectures
    from weights.dialects.recognise import to_dialect_names

    spoken = dialect_named(dialect)
    if not isinstance(config, NetworkConfig):
        raise ArgumentError(f"dialect: {spoken.title} has networks, and no blocks")
    if config.norm == "folded":
        raise ArgumentError(
            f"dialect: the networks of {spoken.title} have batch norms, and those of this one "
            "are folded into its convolutions; write the network that it was made from"
        )
    find_architectures(spoken, config)  # refuses what would be loaded, and be wrong
    return to_dialect_names(spoken, config, stored)


@dataclass(frozen=True)
class Checkpoint:
    """What was read: a config and canonical arrays.

    origin: where the weights came from, as far as it is known. notes: what was done to read them
    and which network they were found to be, one line each, for people.
    """

    config: Config
    arrays: Arrays
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointHeader:
    """What the header of a file says: a `Checkpoint` whose values were not read yet.

    arrays: canonical names and axis orders. source: the name of the file. label: what it says
    about itself.
    """

    config: Config
    arrays: Mapping[str, StoredArray]
    source: str
    label: Label
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def read(self) -> Checkpoint:
        """With the values. Raises WeightsError for values that are not those that were written."""
        arrays = read_arrays(self.arrays)
        check_arrays(self.label, arrays, self.source)
        return Checkpoint(self.config, arrays, self.origin, self.notes)

    def check(self) -> Mapping[str, str] | None:
        """Reads the values without keeping them. Returns the CRC-32 of each array, or None for a
        file that has none. Raises WeightsError for values that are not those that were written.
        """
        return check_arrays(self.label, self.arrays, self.source)


def read(
    path: str | os.PathLike[str],
    config: Config | None = None,
    architecture: str | None = None,
    part: str | None = None,
) -> tuple[Config, Arrays]:
    """The config and the canonical arrays of a file, as `read_checkpoint` reads it."""
    found = read_checkpoint(path, config, architecture, part)
    return found.config, found.arrays


def read_checkpoint(
    path: str | os.PathLike[str],
    config: Config | None = None,
    architecture: str | None = None,
    part: str | None = None,
) -> Checkpoint:
    """Reads a file of ours, or one of another library, which is recognised from its names and
    shapes.

    config: for a file that holds none; must be of the same model as the file's own if it does, but
        the preprocessing may be in one of them alone.
    architecture: the published network that the file holds, where names and shapes fit several; by
        default what a config.json beside the file says.
    part: which network to take where the file holds several.
    Raises MissingFileError, WeightsError for a file that cannot be read safely, is not recognised
    or does not fit its config, ArgumentError for a suffix that is not known, for a config that is
    another than the file's, and where it is not clear which network it is.
    """
    return read_header(path, config, architecture, part).read()


def read_header(
    path: str | os.PathLike[str],
    config: Config | None = None,
    architecture: str | None = None,
    part: str | None = None,
) -> CheckpointHeader:
    """What `read_checkpoint` reads, without the values: names, shapes and dtypes are those of the
    network, and nothing else was read. Arguments and errors: those of `read_checkpoint`.
    """
    content, source, address = open_content(path, part)
    if labels.CONFIG in content.label:
        held = config_from_json(content.label[labels.CONFIG], f"the config in {source.name}")
        config = held if config is None else _agree(source.name, held, config)
    elif content.layout == "torch" and _is_foreign(content.arrays, config):
        return _recognised(source, content, config, architecture, address)
    if config is None:
        raise ArgumentError(
            say(
                "{file}: holds no config, so it does not say what it is; pass "
                'config=BlockConfig(...), NetworkConfig(...) or preset("resnet18") (on '
                "the command line: --config)",
                file=source.name,
            )
        )
    arrays = _as_ours(content, config, source.name)
    said = origin_from_json(content.label.get(labels.ORIGIN), f"the origin in {source.name}")
    origin = {**address, **said}
    return CheckpointHeader(config, arrays, source.name, content.label, origin, content.notes)


def read_into(
    model: Any, path: str | os.PathLike[str], part: str | None = None
) -> CheckpointHeader:
    """Puts the weights of a file into a live model of any framework: the inverse of `save`.

    All values are checked first. Then they go from the file to the model, one array at a time on
    each core. Returns what the file says about them.
    Raises what `read_checkpoint` and `load` raise; the model is then as it was before.
    """
    live = LiveModel.of(model)
    header = read_header(path, model.config, part=part)
    header.check()
    live.load(header.arrays)
    return header


def build_from(
    path: str | os.PathLike[str],
    framework: str,
    config: Config | None = None,
    architecture: str | None = None,
    part: str | None = None,
    device: str | None = None,
    shards: int | None = None,
) -> Any:
    """A new model of a file in a framework, in evaluation mode. Its values are checked and read as
    `read_into` does it; with `shards`, each device gets its part of them from the file. Arguments
    and errors: those of `read_checkpoint` and `build`.
    """
    header = read_header(path, config, architecture, part)
    header.check()
    return build(header.config, header.arrays, framework, device, shards=shards)


def transfer(
    header: CheckpointHeader,
    path: str | os.PathLike[str],
    *,
    dialect: str | None = None,
    shard_bytes: int | None = None,
    card: str | None = None,
    advance: Callable[[str, int], None] = lambda stage, nbytes: None,
) -> None:
    """Writes what is in a file to another one, array by array, so that the memory does not hold all
    of them, unless the library of a format needs that. All values are checked, either first or on
    the way to a file that is moved into place at the end.

    advance: is called from any thread for each array, with what happens ("checking" or "writing")
        and the array's number of bytes. Other arguments and errors: those of `write` and
        `CheckpointHeader.read`.
    """

    def compare(found: Mapping[str, str]) -> None:
        if CHECKSUMS in header.label:
            check_sums(header.label, found, header.source)

    sums = None
    suffix = find_suffix(Path(path), "write")
    needed = CHECKSUMS in header.label if dialect else suffix not in SUMMED_WHILE_WRITTEN
    if needed:
        sums = checksums(_watch(header.arrays, "checking", advance))
        compare(sums)
    write(
        path,
        header.config,
        _watch(header.arrays, "writing", advance),
        origin=header.origin,
        dialect=dialect,
        shard_bytes=shard_bytes,
        sums=sums,
        card=card,
        compare=compare,
    )


def _watch(
    arrays: Mapping[str, StoredArray], stage: str, advance: Callable[[str, int], None]
) -> dict[str, StoredArray]:
    """The same arrays; the first time that the values of one are given, `advance` is called."""
    left = set(arrays)

    def watched(name: str, array: StoredArray) -> StoredArray:
        def get() -> np.ndarray:
            values = array.get()
            if name in left:
                left.discard(name)
                advance(stage, array.nbytes)
            return values

        return replace(array, get=get)

    return {name: watched(name, array) for name, array in arrays.items()}


def _as_ours(content: Content, config: Config, source: str) -> dict[str, StoredArray]:
    """The arrays of a file with our names, in our order. Raises WeightsError where they are not
    those of the config.
    """
    blocks = len(config.blocks())
    if blocks > len(content.arrays):  # each has several; a schema of so many can take for ever
        raise WeightsError(
            say(
                "{file}: its config asks for {blocks:,} blocks, and it has {arrays:,} arrays",
                file=source,
                blocks=blocks,
                arrays=len(content.arrays),
            ),
            [],
        )
    parameters = schema(config)
    row, unread = FRAMEWORKS[content.layout], _unread(parameters)
    arrays = {name: array for name, array in content.arrays.items() if name not in unread}
    if content.layout != "torch":
        arrays = _by_canonical_names(arrays, row, parameters)
    check(parameters, arrays, headline=say("{file} does not fit its config", file=source))
    return {parameter.name: arrays[parameter.name] for parameter in parameters}


def _by_canonical_names(
    arrays: Mapping[str, StoredArray], row: Framework, parameters: Parameters
) -> dict[str, StoredArray]:
    """A framework's arrays by canonical names, in canonical axis order. Those that do not fit stay
    as they are, for `check` to report.
    """
    known = {row.path(each): each for each in parameters}
    found = {}
    for name, array in arrays.items():
        parameter = known.get(name)
        if parameter is None:
            found[name] = array
        elif array.ndim != len(parameter.shape):
            found[parameter.name] = array
        else:
            found[parameter.name] = reorder(array, row.axes(parameter), parameter.axes)
    return found


def _agree(source: str, held: Config, given: Config) -> Config:
    """The config in a file, which must describe the same model as the one given.

    The preprocessing, on which nothing that a network computes depends, is that of the config that
    has one. Raises ArgumentError for configs of two models, or with two preprocessings.
    """
    if held == given:
        return held
    if isinstance(held, NetworkConfig) and isinstance(given, NetworkConfig):
        from weights.dialects.back import is_same_network

        said = {each for each in (held.preprocessing, given.preprocessing) if each is not None}
        if is_same_network(held, given) and len(said) < 2:
            return replace(held, preprocessing=next(iter(said), None))
    raise ArgumentError(
        say(
            "{file}: holds a config of its own that is another than the one given: {config}",
            file=source,
            config=held,
        )
    )


def _is_foreign(arrays: Mapping[str, StoredArray], config: Config | None) -> bool:
    """Whether names are not ours. With the config of a block: whether they are of a network."""
    if isinstance(config, BlockConfig):
        return bool(find_prefixes(arrays))
    block = "conv1.weight" in arrays and "conv2.weight" in arrays
    block = block and not any(".conv1." in name for name in arrays)  # else a stem, as CLIP's
    network = "stages.0.0.conv1.weight" in arrays  # as ConvNeXt has not
    if isinstance(config, NetworkConfig):
        network = network or any(name.startswith(("stem.", "stages.")) for name in arrays)
    return not block and not network


def _recognised(
    source: Path,
    content: Content,
    config: Config | None,
    architecture: str | None,
    address: Mapping[str, str],
) -> CheckpointHeader:
    """A file of another library."""
    from weights.dialects.recognise import prepare_as_said, recognise, to_canonical_names

    if isinstance(config, BlockConfig):
        raise ArgumentError(
            say(
                "{file}: holds a network of another library, but the config is of a {model}",
                file=source.name,
                model=config.model,
            )
        )
    origin = find_origin(source) | dict(address)
    reason = None
    if architecture is None and config is None:
        architecture, reason = _said_beside(origin, content)
    found = recognise(content.arrays, source.name, architecture, config, reason)
    found, notes = prepare_as_said(found, origin.pop("pretrained_cfg", None))
    arrays = to_canonical_names(found, content.arrays, source.name)
    check(
        schema(found.config),
        arrays,
        headline=say("{file} does not fit its config", file=source.name),
    )
    origin |= found.origin
    notes = (*content.notes, found.describe(), *notes)
    return CheckpointHeader(found.config, arrays, source.name, {}, origin, notes)


def _said_beside(origin: Mapping[str, Any], content: Content) -> tuple[str | None, str | None]:
    """The architecture that a config.json or a trainer names, and who says so."""
    if "architecture" in origin:
        return origin["architecture"], "its config.json says so"
    from weights.dialects import DIALECTS

    said = (content.architecture or "").split(".")[0]  # timm's names have a tag after the dot
    known = any(said in each.architectures for each in DIALECTS.values())
    return (said, "the file says so") if known else (None, None)


def _unread(parameters: Parameters) -> set[str]:
    """Names of the counters that PyTorch keeps beside running statistics."""
    return {
        f"{parameter.module}.{leaf}"
        for parameter in parameters
        if parameter.role == "norm mean"
        for leaf in FRAMEWORKS["torch"].unread
    }


def config_file(path: str | os.PathLike[str]) -> Config:
    """The config in a JSON file. Raises MissingFileError, ArgumentError for a file without one."""
    source = existing(path)
    with source.open("rb") as file:
        text = file.read(MOST_HEADER).decode("utf-8", errors="replace")
    return config_from_json(text, source.name)
