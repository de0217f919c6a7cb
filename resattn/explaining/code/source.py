"""The text of an implementation: its classes, functions and forward methods, found by name.

Read from the files. No framework is imported.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS

ROOT = Path(__file__).parent.parent.parent.parent
# The files of each package that define layers. All others are made of layers.
LAYER_FILES = ("layers.py", "normalization.py", "pooling.py")
CONTAINER = "Sequential"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A class, a function or the value of a constant. file: where it is, from the package."""

    file: str
    node: ast.ClassDef | Function | ast.expr

    @property
    def is_layer(self) -> bool:
        return self.file in LAYER_FILES


@dataclass(frozen=True)
class Forward:
    """The forward method of a class.

    file: where it is. statements: its syntax tree, without a docstring. lines: its text, without
    the indentation, blank lines and comments. starts: for each line, the line at which its
    statement begins. places: the line that each line number of the file is.
    """

    file: str
    statements: tuple[ast.stmt, ...]
    lines: tuple[str, ...]
    starts: tuple[int, ...]
    places: dict[int, int]


class Package:
    """One implementation. path: its folder. method: the name of the forward methods."""

    def __init__(self, path: Path, method: str):
        self.path = path
        self.method = method

    @cached_property
    def sources(self) -> dict[str, str]:
        """The text of each file, by its path in the package."""
        return {
            file.relative_to(self.path).as_posix(): file.read_text(encoding="utf-8")
            for file in sorted(self.path.rglob("*.py"))
        }

    @cached_property
    def _names(self) -> dict[str, dict[str, ast.ClassDef | Function | ast.expr | ast.ImportFrom]]:
        """What each name of each file is."""
        return {file: dict(_top_level(ast.parse(source))) for file, source in self.sources.items()}

    def find(self, file: str, name: str) -> Definition | None:
        """What a name means in a file, or None if the package does not define it."""
        node = self._names.get(file, {}).get(name)
        if isinstance(node, ast.ImportFrom):
            origin = self._file(node.module or "")
            return self.find(origin, _original(node, name)) if origin else None
        return None if node is None else Definition(file, node)

    def find_class(self, name: str) -> Definition:
        """The class of that name. Raises ArgumentError if the package has none."""
        for file, names in self._names.items():
            node = names.get(name)
            if isinstance(node, ast.ClassDef):
                return Definition(file, node)
        raise ArgumentError(f"--code: {self.path.name} has no class {name}")

    def _file(self, module: str) -> str:
        """The file of a module of this package, or "" for any other module."""
        package, *parts = module.split(".")
        if package != self.path.name:
            return ""
        stem = "/".join(parts)
        candidates = (f"{stem}.py", f"{stem}/__init__.py".lstrip("/"))
        return next((each for each in candidates if each in self.sources), "")

    def methods(self, definition: Definition) -> dict[str, tuple[str, Function]]:
        """The methods of a class and of its bases in this package: (file, method) by name."""
        found: dict[str, tuple[str, Function]] = {}
        if isinstance(definition.node, ast.ClassDef):
            for base in definition.node.bases:
                parent = self.find(definition.file, base.id) if isinstance(base, ast.Name) else None
                found |= self.methods(parent) if parent else {}
            for node in definition.node.body:
                if isinstance(node, Function):
                    found[node.name] = (definition.file, node)
        return found

    def is_container(self, definition: Definition) -> bool:
        """Whether a class of the package is a sequential container of the framework."""
        bases = getattr(definition.node, "bases", ())
        return any(getattr(base, "attr", getattr(base, "id", "")) == CONTAINER for base in bases)

    def forward(self, definition: Definition) -> Forward | None:
        """The forward method of a class, or None if only the framework defines it."""
        file, node = self.methods(definition).get(self.method, ("", None))
        return None if node is None else _forward(file, self.sources[file], node)


@cache
def package_of(framework: str) -> Package:
    """The implementation in a framework: torch, jax or tf. Raises ArgumentError for any other."""
    if framework not in FRAMEWORKS:
        raise ArgumentError(f"--code: expected one of {', '.join(FRAMEWORKS)}, got {framework!r}")
    row = FRAMEWORKS[framework]
    return Package(ROOT / row.package, row.forward)


def _top_level(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.ClassDef | Function | ast.expr | ast.ImportFrom]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _original(node: ast.ImportFrom, name: str) -> str:
    """The name in the other file of something that is imported as `name`."""
    return next(alias.name for alias in node.names if name in (alias.asname, alias.name))


def _forward(file: str, source: str, node: Function) -> Forward:
    body = node.body[ast.get_docstring(node) is not None :]
    numbers = dict(_statement_lines(body))
    texts = source.splitlines()
    lines: list[str] = []
    places: dict[int, int] = {}
    for number in range(body[0].lineno, (node.end_lineno or body[0].lineno) + 1):
        text = texts[number - 1][body[0].col_offset :]
        if text.strip() and not text.lstrip().startswith("#"):
            places[number] = len(lines)
            lines.append(text)
    starts = (places[numbers.get(number, number)] for number in places)
    return Forward(file, tuple(body), tuple(lines), tuple(starts), places)


def _statement_lines(body: list[ast.stmt]) -> Iterator[tuple[int, int]]:
    """For each line number of some statements, the number of the line where its statement begins.

    A statement that holds others (if, for, with) is only the lines in front of the first of them.
    """
    for statement in body:
        inner = [each for each in ast.walk(statement) if each is not statement]
        below = [each.lineno for each in inner if isinstance(each, ast.stmt)]
        end = min(below, default=(statement.end_lineno or statement.lineno) + 1)
        yield from ((number, statement.lineno) for number in range(statement.lineno, end))
        for name in ("body", "orelse", "finalbody"):
            yield from _statement_lines(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statement_lines(handler.body)
