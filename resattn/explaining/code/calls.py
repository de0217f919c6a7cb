"""What a forward method calls and computes, in the order of evaluation, from its syntax tree."""

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from resattn.explaining.code.members import (
    ANY,
    Members,
    attribute_pattern,
    decide,
    dictionary,
    is_call_of_super,
    last_name,
)
from resattn.explaining.code.source import Definition, Forward, Function
from weights.config import Config

# The kinds of operations that an operator can be.
OPERATOR_KINDS: dict[type[ast.operator], frozenset[str]] = {
    ast.Add: frozenset({"sum", "affine"}),
    ast.Sub: frozenset({"difference", "affine"}),
    ast.Mult: frozenset({"product", "affine", "square", "bessel"}),
    ast.Div: frozenset({"quotient", "affine"}),
    ast.MatMult: frozenset({"matrix_product"}),
    ast.Pow: frozenset({"square"}),
}
PARTS = frozenset({"slice", "head_part"})  # what x[:, 1:] can be
# What the frameworks call the operations that only move values.
FRAMEWORK_NAMES = {
    "narrow": PARTS,
    "split": PARTS,
    "swapaxes": frozenset({"swap_axes", "head_part"}),
    "transpose": frozenset({"swap_axes", "head_part"}),
}


@dataclass(frozen=True)
class Call:
    """A call of a module or a function, or an operator.

    line: the index of the line in the forward method. member: the pattern of the attribute that is
    called, or "". names: the kinds of operations and the names of stages that it can be.
    again: whether it is a call in a further turn of a loop.
    """

    line: int
    member: str = ""
    names: frozenset[str] = frozenset()
    again: bool = False


def calls(
    members: Members,
    owner: Definition,
    forward: Forward,
    known: Collection[str],
    turns: int,
    scope: str = "",
) -> list[Call]:
    """The calls of a forward method, those of all branches included between which more than the
    config decides.

    owner: its class. scope: the path of the module. known: the kinds and the names of the stages
    that are looked for. A function with another name is followed: its body is read in its place.
    turns: how often a loop runs.
    """
    reader = _Reader(members, owner, forward, known, turns, members.config_of(scope))
    return list(reader.read_all(forward.statements, forward.file))


