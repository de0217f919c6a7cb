"""Modules and files of the user's own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def import_module_or_file(option: str, name: str) -> ModuleType:
    """Imports a .py file, or a module by its name, from this folder or from what is installed.

    option: where the name comes from, for messages.

    Raises MissingFileError, FileError for a file that cannot be read, ArgumentError for a module
    that cannot be found. Errors of the module itself pass through.
    """
    from weights.errors import ArgumentError, FileError, MissingFileError

    if name.endswith(".py"):
        if not Path(name).is_file():
            raise MissingFileError(f"{option} {name}: there is no such file")
        if not os.access(name, os.R_OK):
            raise FileError(f"{option} {name}: cannot be read")
        # Last, too: the modules beside the file.
        if str(Path(name).resolve().parent) not in sys.path:
            sys.path.append(str(Path(name).resolve().parent))
        return import_file(Path(name))
    # Last: a file of this folder must not replace a module that anything else imports.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    if not exists(name):
        raise ArgumentError(
            f"{option} {name}: there is no such module in this folder or among what is installed"
        )
    return importlib.import_module(name)


def import_file(path: Path) -> ModuleType:
    """Imports a .py file under its name without the suffix."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exists(module: str) -> bool:
    """Whether a module can be found. Imports the packages that it is in."""
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a package was found, and imports something else that is not there
        return False
