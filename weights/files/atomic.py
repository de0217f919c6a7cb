"""Files are written under another name and moved into place once they are complete."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weights.errors import FileError, MissingFileError


def write_atomically(path: str | os.PathLike[str], write_to: Callable[[Path], Any]) -> None:
    """Calls `write_to` with a temporary name beside `path`, then moves the finished file to `path`.

    If anything fails, the file that was at `path` before is still there.
    Raises MissingFileError for a folder that does not exist, FileError where the system refuses.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise MissingFileError(f"{target}: the folder {target.parent} does not exist")
    try:
        _write(target, write_to)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({error.strerror or error})") from error


def _write(target: Path, write_to: Callable[[Path], Any]) -> None:
    suffix = target.suffix.lower()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write_to(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file that exists. Raises MissingFileError."""
    source = Path(path)
    if not source.is_file():
        raise MissingFileError(f"{source}: there is no such file")
    return source
