"""Reading and writing weights files: which format a suffix names, and what every format is held to.

| suffix | read | written | needs |
| --- | --- | --- | --- |
| .safetensors | yes | yes | |
| .npz | yes, without pickles | yes | |
| .pt .pth .th | yes, `weights_only=True` | yes | PyTorch |
| .keras | no: load it with Keras, then `save` it | a network, or a model of one block | Keras |

Nothing in a file is ever executed. A file is moved into place once it is complete.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import BlockConfig, Config, NetworkConfig, config_from_json
from weights.convert import Arrays, check, reorder
from weights.dialects import DIALECTS, dialect_named
from weights.dialects.back import find_architectures, is_same_network
from weights.dialects.recognise import (
    prepare_as_said,
    recognise,
    to_canonical_names,
    to_dialect_names,
)
from weights.errors import ArgumentError
from weights.files import keras, npz, pytorch, safetensors
from weights.files.atomic import existing
from weights.files.content import Content, find_prefixes
from weights.files.origin import find_origin, origin_from_json, origin_to_json
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, check_unchanged
from weights.parameters import Parameters
from weights.schema import schema

FILE_FORMATS = {
    ".safetensors": safetensors,
    ".npz": npz,
    ".pt": pytorch,
    ".pth": pytorch,
    ".th": pytorch,
}
READABLE = tuple(FILE_FORMATS)
WRITABLE = (*READABLE, ".keras")


def save(path: str | os.PathLike[str], model: Any) -> None:
    """Writes a live model of any framework to a file, with its config inside.

    The suffix says the format. Raises what `export` and `write` raise.
    """
    live = LiveModel.of(model)
    check_unchanged(live)
    write(path, model.config, live.export())


def write(
    path: str | os.PathLike[str],
    config: Config,
    arrays: Mapping[str, np.ndarray],
    *,
    origin: Mapping[str, Any] | None = None,
    dialect: str | None = None,
) -> None:
    """Writes canonical arrays to a file, with their config inside. The suffix says the format.

    origin: where the weights came from. dialect: one of `weights.dialects.DIALECTS`: with that
        library's names and axis orders instead, and without a config, as it loads them strictly.
    Raises WeightsError when the arrays do not fit the config; ArgumentError for a suffix that
    cannot be written, and for a dialect that has no such network or whose network with these names
    and shapes computes something else; FileError where the system refuses. If anything fails, the
    file that was at `path` before is still there.
    """
    target = Path(path)
    suffix = _suffix(target, WRITABLE, "write")
    parameters = schema(config)
    headline = f"{target.name} was not written: the arrays do not fit the config"
    check(parameters, arrays, headline=headline)
    arrays = {each.name: reorder(arrays[each.name], each.axes, each.axes) for each in parameters}
    text: str | None = config.to_json()
    if dialect is not None:
        spoken = dialect_named(dialect)
        if suffix == ".keras" or not isinstance(config, NetworkConfig):
            raise ArgumentError(
                f"dialect: {spoken.title} has networks, in files of {', '.join(READABLE)}"
            )
        find_architectures(spoken, config)  # refuses what would be loaded, and be wrong
        text, arrays = None, to_dialect_names(spoken, config, arrays)
    if suffix == ".keras":
        keras.write(target, config, arrays)
    else:
        FILE_FORMATS[suffix].write(target, text, arrays, origin_to_json(origin))


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
    source = Path(path)
    suffix = _suffix(source, READABLE, "read")
    content = FILE_FORMATS[suffix].read(existing(source), part)
    if content.config is not None:
        held = config_from_json(content.config, f"the config in {source.name}")
        config = held if config is None else _agree(source.name, held, config)
    elif _is_foreign(content.arrays, config):
        return _recognised(source, content, config, architecture)
    if config is None:
        raise ArgumentError(
            f"{source.name}: holds no config, so it does not say what it is; pass "
            'config=BlockConfig(...), NetworkConfig(...) or preset("resnet18") (on the command '
            "line: --config)"
        )
    parameters = schema(config)
    unread = _unread(parameters)
    arrays = {name: array for name, array in content.arrays.items() if name not in unread}
    check(parameters, arrays, headline=f"{source.name} does not fit its config")
    origin = origin_from_json(content.origin, f"the origin in {source.name}")
    ordered = {parameter.name: arrays[parameter.name] for parameter in parameters}
    return Checkpoint(config, ordered, origin, content.notes)


def _agree(source: str, held: Config, given: Config) -> Config:
    """The config in a file, which must describe the same model as the one given.

    The preprocessing, on which nothing that a network computes depends, is that of the config that
    has one. Raises ArgumentError for configs of two models, or with two preprocessings.
    """
    if held == given:
        return held
    if isinstance(held, NetworkConfig) and isinstance(given, NetworkConfig):
        said = {each for each in (held.preprocessing, given.preprocessing) if each is not None}
        if is_same_network(held, given) and len(said) < 2:
            return replace(held, preprocessing=next(iter(said), None))
    raise ArgumentError(
        f"{source}: holds a config of its own that is another than the one given: {held}"
    )


def _is_foreign(arrays: Mapping[str, np.ndarray], config: Config | None) -> bool:
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
    source: Path, content: Content, config: Config | None, architecture: str | None
) -> Checkpoint:
    """A file of another library."""
    if isinstance(config, BlockConfig):
        raise ArgumentError(
            f"{source.name}: holds a network of another library, but the config is of a "
            f"{config.model}"
        )
    origin = find_origin(source)
    reason = None
    if architecture is None and config is None:
        architecture, reason = _said_beside(origin, content)
    found = recognise(content.arrays, source.name, architecture, config, reason)
    found, notes = prepare_as_said(found, origin.pop("pretrained_cfg", None))
    arrays = to_canonical_names(found, content.arrays, source.name)
    check(schema(found.config), arrays, headline=f"{source.name} does not fit its config")
    origin |= found.origin
    return Checkpoint(found.config, arrays, origin, (*content.notes, found.describe(), *notes))


def _said_beside(origin: Mapping[str, Any], content: Content) -> tuple[str | None, str | None]:
    """The architecture that a config.json or a trainer names, and who says so."""
    if "architecture" in origin:
        return origin["architecture"], "its config.json says so"
    said = (content.architecture or "").split(".")[0]  # timm's names have a tag after the dot
    known = any(said in each.architectures for each in DIALECTS.values())
    return (said, "the file says so") if known else (None, None)


def _suffix(path: Path, known: tuple[str, ...], verb: str) -> str:
    suffix = path.suffix.lower()
    if suffix in known:
        return suffix
    if suffix == ".keras":
        raise ArgumentError(
            f"{path.name}: cannot read .keras files, since loading one runs code that it names. "
            "Import tf_impl, load it with keras.models.load_model, and pass what is ours to "
            "weights.save: the network, or for a block model.layers[-1]"
        )
    raise ArgumentError(
        f"{path.name}: cannot {verb} {suffix or 'a file without suffix'}; expected one of "
        f"{', '.join(known)}"
    )


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
    return config_from_json(source.read_bytes().decode("utf-8", errors="replace"), source.name)
