"""Which parameter of an operation is its weight, bias, mean or variance.

It is found from what is computed with a parameter, whatever its name: the parameter that a root is
taken of is a variance, and what is subtracted from the values is a mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from resattn.reading.form import Held

Uses = tuple[tuple[str, Held], ...]  # primitives, each with the parameters that it uses

ROOTS = ("root", "reciprocal root", "power")
NORM_OPS = ("batch_norm", "group_norm", "layer_norm")


def find_roles(op: str, uses: Sequence[tuple[str, Held]]) -> Mapping[str, str]:
    """The names of the parameters of an operation by role; without those that are unclear.

    op: as in `CommonStep`.
    """
    roles: dict[str, str] = {}
    for primitive, held in uses:
        new = held.names - {*roles.values()}
        rooted = {name for name in new if any((name, root) in held.functions for root in ROOTS)}
        rooted = rooted if op in NORM_OPS else set()  # others compute their kernels with roots
        rest = new - rooted
        _give(roles, "variance", rooted)
        if primitive == "difference":
            _give(roles, "mean", rest)
        elif primitive != "sum":
            _give(roles, "weight", rest)
        else:
            # (x - mean) * scale is also computed as x * scale + (bias - mean * scale).
            scaled = {name for name in rest if (name, "product") in held.functions}
            scaled = scaled if op in NORM_OPS else set()
            _give(roles, "mean", scaled)
            _give(roles, "bias", rest - scaled)
    return roles


def _give(roles: dict[str, str], role: str, names: Iterable[str]) -> None:
    found = list(names)
    if len(found) == 1 and role not in roles:
        roles[role] = found[0]
