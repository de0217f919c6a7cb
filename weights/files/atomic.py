"""Files are written under another name and moved into place once they are complete."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weights.errors import FileError, MissingFileError
from weights.language import say

_PREFIX = ".resattn-"  # of temporary names: then the host and the process that writes, and a word
_ABANDONED = re.compile(rf"\{_PREFIX}([0-9a-f]{{8}})-([0-9]+)-")
_GRACE = 60  # seconds in which a file is left alone even if its writer is gone


def write_atomically(path: str | os.PathLike[str], write_to: Callable[[Path], Any]) -> None:
    """Calls `write_to` with a temporary name beside `path`, then moves the finished file to `path`.

    If anything fails, the file that was at `path` before is still there. A file that is replaced
    keeps its permissions; of a symbolic link, the file that it points to is replaced. Temporary
    files of writers that were killed are removed by the next one that writes to the same folder.
    Raises MissingFileError for a folder that does not exist, FileError where the system refuses.
    """
    target = resolve_target(path)
    if os.path.exists(target) and not os.path.isfile(target):
        if os.path.isdir(target):
            raise FileError(say("{file}: cannot be written (it is a folder)", file=path))
        raise FileError(say("{file}: cannot be written (it is no regular file)", file=path))
    with refusals(path):
        _write(target, write_to)


def resolve_target(path: str | os.PathLike[str]) -> Path:
    """What a path or a symbolic link points to. Raises MissingFileError if its folder does not
    exist.
    """
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target.parent):  # a name that is too long is no error of it
        raise MissingFileError(
            say("{file}: the folder {folder} does not exist", file=path, folder=Path(path).parent)
        )
    return target


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, an error of the system is a FileError that names the path."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            say("{file}: cannot be written ({reason})", file=path, reason=error.strerror or error)
        ) from error


def _write(target: Path, write_to: Callable[[Path], Any]) -> None:
    remove_abandoned(target.parent)
    temporary = temporary_name(target)
    try:
        write_to(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(_mode(target))
        temporary.replace(target)
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Waits until the new name is on the disk."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Within it, no other process or thread is: for files that belong together."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def temporary_name(target: Path) -> Path:
    """A new empty file beside `target`, with its suffix, that says who writes it."""
    suffix = target.suffix.lower() if len(target.suffix) < 20 else ""
    prefix = f"{_PREFIX}{_host()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=suffix)
    os.close(handle)
    return Path(name)


def reserve(path: Path, size: int) -> None:
    """Raises OSError where a file of that size has no room, for libraries that fail badly then."""
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(0)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files in a folder whose writers on this machine are gone."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = _ABANDONED.match(entry.name)
            if found is None or found[1] != _host() or _is_running(int(found[2])):
                continue
            try:
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _GRACE:
                    os.unlink(entry.path)
            except OSError:
                continue  # another process was faster, or it is not ours to remove


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # it is somebody else's, or no number of a process
    return True


def _mode(target: Path) -> int:
    """The permissions of a file that is replaced, or those of a new file."""
    try:
        return target.stat().st_mode & 0o7777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask  # mkstemp makes files that only their owner can read


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file that exists. Raises MissingFileError."""
    source = Path(path)
    if not os.path.isfile(source):
        raise MissingFileError(say("{file}: there is no such file", file=source))
    return source
