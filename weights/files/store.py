"""Files: the canonical safetensors file with its config inside, and what can be read from and
written to others.

| suffix | read | written | needs |
| --- | --- | --- | --- |
| .safetensors | yes | yes | |
| .npz | yes, without pickles | yes | |
| .pt .pth .th | yes, `weights_only=True` | yes | PyTorch |
| .keras | no: load it with Keras, then `save` what is ours in it | yes: a network, or a model of one block | Keras |

Nothing in a file is ever executed. A file is written under another name and moved into place once
it is complete.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from weights.config import Config, config_from_json
from weights.convert import BFLOAT16, Arrays, WeightsError, check, reorder
from weights.foreign import NAMINGS, to_canonical_names
from weights.frameworks import LAYOUTS
from weights.live import adapter, build, export, framework_of
from weights.parameters import Parameters
from weights.schema import schema

METADATA = "resattn"  # the entry of a safetensors file's metadata, and of an .npz file, that holds the config
BITS = "resattn.bfloat16"  # the entry of an .npz file that names the arrays whose uint16 are the bits of bfloat16
TRAINING = "training"  # the key beside the config's in which a training state says what it is
MOMENTS = "optimizer."  # what the names of a training state's moments begin with
TORCH = (".pt", ".pth", ".th")
READABLE = (".safetensors", ".npz", *TORCH)
WRITABLE = (*READABLE, ".keras")


def save(path: str | os.PathLike[str], model: Any) -> None:
    """Writes a live model of any framework to a file, with its config inside. The suffix says the
    format.

    Raises what `export` and `write` raise.
    """
    framework_of(model)
    write(path, model.config, export(model))


def write(path: str | os.PathLike[str], config: Config, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes canonical arrays to a file, with their config inside. The suffix says the format.

    Raises WeightsError when the arrays do not fit the config, ValueError for a suffix that cannot
    be written. If anything fails, what stood at `path` before still does.
    """
    target = Path(path)
    suffix = _suffix(target, WRITABLE, "write")
    check(
        schema(config),
        arrays,
        headline=f"{target.name} was not written: the arrays do not fit the config",
    )
    arrays = {p.name: reorder(arrays[p.name], p.axes, p.axes) for p in schema(config)}
    if suffix == ".safetensors":
        content = safetensors_bytes(arrays, metadata={METADATA: config.to_json()})
        write_atomically(target, lambda temporary: temporary.write_bytes(content))
    elif suffix == ".npz":
        held: dict[str, Any] = {METADATA: np.array(config.to_json()), **_bits(arrays)}
        write_atomically(target, lambda temporary: np.savez(temporary, **held))
    elif suffix in TORCH:
        torch = adapter("torch")
        write_atomically(
            target, lambda temporary: torch.write_file(temporary, config.to_json(), arrays)
        )
    else:
        model = build(config, arrays, "tf")
        write_atomically(target, lambda temporary: adapter("tf").write_file(temporary, model))


def read(
    path: str | os.PathLike[str], config: Config | None = None, naming: str | None = None
) -> tuple[Config, Arrays]:
    """The config and the canonical arrays of a file.

    config: for a file that holds none; must be the file's own if it does. naming: the naming of the
    library that wrote the file, one of `weights.foreign.NAMINGS`; without it names must be
    canonical.
    Raises FileNotFoundError, WeightsError for a file that cannot be read safely or does not fit its
    config, ValueError for a suffix or naming that is not known and for a config that is missing or
    another than the file's.
    """
    source = Path(path)
    suffix = _suffix(source, READABLE, "read")
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such file")
    reader = {".safetensors": _read_safetensors, ".npz": _read_npz}.get(suffix, _read_torch)
    text, arrays = reader(source)
    if text is not None:
        held = config_from_json(text, f"the config in {source.name}")
        if config is not None and config != held:
            raise ValueError(
                f"{source.name}: holds a config of its own that is another than the one given: "
                f"{held}"
            )
        config = held
    if config is None:
        raise ValueError(
            f"{source.name}: holds no config, so it does not say what it is; pass "
            "config=BlockConfig(...), "
            f'NetworkConfig(...) or preset("resnet18") (on the command line: --config)'
        )
    if naming is not None:
        arrays = to_canonical_names(naming, config, arrays, source.name)
    parameters = schema(config)
    arrays = {name: array for name, array in arrays.items() if name not in _unread(parameters)}
    hint = (
        ""
        if naming
        else f" (written by another library? pass naming=, one of {', '.join(NAMINGS)})"
    )
    check(parameters, arrays, headline=f"{source.name} does not fit its config{hint}")
    return config, {parameter.name: arrays[parameter.name] for parameter in parameters}