class _Reader:
    """Reads one forward method. `line` is the line that the calls belong to."""

    def __init__(
        self,
        members: Members,
        owner: Definition,
        forward: Forward,
        known: Collection[str],
        turns: int,
        config: Config,
    ):
        self.members = members
        self.config = config
        self.package = members.package
        self.owner = owner
        self.forward = forward
        self.known = known
        self.turns = turns
        self.line = 0
        self.methods = self.package.methods(owner)
        self.variables = _variables(forward.statements)
        self.following: list[ast.AST] = []

    def read_all(self, nodes: Iterable[ast.AST], file: str) -> Iterator[Call]:
        for node in nodes:
            yield from self.read(node, file)

    def read(self, node: ast.AST, file: str) -> Iterator[Call]:
        """The calls in a statement or an expression. file: whose names it uses."""
        if isinstance(node, ast.stmt) and not self.following:
            self.line = self.forward.places[node.lineno]
        if isinstance(node, ast.For):
            yield from self.read(node.iter, file)
            yield from self.repeat(lambda: self.read_all(node.body, file))
        elif isinstance(node, ast.While):
            yield from self.repeat(lambda: self.read_all([node.test, *node.body], file))
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            yield from self.read(node.generators[0].iter, file)
            inner = [*node.generators[0].ifs, *node.generators[1:], node.elt]
            yield from self.repeat(lambda: self.read_all(inner, file))
        elif isinstance(node, ast.IfExp):
            yield from self.read_all([node.test, *self.branches(node, [node.body])], file)
        elif isinstance(node, ast.If):
            yield from self.read_all([node.test, *self.branches(node, node.body)], file)
        elif isinstance(node, ast.Call):
            yield from self.read_call(node, file)
        elif isinstance(node, ast.BinOp):
            yield from self.read_all([node.left, node.right], file)
            yield from self.operator(node.op)
        elif isinstance(node, ast.AugAssign):
            yield from self.read_all([node.target, node.value], file)
            yield from self.operator(node.op)
        elif isinstance(node, ast.Subscript):
            yield from self.read_all([node.value, node.slice], file)
            if any(isinstance(each, ast.Slice) for each in ast.walk(node.slice)):
                yield Call(self.line, names=PARTS)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from self.read(node.value, file) if node.value else ()
        elif not isinstance(node, ast.Raise | ast.FunctionDef | ast.Lambda):
            yield from self.read_all(list(ast.iter_child_nodes(node)), file)

    def repeat(self, read: Callable[[], Iterator[Call]]) -> Iterator[Call]:
        """The calls of every turn of a loop. A loop inside a further turn is read once."""
        line, turns = self.line, self.turns
        yield from read()
        self.turns = 1
        for _ in range(turns - 1):
            self.line = line
            yield from (replace(call, again=True) for call in read())
        self.turns = turns

    def branches(self, node: ast.If | ast.IfExp, body: list[Any]) -> list[Any]:
        """Those of a condition that are read: only one where the config decides."""
        other = node.orelse if isinstance(node.orelse, list) else [node.orelse]
        chosen = decide(node.test, self.config) if not self.following else None
        return [*(body if chosen is not False else ()), *(other if chosen is not True else ())]

    def operator(self, operator: ast.operator) -> Iterator[Call]:
        if type(operator) in OPERATOR_KINDS:
            yield Call(self.line, names=OPERATOR_KINDS[type(operator)])

    def read_call(self, node: ast.Call, file: str) -> Iterator[Call]:
        function, member = node.func, attribute_pattern(node.func)
        inherited = isinstance(function, ast.Attribute) and is_call_of_super(function.value)
        if isinstance(function, ast.Attribute) and not member and not inherited:
            yield from self.read(function.value, file)
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from self.read(argument, file)
        if inherited and self.members.package.is_container(self.owner):
            yield from self.repeat(lambda: iter([Call(self.line, ANY)]))
        elif member in self.methods:
            yield from self.follow(*self.methods[member])
        elif member:
            yield from self.call_member(member)
        elif isinstance(function, ast.Name):
            yield from self.call_name(function.id, file)
        elif isinstance(function, ast.Subscript) and isinstance(function.value, ast.Name):
            table = self.package.find(file, function.value.id)
            yield Call(self.line, names=frozenset(dictionary(table.node) if table else ()))
        else:
            yield self.call_framework(last_name(function))

    def call_member(self, member: str) -> Iterator[Call]:
        """self.name(...): a module, or a function that the constructor chose."""
        for file, value in self.members.assignments(self.owner, member):
            found = self.package.find(file, value.id) if isinstance(value, ast.Name) else None
            if isinstance(value, ast.Name) and found is not None:
                yield from self.call_name(value.id, file)
                return
        yield Call(self.line, member)

    def call_name(self, name: str, file: str) -> Iterator[Call]:
        """name(...): a function of the package, or a module that a variable holds."""
        found = self.package.find(file, name)
        if found is not None and isinstance(found.node, Function) and name not in self.known:
            yield from self.follow(found.file, found.node)
        elif found is None and name in self.variables:
            yield Call(self.line, ANY)
        else:
            yield self.call_framework(name)

    def call_framework(self, name: str) -> Call:
        return Call(self.line, names=FRAMEWORK_NAMES.get(name, frozenset()) | {name})

    def follow(self, file: str, function: Function) -> Iterator[Call]:
        """The calls of a function, all at the line that calls it."""
        if function not in self.following:
            self.following.append(function)
            yield from self.read_all(function.body, file)
            self.following.pop()


def _variables(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that a method assigns."""
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
