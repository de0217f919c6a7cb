"""The lines of the forward methods beside the operations of a graph.

Both are in the order of execution. So the calls of a method are aligned with the operations of its
module: as many operations as possible find the call that computes them. The calls of branches that
are not taken find none. Then the modules that the method calls are aligned in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from resattn.explaining.code.matching import Match, Operations, match
from resattn.explaining.code.members import Absent, Container, Member, Members, Opened
from resattn.explaining.code.source import Definition, Forward, Package, package_of
from resattn.explaining.names import name_within
from weights.config import Config, NetworkConfig
from weights.graph import Graph

BUILDER = ("variant.py", "build_block")  # makes the block of any config
UNCOMPUTED = ("input", "parameter")  # the kinds of operations that no line computes


@dataclass(frozen=True)
class Line:
    """One line of a forward method.

    scope: the path of the module that runs it. of: the class. number: its place in the method.
    """

    text: str
    of: str
    scope: str
    number: int


@dataclass(frozen=True)
class Alignment:
    """The lines of every module that runs, and the operations that they compute.

    classes: by path, the class of each module, in the order of execution.
    lines: by path, the lines of its forward method.
    computed: by path and number of a line, the operations that it computes.
    places: by path and number of a line, the operation beside which it is shown.
    missing: the operations for which a module has no line.
    """

    classes: dict[str, str] = field(default_factory=dict)
    lines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    computed: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def by_operation(self) -> dict[str, tuple[Line, ...]]:
        """For each operation the lines to show, from the outermost module to the innermost.

        Each line is shown once, beside the first operation that it computes. A line that computes
        none is shown beside the next operation of its module, or the last if there is no next.
        """
        shown: dict[str, list[Line]] = {}
        for scope, texts in self.lines.items():
            for number, text in enumerate(texts):
                line = Line(text, self.classes[scope], scope, number)
                shown.setdefault(self.places[scope, number], []).append(line)
        return {operation: tuple(lines) for operation, lines in shown.items()}


def align(found: Graph, framework: str) -> Alignment:
    """The lines of an implementation that compute a graph. framework: torch, jax or tf.

    Raises ArgumentError for any other framework.
    """
    return align_package(found, package_of(framework))


def align_package(found: Graph, package: Package) -> Alignment:
    """The lines of a package that compute a graph."""
    blocks = found.config.named_blocks()

    def config_of(path: str) -> Config:
        around = [name for name in blocks if not name or f"{path}.".startswith(f"{name}.")]
        return blocks[max(around, key=len)] if around else found.config

    aligner = _Aligner(package, Members(package, config_of))
    operations = [each for each in found if each.kind not in UNCOMPUTED]
    aligner.open(aligner.find_model(found.config, operations), "", operations, found.output)
    return aligner.alignment


class _Aligner:
    """Opens the modules from the outermost to the innermost and collects their lines."""

    def __init__(self, package: Package, members: Members):
        self.package = package
        self.members = members
        self.alignment = Alignment()

    def find_model(self, config: Config, operations: Operations) -> Definition:
        """The class of a config's model: of a block, the one that `BUILDER` makes."""
        builder = self.package.find(*BUILDER)
        if isinstance(config, NetworkConfig) or builder is None:
            return self.package.find_class(config.model)
        classes = [each for each in self.members.results(builder, "") if isinstance(each, Opened)]
        return max(classes, key=lambda each: self.fit(each, "", operations)).definition

    def open(self, owner: Definition, scope: str, operations: Operations, place: str) -> None:
        """Aligns the forward method of the class `owner` with the operations of a module.

        place: the operation beside which its lines are shown if the module has no operations.
        """
        forward, made = self.match(owner, scope, operations)
        alignment, is_new = self.alignment, scope not in self.alignment.lines
        for operation, found in zip(operations, made.found, strict=True):
            # A module that is one operation returns it at the end.
            is_all = bool(scope) and operation.module == scope
            if found is not None or is_all:
                line = forward.starts[-1] if found is None else made.calls[found].line
                alignment.computed.setdefault((scope, line), []).append(operation.name)
            else:
                alignment.missing.append(operation.name)
        if is_new:
            alignment.classes[scope] = getattr(owner.node, "name", "")
            alignment.lines[scope] = forward.lines
            self.place(scope, forward, operations[-1].name if operations else place)
        for index, call in enumerate(made.calls):
            own = [operations[each] for each in made.operations_of(index)]
            if call.member and (own or not call.again):
                name = _first_part(own[0].name, scope) if own else call.member
                path = f"{scope}.{name}".lstrip(".")
                candidates = self.members.candidates(owner, path)
                self.open_best(candidates, path, own, alignment.places[scope, call.line])

    def match(self, owner: Definition, scope: str, operations: Operations) -> tuple[Forward, Match]:
        forward = self.package.forward(owner)
        assert forward is not None
        return forward, match(self.members, owner, forward, scope, operations)

    def place(self, scope: str, forward: Forward, otherwise: str) -> None:
        """Says beside which operation each line of a method is shown."""
        firsts = [self.alignment.computed.get((scope, start), [""])[0] for start in forward.starts]
        for number in range(len(firsts)):
            choices = (*firsts[number:], *reversed(firsts[:number]), otherwise)
            self.alignment.places[scope, number] = next(filter(None, choices))

    def open_best(
        self, candidates: Sequence[Member], path: str, operations: Operations, place: str
    ) -> None:
        """Opens the module at a path: of all that it may be, the one that fits the operations."""
        chosen = max(candidates, key=lambda each: self.fit(each, path, operations), default=None)
        if isinstance(chosen, Opened):
            _, made = self.match(chosen.definition, path, operations)
            if operations or not made.calls:  # a method that computes something has operations
                self.open(chosen.definition, path, operations, place)
        elif isinstance(chosen, Container) and self.fit(chosen, path, operations)[0]:
            names = dict.fromkeys(_first_part(each.name, path) for each in operations)
            for name in names:
                own = [each for each in operations if _first_part(each.name, path) == name]
                items = self.members.items(chosen, f"{path}.{name}")
                self.open_best(items, f"{path}.{name}", own, place)

    def fit(self, candidate: Member, path: str, operations: Operations) -> tuple[int, int]:
        """How many operations a candidate computes, and minus the number of its idle calls."""
        if isinstance(candidate, Absent):
            return 0, 0
        if isinstance(candidate, Container) and not all(
            _first_part(each.name, path).isdigit() for each in operations
        ):
            return 0, 0
        if not isinstance(candidate, Opened):
            return len(operations), -(not operations)
        _, made = self.match(candidate.definition, path, operations)
        idle = [
            call
            for number, call in enumerate(made.calls)
            if number not in made.found and (call.member or not operations)
        ]
        return sum(call is not None for call in made.found), -len(idle)


def _first_part(name: str, scope: str) -> str:
    return name_within(name, scope).partition(".")[0]