def _suffix(path: Path, known: tuple[str, ...], verb: str) -> str:
    suffix = path.suffix.lower()
    if suffix in known:
        return suffix
    if suffix == ".keras":
        raise ValueError(
            f"{path.name}: cannot read .keras files, since loading one runs code that it names. "
            "Import tf_impl, load it with keras.models.load_model, and pass what is ours to "
            "weights.save: the network, or for a block model.layers[-1]"
        )
    raise ValueError(
        f"{path.name}: cannot {verb} {suffix or 'a file without suffix'}; expected one of "
        f"{', '.join(known)}"
    )


def _unread(parameters: Parameters) -> set[str]:
    """Names of the counters that PyTorch keeps beside running statistics."""
    return {
        f"{parameter.module}.{leaf}"
        for parameter in parameters
        if parameter.role == "norm mean"
        for leaf in LAYOUTS["torch"].unread
    }


def _read_safetensors(path: Path) -> tuple[str | None, Arrays]:
    """The config (JSON text, or None) and the model's arrays; of a training state, without what the
    optimizer keeps.
    """
    text, training, arrays = read_safetensors(path)
    if training is not None:
        arrays = {name: array for name, array in arrays.items() if not name.startswith(MOMENTS)}
    return text, arrays


def read_safetensors(path: Path) -> tuple[str | None, Any, Arrays]:
    """Everything in a file: the config (JSON text, or None), what it says of training (None:
    nothing), all arrays.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path.name}: is not a whole safetensors file of float arrays ({error})", []
        ) from None
    return *_without_training(text), arrays


def _without_training(text: str | None) -> tuple[str | None, Any]:
    """The config's JSON as a model file has it, and what stood beside it under "training"."""
    try:
        values = json.loads(text or "")
    except (json.JSONDecodeError, RecursionError):
        return text, None  # not a config either, which is for its reader to say
    if not isinstance(values, dict) or TRAINING not in values:
        return text, None
    training = values.pop(TRAINING)
    return json.dumps(values), training


def read_npz(path: Path) -> Arrays:
    """The arrays of a .npz file. Raises WeightsError for one that is not whole, or holds more than
    plain arrays.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return _from_bits({name: file[name] for name in file.files})
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole .npz file of plain arrays ({error})", []
        ) from None


def _read_npz(path: Path) -> tuple[str | None, Arrays]:
    arrays = read_npz(path)
    text = arrays.pop(METADATA, None)
    return (None if text is None else str(text)), arrays


def _bits(arrays: Arrays) -> Arrays:
    """What NumPy can write: it has no bfloat16, and would write its bytes without saying what they
    are.
    """
    named = [name for name, array in arrays.items() if array.dtype == BFLOAT16]
    written = {
        name: array.view(np.uint16) if name in named else array for name, array in arrays.items()
    }
    return {BITS: np.array(named), **written} if named else written


def _from_bits(arrays: Arrays) -> Arrays:
    """What `_bits` was given. Raises ValueError for bits that are not 16 each."""
    named = arrays.pop(BITS, np.array([], str)).tolist()
    if wrong := [name for name in named if name not in arrays or arrays[name].dtype != np.uint16]:
        raise ValueError(f"{', '.join(map(str, wrong))}: expected the bits of bfloat16, as uint16")
    return {
        name: array.view(BFLOAT16) if name in named else array for name, array in arrays.items()
    }


def _read_torch(path: Path) -> tuple[str | None, Arrays]:
    torch = adapter("torch")
    try:
        text, arrays = torch.read_file(path)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path.name}: is not a PyTorch file of plain tensors, or not a whole one; files with "
            "other Python objects in them are refused, since reading them would run their code "
            f"({_first_line(error)})",
            [],
        ) from None
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole PyTorch file of plain floating point tensors "
            f"({_first_line(error)})",
            [],
        ) from None
    return text, arrays


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def write_atomically(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Calls `write_to` with a temporary name beside `path`, then moves the finished file to
    `path`.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix.lower()
    )
    os.close(handle)
    temporary = Path(name)
    try:
        write_to(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def config_file(path: str | os.PathLike[str]) -> Config:
    """The config in a JSON file. Raises FileNotFoundError, and ValueError for a file that holds
    none.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such file")
    return config_from_json(source.read_bytes().decode("utf-8", errors="replace"), source.name)
