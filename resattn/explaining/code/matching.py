"""Which call of a forward method computes which operation of its module."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resattn.explaining.code.calls import PARTS, Call, calls
from resattn.explaining.code.members import Members
from resattn.explaining.code.source import Definition, Forward
from resattn.explaining.names import name_within
from weights.operations import Operation

# What it is worth that a call computes an operation. The first turn of a loop comes before another
# turn, and both come before a call that also computes the operation before.
FIRST, AGAIN, FURTHER = 20, 18, 10

Operations = Sequence[Operation]


@dataclass(frozen=True)
class Match:
    """calls: those of a forward method. found: for each operation the index of its call or None."""

    calls: tuple[Call, ...]
    found: tuple[int | None, ...]

    def operations_of(self, call: int) -> list[int]:
        """The indices of the operations that a call computes."""
        return [number for number, found in enumerate(self.found) if found == call]


def match(
    members: Members, owner: Definition, forward: Forward, scope: str, operations: Operations
) -> Match:
    """Finds for each operation of a module the call that computes it.

    owner: the class of the module. forward: its method. scope: its path.
    """

    def read(known: set[str]) -> list[Call]:
        return calls(members, owner, forward, known, len(operations), scope)

    patterns = {call.member for call in read(set()) if call.member}
    holders = find_holders(operations, scope, patterns)
    lasts = [name_within(each.name, scope).rpartition(".")[2] for each in operations]
    names = [{each.kind, last} for each, last in zip(operations, lasts, strict=True)]
    made = read(
        {name for own, holder in zip(names, holders, strict=True) if not holder for name in own}
    )

    def computes(call: Call, number: int) -> bool:
        """A pattern is for the first operation of a module; its others continue the call."""
        held = holders[number]
        inside = number > 0 and held == holders[number - 1]
        return not (call.member and call.member != held and inside) and fits(call, number)

    def fits(call: Call, number: int) -> bool:
        held = holders[number]
        if call.member:  # a pattern means any module that is not called by its name
            by_pattern = held not in patterns and re.fullmatch(call.member, held)
            return bool(held and (call.member == held or by_pattern))
        return not held and not call.names.isdisjoint(names[number])

    def continues(call: Call, number: int) -> bool:
        if call.member:
            return holders[number] == holders[number - 1] and fits(call, number)
        before, operation = operations[number - 1 : number + 1]
        is_part = operation.kind in PARTS and operation.kind == before.kind
        return is_part and fits(call, number)

    return Match(tuple(made), tuple(pair(made, len(operations), computes, continues)))


def find_holders(operations: Operations, scope: str, patterns: set[str]) -> list[str]:
    """For each operation the name of the module in `scope` that computes it, or "".

    patterns: of the names of the modules that are called. A module computes the operations under
    its path up to its own output, and the same once more when it is called again. Operations that
    come later only share its path.
    """
    modules = {
        name_within(each.module, scope).partition(".")[0] for each in operations if each.module
    }
    holders: list[str] = []
    complete: set[str] = set()
    seen: set[str] = set()
    for operation in operations:
        inner = name_within(operation.name, scope)
        name, _, rest = inner.partition(".")
        called = name in patterns or (
            name in modules and any(re.fullmatch(pattern, name) for pattern in patterns)
        )
        if called and (name not in complete or inner in seen):
            holders.append(name)
            seen.add(inner)
            complete |= set() if rest else {name}
        else:
            holders.append("")
    return holders


def pair(
    made: Sequence[Call],
    count: int,
    computes: Callable[[Call, int], bool],
    continues: Callable[[Call, int], bool],
) -> list[int | None]:
    """For each of `count` operations the index of its call, or None. Both keep their order.

    computes: whether a call can compute an operation. continues: whether it can do so after it has
    computed the operation before. The sum of the worths is the greatest; of equal sums the one with
    the earliest calls is taken.
    """
    best, further = _sums(made, count, computes, continues)
    found: list[int | None] = [None] * count
    i = j = 0
    while i < count and j < len(made):
        if computes(made[j], i) and best[i][j] == _worth(made[j]) + further[i + 1][j]:
            found[i], i = j, i + 1
            while i < count and further[i][j] > best[i][j + 1]:
                found[i], i = j, i + 1
            j += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    return found


def _sums(
    made: Sequence[Call],
    count: int,
    computes: Callable[[Call, int], bool],
    continues: Callable[[Call, int], bool],
) -> tuple[list[list[int]], list[list[int]]]:
    """The greatest sums of the operations from i on and the calls from j on.

    The second: the same if call j has computed operation i - 1 and can go on.
    """
    best = [[0] * (len(made) + 1) for _ in range(count + 1)]
    further = [[0] * (len(made) + 1) for _ in range(count + 1)]
    for i in range(count - 1, -1, -1):
        for j in range(len(made) - 1, -1, -1):
            best[i][j] = max(best[i][j + 1], best[i + 1][j])
            if computes(made[j], i):
                best[i][j] = max(best[i][j], _worth(made[j]) + further[i + 1][j])
            further[i][j] = best[i][j + 1]
            if i and continues(made[j], i):
                further[i][j] = max(further[i][j], FURTHER + further[i + 1][j])
    return best, further


def _worth(call: Call) -> int:
    return AGAIN if call.again else FIRST
