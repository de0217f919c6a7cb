"""Which class a module has: what the constructor of the module around it assigns to its name."""

import ast
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from resattn.explaining.code.source import CONTAINER, Definition, Forward, Function, Package
from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig

ANY = "[^.]+"  # the pattern of one part of a module's path
ATTENTION_TABLE = ("attention/__init__.py", "ATTENTION")
ATTENTION_FUNCTION = "AttentionModule"
# What conditions on a config name.
CONDITION_NAMES = {
    each.__name__: each for each in (isinstance, BlockConfig, BottleneckConfig, NetworkConfig)
}


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
    """A sequential container. items: the expressions that make them, in a file. repeated: whether
    the first one makes all.
    """

    file: str
    items: tuple[ast.expr, ...]
    repeated: bool


Member = Opened | Closed | Absent | Container


class Members:
    """The modules that an implementation's classes hold.

    config_of: gives the config of the block that holds the module of a path, or of the network.
    """

    def __init__(self, package: Package, config_of: Callable[[str], Config]):
        self.package = package
        self.config_of = config_of
        self._assigned: dict[ast.AST, list[tuple[str, ast.expr]]] = {}

    def assignments(self, owner: Definition, name: str) -> list[tuple[str, ast.expr]]:
        """What the constructor of a class may assign to an attribute, with the file it is in."""
        file, init = self.package.methods(owner).get("__init__", ("", None))
        if init is None:
            return []
        if init not in self._assigned:
            self._assigned[init] = list(_list_assignments(init))
        every = self._assigned[init]
        return [(file, value) for pattern, value in every if _is_match(pattern, name)]

    def candidates(self, owner: Definition, path: str) -> tuple[Member, ...]:
        """What the module at `path` may be, which a module of the class `owner` holds."""
        return tuple(
            candidate
            for file, value in self.assignments(owner, path.rpartition(".")[2])
            for candidate in self._candidates_of(file, value, path)
        )

    def _candidates_of(self, file: str, value: ast.expr, path: str) -> Iterator[Member]:
        """What an expression may give: the module of either branch of a conditional expression,
        unless the config decides.
        """
        if isinstance(value, ast.IfExp):
            chosen = decide(value.test, self.config_of(path))
            if chosen is not False:
                yield from self._candidates_of(file, value.body, path)
            if chosen is not True:
                yield from self._candidates_of(file, value.orelse, path)
        elif isinstance(value, ast.Constant) and value.value is None:
            yield Absent()
        elif isinstance(value, ast.Call):
            made = self._made_by(file, value.func)
            if made is None:
                yield self._candidate_of_call(file, value, path)
            else:
                yield from self.results(made, path)
        else:
            yield Closed()

    def _made_by(self, file: str, function: ast.expr) -> Definition | None:
        """The function of the package that is called, or None."""
        name = function.id if isinstance(function, ast.Name) else ""
        found = self.package.find(file, name) if name else None
        is_function = found is not None and isinstance(found.node, Function)
        return found if is_function and name != ATTENTION_FUNCTION else None

    def results(self, function: Definition, path: str) -> Iterator[Member]:
        """What the module that a function makes may be: that of the return that the config leads
        to, or of several where more than the config decides.
        """
        assert isinstance(function.node, Function)
        for value in _list_results(function.node.body, {}, self.config_of(path)):
            yield from self._candidates_of(function.file, value, path)

    def _candidate_of_call(self, file: str, call: ast.Call, path: str) -> Member:
        if last_name(call.func) == CONTAINER:
            return self._chain(file, call)
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

    def _chain(self, file: str, call: ast.Call) -> Container:
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Starred) and isinstance(first.value, ast.Tuple):
            call = ast.Call(call.func, first.value.elts, [])
        elif isinstance(first, ast.Starred):
            elements = getattr(first.value, "elt", first.value)
            return Container(file, (elements,), repeated=True)
        return Container(file, tuple(call.args), repeated=False)

    def items(self, container: Container, path: str) -> tuple[Member, ...]:
        """What the item of a container at a path, which ends with its number, may be."""
        number = 0 if container.repeated else int(path.rpartition(".")[2])
        found = container.items[number : number + 1]
        return tuple(c for each in found for c in self._candidates_of(container.file, each, path))

    def _attention(self, path: str) -> Definition | None:
        """The class of the attention kind of the block around a path, if the package has it."""
        file, name = ATTENTION_TABLE
        table = self.package.find(file, name)
        classes = dictionary(table.node) if table else {}
        config = self.config_of(path)
        kind = config.attention if isinstance(config, BlockConfig) else ""
        value = classes.get(kind)
        return self.package.find(file, value.id) if isinstance(value, ast.Name) else None


def decide(test: ast.expr, config: Config) -> bool | None:
    """A condition on config or self.config; None if it is about anything else."""
    named = _OwnConfig().visit(copy.deepcopy(test))
    code = compile(ast.fix_missing_locations(ast.Expression(named)), "condition", "eval")
    try:
        return bool(eval(code, {**CONDITION_NAMES, "__builtins__": {}, "config": config}))
    except (NameError, AttributeError):
        return None


class _OwnConfig(ast.NodeTransformer):
    """self.config -> config"""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr == "config" and is_self(node.value):
            return ast.copy_location(ast.Name("config", ast.Load()), node)
        return self.generic_visit(node)


def _list_results(
    statements: Sequence[ast.stmt], variables: dict[str, ast.expr], config: Config
) -> list[ast.expr]:
    """The expressions that a function may return. variables: those before; they are added to."""
    found: list[ast.expr] = []
    for number, statement in enumerate(statements):
        if isinstance(statement, ast.Assign):
            variables |= _assigned_names(statement)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            return [*found, _replace_names(statement.value, variables)]
        elif isinstance(statement, ast.If):
            chosen = decide(_replace_names(statement.test, variables), config)
            rest = statements[number + 1 :]
            branches = [
                branch
                for branch, taken in ((statement.body, True), (statement.orelse, False))
                if chosen is None or chosen == taken
            ]
            for branch in branches:
                found += _list_results([*branch, *rest], dict(variables), config)
            return found
    return found


def _assigned_names(statement: ast.Assign) -> dict[str, ast.expr]:
    """x = 1; or x, y = 1, 2; or both names of x = y = 1."""
    found: dict[str, ast.expr] = {}
    for target in statement.targets:
        if isinstance(target, ast.Name):
            found[target.id] = statement.value
        elif isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs = zip(target.elts, statement.value.elts, strict=False)
            found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
    return found


def _replace_names(node: ast.expr, variables: dict[str, ast.expr]) -> ast.expr:
    """An expression in which the variables of a function are what they were assigned."""

    class Replace(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return copy.deepcopy(variables.get(node.id, node))

    replaced: ast.expr = Replace().visit(copy.deepcopy(node))
    return replaced


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


def is_call_of_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) == "super"


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
