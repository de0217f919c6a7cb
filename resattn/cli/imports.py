"""Modules and files of the user's own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from resattn.cli.words import say


def import_module_or_file(option: str, name: str) -> ModuleType:
    """Imports a .py file, or a module by its name, from this folder or from what is installed.

    option: where the name comes from, for messages.

    Raises MissingFileError, FileError for a file that cannot be read, ArgumentError for a module
    that cannot be found. Errors of the module itself pass through.
    """
    from weights.errors import ArgumentError, FileError, MissingFileError

    if name.endswith(".py"):
        if not Path(name).is_file():
            raise MissingFileError(
                say("{option} {file}: there is no such file", option=option, file=name)
            )
        if not os.access(name, os.R_OK):
            raise FileError(say("{option} {file}: cannot be read", option=option, file=name))
        return import_file(Path(name))
    # Last: a file of this folder must not replace a module that anything else imports.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    if not exists(name):
        raise ArgumentError(
            say(
                "{option} {name}: there is no such module in this folder or among what "
                "is installed",
                option=option,
                name=name,
            )
        )
    return importlib.import_module(name)


def import_file(path: Path) -> ModuleType:
    """Imports a .py file, so that it can import the modules beside it.

    A file in a package gets its dotted name there, and any other file its name without the suffix;
    a private name if another module has that name already, or would be found under it: a user's
    random.py must not replace the one that libraries import.
    """
    path = path.resolve()
    folder, name = _find_package(path)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: it must not hide what anything else imports
    top = name.partition(".")[0]
    if name != path.stem and not _is_taken(top, folder / top):
        return importlib.import_module(name)
    return _execute(path, f"_own_{path.stem}" if _is_taken(path.stem, path) else path.stem)


def _find_package(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from, and its dotted name there."""
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if names[-1] == "__init__":
        names.pop()
    return folder, ".".join(names)


def _is_taken(name: str, place: Path) -> bool:
    """Whether a name stands for another module than the file or the package at `place`."""
    if not name.isidentifier():
        return "." in name  # a dot would be a package
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        found = importlib.util.find_spec(name)
        if found is None:
            return False
        origin = found.origin
    return origin is None or Path(origin).resolve() not in (place, place / "__init__.py")


def _execute(path: Path, name: str) -> ModuleType:
    """Imports a file that is in no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
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
