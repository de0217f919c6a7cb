"""Which class a module has: what the constructor of the module around it assigns to its name."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resattn.explaining.code.source import Definition, Forward, Package

ANY = "[^.]+"  # the pattern of one part of a module's path
CONTAINER = "Sequential"
ATTENTION_TABLE = ("attention/__init__.py", "ATTENTION")
ATTENTION_FUNCTION = "AttentionModule"


@dataclass(frozen=True)
class Opened:
    """A module of a class of the package that is made of layers."""

    definition: Definition


@dataclass(frozen=True)
class Closed:
    """A layer, or a module of a class that the package does not define."""


@dataclass(frozen=True)
class Absent:
    """No module: the constructor assigns None."""


@dataclass(frozen=True)
class Container:
    """A sequential container. items: what each may be. repeated: whether all are like the first."""

    items: tuple["tuple[Member, ...]", ...]
    repeated: bool

    def item(self, name: str) -> "tuple[Member, ...]":
        """What the item of that name (a number) may be."""
        number = 0 if self.repeated else int(name)
        return self.items[number] if number < len(self.items) else ()


Member = Opened | Closed | Absent | Container


class Members:
    """The modules that an implementation's classes hold.

    kind_of: gives the attention kind of the block that holds the module of a path.
    """

    def __init__(self, package: Package, kind_of: Callable[[str], str]):
        self.package = package
        self.kind_of = kind_of

    def assignments(self, owner: Definition, name: str) -> list[tuple[str, ast.expr]]:
        """What the constructor of a class may assign to an attribute, with the file it is in."""
        file, init = self.package.methods(owner).get("__init__", ("", None))
        every = _list_assignments(init) if init else ()
        return [(file, value) for pattern, value in every if _is_match(pattern, name)]

    def candidates(self, owner: Definition, path: str) -> tuple[Member, ...]:
        """What the module at `path` may be, which a module of the class `owner` holds."""
        return tuple(
            candidate
            for file, value in self.assignments(owner, path.rpartition(".")[2])
            for candidate in self._candidates_of(file, value, path)
        )

    def _candidates_of(self, file: str, value: ast.expr, path: str) -> Iterator[Member]:
        """What an expression may give: the module of either branch of a conditional expression."""
        if isinstance(value, ast.IfExp):
            yield from self._candidates_of(file, value.body, path)
            yield from self._candidates_of(file, value.orelse, path)
        elif isinstance(value, ast.Constant) and value.value is None:
            yield Absent()
        elif isinstance(value, ast.Call):
            yield self._candidate_of_call(file, value, path)
        else:
            yield Closed()

    def _candidate_of_call(self, file: str, call: ast.Call, path: str) -> Member:
        if last_name(call.func) == CONTAINER:
            return self._chain(file, call, path)
        # A class method makes an instance too: Block.from_config(...).
        named = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        found = self.package.find(file, named.id) if isinstance(named, ast.Name) else None
        if isinstance(named, ast.Name) and named.id == ATTENTION_FUNCTION:
            found = self._attention(path)
        return self._candidate_of_class(found)

    def _candidate_of_class(self, found: Definition | None) -> Member:
        """A module of a class, opened if its lines are worth showing."""
        if found is None or not isinstance(found.node, ast.ClassDef):
            return Closed()
        forward = self.package.forward(found)
        if forward is None or (found.is_layer and not self._holds_modules(found, forward)):
            return Closed()
        return Opened(found)

    def _holds_modules(self, owner: Definition, forward: Forward) -> bool:
        """Whether a forward method calls something that the constructor has assigned."""
        nodes = (node for statement in forward.statements for node in ast.walk(statement))
        called = (attribute_pattern(node.func) for node in nodes if isinstance(node, ast.Call))
        return any(name and self.assignments(owner, name) for name in called)

    def _chain(self, file: str, call: ast.Call, path: str) -> Container:
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Starred):
            elements = getattr(first.value, "elt", first.value)
            return Container((tuple(self._candidates_of(file, elements, path)),), repeated=True)
        return Container(
            tuple(tuple(self._candidates_of(file, each, path)) for each in call.args), False
        )

    def _attention(self, path: str) -> Definition | None:
        """The class of the attention kind of the block around a path, if the package has it."""
        file, name = ATTENTION_TABLE
        table = self.package.find(file, name)
        classes = dictionary(table.node) if table else {}
        value = classes.get(self.kind_of(path))
        return self.package.find(file, value.id) if isinstance(value, ast.Name) else None


def dictionary(node: ast.AST) -> dict[str, ast.expr]:
    """The entries of a dict that is written out, by their keys."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {
        key.value: value
        for key, value in pairs
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def last_name(node: ast.expr) -> str:
    """f of f(...) and of a.b.f(...)."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def attribute_pattern(node: ast.expr) -> str:
    """The attribute of self that an expression reads, as a pattern, or "" for any other.

    self.conv1 is "conv1", getattr(self, f"conv{step}") is "conv[^.]+".
    """
    if isinstance(node, ast.Attribute) and is_self(node.value):
        return node.attr
    if isinstance(node, ast.Call) and _is_call_on_self(node, "getattr"):
        return string_pattern(node.args[1])
    return ""


def string_pattern(node: ast.expr) -> str:
    """A string as a pattern. A value that only the run knows can be any part of a path."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(string_pattern(each) for each in node.values)
    return ANY


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_match(pattern: str, name: str) -> bool:
    return pattern == name or re.fullmatch(pattern, name) is not None


def _is_call_on_self(call: ast.Call, function: str) -> bool:
    """Whether it is function(self, ...), as in getattr(self, name)."""
    return last_name(call.func) == function and bool(call.args) and is_self(call.args[0])


def _list_assignments(init: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What a constructor assigns to attributes of self: (pattern of the name, value)."""
    for node in ast.walk(init):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and is_self(target.value):
                    yield target.attr, node.value
        elif isinstance(node, ast.Call) and _is_call_on_self(node, "setattr"):
            yield string_pattern(node.args[1]), node.args[2]
