"""Folders are written under another name and moved into place once they are complete."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weights.errors import FileError, WeightsError
from weights.files.atomic import refusals, resolve_target

_ENTRIES = 400_000  # files and folders that a checkpoint may have
_DEPTH = 20
_MADE, _ASIDE = "new", "old"  # the names in a temporary folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux
_HERE = -100  # AT_FDCWD: paths as they are


def write_folder_atomically(
    path: str | os.PathLike[str],
    write_to: Callable[[Path], Any],
    is_replaceable: Callable[[Path], bool],
) -> None:
    """Calls `write_to` with the name of a folder to make, then moves the folder to `path`.

    A folder that was there is exchanged for it at the end, in one step where the system can, if
    `is_replaceable` says that it is one of the kind. A symbolic link stays, and what it points to
    is replaced. If anything fails, the folder that was at `path` before is still there.
    Raises MissingFileError for a folder above it that does not exist, FileError where the system
    refuses and for something else at `path`.
    """
    target = resolve_target(path)
    if target.exists() and not (target.is_dir() and is_replaceable(target)):
        raise FileError(
            f"{path}: is there and is not a checkpoint of the kind that would be written, so it is "
            "not replaced; choose another name"
        )
    with refusals(path):
        _write(target, write_to)


def _write(target: Path, write_to: Callable[[Path], Any]) -> None:
    # Some systems refuse names of over 255 bytes.
    prefix = f".{target.name.encode()[:100].decode(errors='ignore')}-"
    _remove_left(target, prefix)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    try:
        with _lock(temporary):
            _make(target, temporary, write_to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make(target: Path, temporary: Path, write_to: Callable[[Path], Any]) -> None:
    """Makes the folder in the temporary one and moves it to its place."""
    made = temporary / _MADE
    write_to(made)
    for each in (*_walk(made), made):
        _flush(each)
    if not target.exists():
        try:
            made.replace(target)
        except OSError:
            if not target.is_dir():  # which another writer has put there now
                raise
    if made.exists():
        made.chmod(stat.S_IMODE(target.stat().st_mode))
        _exchange(made, target, temporary / _ASIDE)
    _flush(target.parent)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Within it, or until it is killed, this process has the lock of a folder; false where another
    one has it, or the system has no such locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _remove_left(target: Path, prefix: str) -> None:
    """Removes the temporary folders of writers of `target` that were killed."""
    for left in target.parent.iterdir():
        if not re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}", left.name):  # as mkdtemp names
            continue
        if left.is_symlink() or not left.is_dir():
            continue
        with suppress(FileNotFoundError):  # another writer of `target` removed it first
            _remove(left, target)


def _remove(left: Path, target: Path) -> None:
    inside = {each.name.split(".")[0] for each in left.iterdir()}  # Orbax adds a suffix
    if not inside or not inside <= {_MADE, _ASIDE}:  # an empty one may not have its lock yet
        return
    with _lock(left) as locked:
        if not locked:
            return
        if (left / _ASIDE).is_dir() and not target.exists():
            (left / _ASIDE).replace(target)  # killed where it was to be exchanged
        shutil.rmtree(left, ignore_errors=True)


def _exchange(made: Path, target: Path, aside: Path) -> None:
    """Puts a folder where another one is. Where the system cannot exchange them in one step, the
    other one is for a moment at `aside`.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    names = os.fsencode(made), os.fsencode(target)
    if rename is not None and rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
        return
    target.replace(aside)
    try:
        made.replace(target)
    except OSError:
        aside.replace(target)
        raise


def _flush(path: Path) -> None:
    """Waits until a file or a folder is on the disk."""
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Everything in a folder and the folders in it; symbolic links are not followed.

    Raises RecursionError for a folder that is nested deeper than any checkpoint's.
    """
    if depth > _DEPTH:
        raise RecursionError
    with os.scandir(folder) as entries:
        for entry in entries:
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1)


def folder_size(folder: Path) -> int:
    """The bytes of all files in a folder.

    Raises WeightsError for a folder with something in it that is no plain file or folder, or
    points out of it.
    """
    total = 0
    try:
        for count, each in enumerate(_walk(folder)):
            if count > _ENTRIES:
                raise WeightsError(f"{folder.name}: holds more than {_ENTRIES} files", [])
            total += _size(folder, each)
    except RecursionError:
        raise WeightsError(f"{folder.name}: its folders are nested too deep", []) from None
    return total


def _size(folder: Path, entry: Path) -> int:
    inside = ascii(entry.relative_to(folder).as_posix())[:100]
    if entry.is_symlink() and not entry.resolve().is_relative_to(folder.resolve()):
        raise WeightsError(
            f"{folder.name}: {inside} is a symbolic link that points out of the folder; "
            "checkpoints have none",
            [],
        )
    try:
        status = entry.stat()
    except OSError as error:
        raise WeightsError(
            f"{folder.name}: {inside} cannot be read ({error.strerror})", []
        ) from None
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise WeightsError(f"{folder.name}: {inside} is neither a file nor a folder", [])
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
