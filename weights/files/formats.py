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
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import Config, config_from_json
from weights.convert import Arrays, check, reorder
from weights.dialects import NAMINGS, to_canonical_names
from weights.errors import ArgumentError
from weights.files import keras, npz, pytorch, safetensors
from weights.files.atomic import existing
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel
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
    write(path, model.config, live.export())


def write(path: str | os.PathLike[str], config: Config, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes canonical arrays to a file, with their config inside. The suffix says the format.

    Raises WeightsError when the arrays do not fit the config, ArgumentError for a suffix that
    cannot be written, FileError where the system refuses. If anything fails, the file that was at
    `path` before is still there.
    """
    target = Path(path)
    suffix = _suffix(target, WRITABLE, "write")
    parameters = schema(config)
    headline = f"{target.name} was not written: the arrays do not fit the config"
    check(parameters, arrays, headline=headline)
    arrays = {each.name: reorder(arrays[each.name], each.axes, each.axes) for each in parameters}
    if suffix == ".keras":
        keras.write(target, config, arrays)
    else:
        FILE_FORMATS[suffix].write(target, config.to_json(), arrays)


def read(
    path: str | os.PathLike[str], config: Config | None = None, naming: str | None = None
) -> tuple[Config, Arrays]:
    """The config and the canonical arrays of a file.

    config: for a file that holds none; must be the file's own if it does.
    naming: the naming of the library that wrote the file, one of `weights.dialects.NAMINGS`;
        without it names must be canonical.
    Raises MissingFileError, WeightsError for a file that cannot be read safely or does not fit its
    config, ArgumentError for a suffix or naming that is not known and for a config that is missing
    or another than the file's.
    """
    source = Path(path)
    suffix = _suffix(source, READABLE, "read")
    text, arrays = FILE_FORMATS[suffix].read(existing(source))
    if text is not None:
        held = config_from_json(text, f"the config in {source.name}")
        if config is not None and config != held:
            raise ArgumentError(
                f"{source.name}: holds a config of its own that is another than the one given: "
                f"{held}"
            )
        config = held
    if config is None:
        raise ArgumentError(
            f"{source.name}: holds no config, so it does not say what it is; pass "
            'config=BlockConfig(...), NetworkConfig(...) or preset("resnet18") (on the command '
            "line: --config)"
        )
    if naming is not None:
        arrays = to_canonical_names(naming, config, arrays, source.name)
    parameters = schema(config)
    unread = _unread(parameters)
    arrays = {name: array for name, array in arrays.items() if name not in unread}
    hint = f" (written by another library? pass naming=, one of {', '.join(NAMINGS)})"
    headline = f"{source.name} does not fit its config{'' if naming else hint}"
    check(parameters, arrays, headline=headline)
    return config, {parameter.name: arrays[parameter.name] for parameter in parameters}


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
