"""Gradients that cancel: which ones are exactly zero, or nearly, because of what follows.

A batch norm in training takes the mean away, so a bias before it changes nothing and its gradient
is exactly zero; and it divides by the deviation, so where a kernel is one single weight that weight
changes nothing but what eps does. A softmax does not see what is added to all that it compares.
What a framework returns there is rounding noise, to be judged by the sum of the magnitudes that
cancel.
"""

from collections.abc import Mapping, Sequence
from math import prod

from weights.operations import Operation

Users = Mapping[str, list[Operation]]


def idle_biases(operations: Sequence[Operation], training: bool = True) -> dict[str, str]:
    """The biases of convolutions whose gradient is exactly zero, whatever comes.

    For each the running mean that it is part of, or "".
    """
    users = _users(operations)
    norms = {
        operation.inputs[0]: operation.module
        for operation in operations
        if operation.kind == "batch_norm"
    }
    biased = [each for each in operations if each.kind == "convolution" and each.settings["bias"]]
    counted = {each.module for each in biased if not _lost(users, each.name, training)}
    idle = [each for each in biased if each.module not in counted]
    return {f"{each.module}.bias": _mean(norms, each.name, training) for each in idle}


def _mean(norms: Mapping[str, str], name: str, training: bool) -> str:
    return f"{norms[name]}.running_mean" if training and name in norms else ""


def cancelling_weights(operations: Sequence[Operation], training: bool) -> set[str]:
    """The kernels of one single weight that a batch norm in training divides by."""
    if not training:
        return set()
    by_name = {operation.name: operation for operation in operations}
    before_norm = (by_name[op.inputs[0]] for op in operations if op.kind == "batch_norm")
    return {
        parameter.name
        for operation in before_norm
        for parameter in operation.parameters
        if len(parameter.shape) == 4 and prod(parameter.shape[1:]) == 1
    }


def _users(operations: Sequence[Operation]) -> Users:
    users: dict[str, list[Operation]] = {}
    for operation in operations:
        for name in operation.inputs:
            users.setdefault(name, []).append(operation)
    return users


def _lost(users: Users, name: str, training: bool) -> bool:
    """Whether a number added to all positions of a channel of this output changes nothing."""
    blind = ("softmax", "batch_norm") if training else ("softmax",)
    return bool(users.get(name)) and all(
        user.kind in blind or (_hands_on(user, name) and _lost(users, user.name, training))
        for user in users[name]
    )


def _hands_on(user: Operation, name: str) -> bool:
    """Whether what is added to all positions is added to all positions of the output, too."""
    if user.kind == "convolution":
        return bool(prod(user.settings["kernel"]) == 1)
    if user.kind == "matrix_product":
        # Keys: the same for all places that are weighed. Values: the weights add up to 1.
        return user.inputs[-1] == name
    scales = user.kind == "affine" and not user.settings["offset"]
    return user.kind in ("max_pool", "average_pool", "blur_pool") or bool(scales)
