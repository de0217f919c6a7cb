"""The residual blocks of an executed graph, found from its edges alone.

A block goes from the operation that both of its paths start at to the sum in which they meet. Its
shortcut is empty or consists of a few operations that are linear in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from resattn.reading.executed import ExecutedGraph
from resattn.reading.form import Origin
from weights.errors import ArgumentError
from weights.graph import IMAGE, OperationGraph
from weights.operations import ELEMENTWISE, Operation
from weights.stages import numbered

POSSIBLE_IN_SHORTCUT = (
    *("convolution", "batch_norm", "group_norm", "layer_norm", "scale"),
    *("average_pool", "max_pool", "blur_pool", "subsample", "pad"),
)
LONGEST_SHORTCUT = 4
ACTIVATION_KINDS = (*ELEMENTWISE, "function")
GATING = ("sigmoid", "hard_sigmoid", "softmax")


@dataclass(frozen=True)
class ExecutedBlock:
    """A residual block. All are names of operations, in the order of execution.

    name: what the paths of its modules begin with; "" if nothing. fork: where both paths start.
    main, shortcut: the two paths, without fork and join. join: the sum, or the sum that fails. end:
    the join, or the activation after it. side: of the main path, what is computed beside it and
    comes back to it, such as attention; the operations where it comes back included. side_module:
    the path of the module that computes it, "" if it is not one alone.
    """

    name: str
    fork: str
    main: tuple[str, ...]
    shortcut: tuple[str, ...]
    join: str
    end: str
    side: tuple[str, ...] = ()
    side_module: str = ""

    @property
    def members(self) -> frozenset[str]:
        return frozenset((*self.main, *self.shortcut, self.join, self.end))

    def list_operations(self, found: OperationGraph) -> tuple[Operation, ...]:
        """All of its operations, in the order of execution."""
        return tuple(each for each in found if each.name in self.members)


def is_sum(operation: Operation) -> bool:
    """Whether it adds, or fails to add, two values."""
    adds = operation.kind == "sum" or operation.settings.get("operation") == "sum"
    return adds and len(operation.inputs) == 2


def find_blocks(found: ExecutedGraph) -> tuple[ExecutedBlock, ...]:
    """The blocks in the order of execution. Where a block holds one other it is one block; where
    it holds several, they are the blocks.
    """
    finder = _Finder(found)
    candidates = [block for each in found if is_sum(each) and (block := finder.find(each))]
    kept = [block for block in candidates if _count_inside(block, candidates) < 2]
    kept = [one for one in kept if not any(_is_inside(one, other) for other in kept)]
    named: list[ExecutedBlock] = []
    taken: set[str] = set()
    for number, block in enumerate(kept, start=1):
        name = _name_block(found, block) or ("" if len(kept) == 1 else f"block {number}")
        name = numbered(name, taken) if name else ""
        taken.add(name)
        named.append(finder.complete(block, name))
    return tuple(named)


def _is_inside(one: ExecutedBlock, other: ExecutedBlock) -> bool:
    return one.join in (*other.main, *other.shortcut)


def _count_inside(block: ExecutedBlock, others: Sequence[ExecutedBlock]) -> int:
    """How many blocks that are not inside of each other are inside of this one."""
    inside = [other for other in others if _is_inside(other, block)]
    return sum(not any(_is_inside(one, other) for other in inside) for one in inside)


def describe_form(found: OperationGraph, block: ExecutedBlock, channels: bool) -> Any:
    """Something that is equal for blocks of one form. channels: whether blocks with other channels
    and sizes differ.
    """
    operations = block.list_operations(found)
    place = {each.name: number for number, each in enumerate(operations)}
    rows = []
    for each in operations:
        settings = dict(each.settings)
        if not channels and each.depthwise:
            settings["groups"] = "depthwise"
        shape = tuple(extent.size for extent in each.shape) if channels else len(each.shape)
        inputs = tuple(place.get(name, -1) for name in each.inputs)
        held = tuple(p.shape for p in each.parameters) if channels else len(each.parameters)
        rows.append((each.kind, repr(sorted(settings.items())), inputs, shape, held))
    given = found[block.fork].shape if channels else ()
    return tuple(rows), tuple(extent.size for extent in given)


def cut_block(found: ExecutedGraph, name: str) -> ExecutedGraph:
    """One block alone, from its input to its output. Raises ArgumentError for a name that no block
    has.
    """
    blocks = {block.name: block for block in find_blocks(found)}
    if name not in blocks:
        several = f"expected one of {', '.join(blocks)}" if any(blocks) else "it has none by name"
        raise ArgumentError(f"block: {found.title} has no block {name!r}; {several}")
    block = blocks[name]
    fork = replace(found[block.fork], name=IMAGE, kind="input", inputs=(), parameters=())
    fork = replace(fork, module="", settings={}, multiply_adds=0)
    inside = [
        replace(each, inputs=tuple(IMAGE if one == block.fork else one for one in each.inputs))
        for each in block.list_operations(found)
    ]
    origins = {each.name: found.origins[each.name] for each in inside} | {IMAGE: Origin()}
    fails = found[block.join].kind == "failure"
    return replace(
        found,
        operations=(fork, *inside),
        title=f"{found.title}, {name}",
        origins=origins,
        failure=found.failure if fails else None,
        unused=(),
    )


class _Finder:
    """Sets of operations are whole numbers, a bit for each, as thousands of them are compared."""

    def __init__(self, found: ExecutedGraph):
        self.found = found
        self.names = [operation.name for operation in found]
        self.place = {name: number for number, name in enumerate(self.names)}
        self.above: list[int] = []  # what each operation is computed from
        for operation in found:
            above = 0
            for name in operation.inputs:
                above |= self.above[self.place[name]] | 1 << self.place[name]
            self.above.append(above)

    @cached_property
    def users(self) -> dict[str, list[str]]:
        users: dict[str, list[str]] = {name: [] for name in self.names}
        for operation in self.found:
            for name in operation.inputs:
                users[name].append(operation.name)
        return users

    def find(self, join: Operation) -> ExecutedBlock | None:
        """The block that ends in a sum, if there is one."""
        both = [self._with_above(name) for name in join.inputs]
        common = both[0] & both[1]
        if not common:
            return None
        fork = common.bit_length() - 1
        before = self._with_above(self.names[fork])
        sides = [self._list(side & ~before) for side in both]
        shortcut, main = sorted(sides, key=len)
        if {*main} & {*shortcut} or len(main) == len(shortcut) or not self._is_closed(join, sides):
            return None
        kinds = [self.found[name].kind for name in shortcut]
        if len(kinds) > LONGEST_SHORTCUT or not {*kinds} <= {*POSSIBLE_IN_SHORTCUT}:
            return None
        if not any(self.found[name].kind in ("convolution", "linear") for name in main):
            return None
        return ExecutedBlock("", self.names[fork], main, shortcut, join.name, self._find_end(join))

    def complete(self, block: ExecutedBlock, name: str) -> ExecutedBlock:
        """The block with its name and its side."""
        side = self._find_side(block)
        module = self._find_module(side, name)
        if module:
            side |= {
                each for each in block.main if f"{path_of(self.found, each)}.".startswith(module)
            }
        ordered = tuple(each for each in block.main if each in side)
        return replace(block, name=name, side=ordered, side_module=module.rstrip("."))

    def _with_above(self, name: str) -> int:
        return self.above[self.place[name]] | 1 << self.place[name]

    def _list(self, some: int) -> tuple[str, ...]:
        return tuple(name for number, name in enumerate(self.names) if some >> number & 1)

    def _is_closed(self, join: Operation, sides: Iterable[Sequence[str]]) -> bool:
        """Whether values enter the block at its fork alone and leave it at its sum alone."""
        inside = {name for side in sides for name in side}
        fork = {
            given for name in inside for given in self.found[name].inputs if given not in inside
        }
        leaving = {user for name in inside for user in self.users[name]} - inside
        return len(fork) == 1 and leaving == {join.name}

    def _find_end(self, join: Operation) -> str:
        users = self.users[join.name]
        alone = len(users) == 1 and self.found[users[0]].kind in ACTIVATION_KINDS
        return users[0] if alone else join.name

    def _find_side(self, block: ExecutedBlock) -> set[str]:
        """What is not on every way along the main path, and where the ways meet again."""
        main = [self.place[name] for name in block.main]
        edges = [
            (self.place[name], to) for to in main for name in self.found[self.names[to]].inputs
        ]
        jumps = [
            (start, end)
            for start, end in edges
            if any(self._leads(start, one) and self._leads(one, end) for one in main)
        ]
        side = {end for _, end in jumps}
        for one in main:
            passed = any(self._leads(start, one) and self._leads(one, end) for start, end in jumps)
            apart = any(
                not self._leads(one, other) and not self._leads(other, one)
                for other in main
                if other != one
            )
            if passed or apart:
                side.add(one)
        for start, end in edges:
            # Several ways end here, or what they gave is scaled.
            others = [other for other, to in edges if to == end]
            joins = len(others) > 1 and side.issuperset(others)
            if joins or (self.found[self.names[end]].kind == "affine" and start in side):
                side.add(end)
        return {self.names[one] for one in side}

    def _find_module(self, side: set[str], name: str) -> str:
        """The path of the module of a side, with a dot at its end; "" if it is none of its own."""
        known = any(origin.kind for origin in self.found.origins.values())
        paths = [each if known else self.found[each].module for each in side]
        paths = [path for path in paths if path]
        shared = ".".join(_find_start([path.split(".")[:-1] for path in paths]))
        own = shared and shared != name and f"{shared}.".startswith(f"{name}.".lstrip("."))
        return f"{shared}." if own else ""

    def _leads(self, one: int, other: int) -> bool:
        return bool(self.above[other] >> one & 1)


def path_of(found: ExecutedGraph, name: str) -> str:
    """The path of the module that computes an operation, "" if it is not known."""
    return found[name].module or found.origins[name].module


def is_gated(found: OperationGraph, names: Iterable[str]) -> bool:
    """Whether operations multiply by a gate or by weights that they compute, as attention does."""
    kinds = {found[name].kind for name in names}
    return bool(kinds & {*GATING}) and bool(kinds & {"product", "matrix_product"})


def _find_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    """What all of them begin with."""
    columns = zip(*sequences, strict=False)
    return [column[0] for column in takewhile(lambda each: len({*each}) == 1, columns)]


def _name_block(found: ExecutedGraph, block: ExecutedBlock) -> str:
    """What the paths of a block's modules have in common, without the last part of any."""
    paths = [each.module for each in block.list_operations(found) if each.module]
    # A module that holds others, too, has parameters of its own; any other is a layer of the block.
    holders = {path for path in paths if any(other.startswith(f"{path}.") for other in paths)}
    parts = [path.split(".")[: None if path in holders else -1] for path in paths]
    shared = _find_start(parts)
    if shared:
        return ".".join(shared)
    flat = "".join(_find_start(paths))  # as Keras names the layers of a functional model
    return flat.rpartition("_")[0] if any(each.isdigit() for each in flat) else ""
