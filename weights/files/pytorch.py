"""PyTorch's own files, read with `weights_only=True`: nothing in them is executed."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from weights.config import Config
from weights.errors import ResattnError, WeightsError
from weights.files import label as labels
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.label import Label
from weights.files.limits import (
    MOST_HEADER,
    MappedFile,
    find_stored,
    is_compressed,
    map_file,
    open_zip,
)
from weights.files.pickles import check_pickle, refuse_object
from weights.language import say
from weights.live import part
from weights.stored import StoredArray, as_stored

_STATE = "state_dict"
_PICKLES = 5  # of an old file: a number, its version, the system, what was saved, storages
_DESCRIPTION = "data.pkl"  # the member of the archive that describes the tensors


def write(
    path: Path,
    label: Label,
    arrays: Mapping[str, np.ndarray | StoredArray],
    config: Config | None = None,
) -> None:
    """A plain state dict, as other libraries load it; of a file of ours under "state_dict", with
    the label beside it. The same arrays make the same bytes. Needs PyTorch.
    """
    write_state = part("torch", "bridge.files").write_state
    stored = {name: as_stored(array) for name, array in arrays.items()}
    write_atomically(path, lambda temporary: write_state(temporary, dict(label), stored))


def read(path: Path) -> Header:
    """Needs PyTorch.

    Raises WeightsError for a file that is not whole, or holds more than plain tensors.
    """
    torch = part("torch", "bridge.files")
    held = map_file(path)
    zipped = held[:4] == b"PK\3\4"
    archive = _open_archive(path, held) if zipped else None
    if archive is None:
        for _ in range(_PICKLES):
            check_pickle(cast(BinaryIO, held), path.name)
    try:
        content = torch.read_file(path, zipped)
    except ResattnError as error:
        raise WeightsError(f"{path.name}: {error}", []) from None
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        raise refuse_object(path.name, found[1] if found else None) from None
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            say(
                "{file}: is not a whole PyTorch file of plain floating point tensors ({reason})",
                file=path.name,
                reason=_first_line(error),
            ),
            [],
        ) from None
    label = labels.find_entries(content)
    if labels.CHECKSUMS not in label and not label.get(labels.CONFIG, "").lstrip().startswith("{"):
        return Header(content, nbytes=len(held))  # the config of a trainer may be a path
    if archive is not None:
        _check_description(archive, path.name)
    state = content[_STATE] if isinstance(content.get(_STATE), Mapping) else content
    return Header(state, label, nbytes=len(held))


def _open_archive(path: Path, held: MappedFile) -> ZipFile:
    """The archive. Raises WeightsError for one that torch.save would not write."""
    archive = open_zip(path, "PyTorch file")
    members = archive.infolist()
    if any(_is_named(member, "constants.pkl") for member in members):
        raise WeightsError(
            say(
                "{file}: is a TorchScript program, not weights; load it with "
                "torch.jit.load, and save the state_dict() alone",
                file=path.name,
            ),
            [],
        )
    if is_compressed(members):
        raise WeightsError(
            say(
                "{file}: has compressed members, and torch.save writes none; it was "
                "damaged, or made to fill the memory",
                file=path.name,
            ),
            [],
        )
    for member in members:
        if _is_named(member, _DESCRIPTION):
            if member.file_size > MOST_HEADER:
                raise WeightsError(
                    say(
                        "{file}: describes its tensors in {size:,} bytes; a weights file needs "
                        "at most {most:,}",
                        file=path.name,
                        size=member.file_size,
                        most=MOST_HEADER,
                    ),
                    [],
                )
            start = find_stored(archive, member, path.name)
            check_pickle(io.BytesIO(held[start : start + member.file_size]), path.name)
    return archive


def _is_named(member: ZipInfo, name: str) -> bool:
    """Whether PyTorch finds a member under that name. It looks for it in any case."""
    return member.filename.lower().endswith(f"/{name}")


def _check_description(archive: ZipFile, source: str) -> None:
    """Raises WeightsError where the label and the names are not those that were written.

    Of a file of ours, since torch.save can be told to write no checksums.
    """
    for member in archive.infolist():
        if _is_named(member, _DESCRIPTION):
            try:
                archive.read(member)
            except (BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
                raise WeightsError(
                    say(
                        "{file}: is damaged ({reason})",
                        file=source,
                        reason=ascii(str(error))[1:-1][:100],
                    ),
                    [],
                ) from None


def _first_line(error: Exception) -> Any:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    advice = re.search("weights_only|Re-running", line)
    return type(error).__name__ if advice else ascii(line)[1:-1][:200]
