"""The graph of torch.export: a list of nodes, each a call of one ATen operator or method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resattn.reading.aten import KEYWORDS, PRIMITIVES, shape_of_output, shapes_of_outputs
from resattn.reading.form import (
    ImageValues,
    Operand,
    Origin,
    constant,
    held_or_unknown,
)
from resattn.reading.machine import Machine
from resattn.reading.sources import find_own_place


def read_export(
    machine: Machine,
    exported: Any,
    owners: Mapping[str, str],
    image: ImageValues,
    inside: str = "",
    paths: Mapping[str, str] | None = None,
) -> list[Any]:
    """The outputs of an exported program.

    owners: the names of parameters, by the names that the program has for them. Inputs that are in
    none of the program's tables are the image. Buffers of several axes are constants: filters, and
    means and deviations of images. inside: the path of the module that is read. paths:
    of modules, by the paths that the program has for them, where these are others.
    """
    values: dict[Any, Any] = {}

    def operand(argument: Any) -> Any:
        if type(argument).__name__ == "Node":
            return values[argument]
        if isinstance(argument, (list, tuple)):
            return type(argument)(map(operand, argument))
        return argument

    own_names = _own_names(exported.graph_signature)
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            own = own_names.get(node.name)
            values[node] = image if own is None else _input(node, own, owners, exported)
        elif node.op == "output":
            count = len(exported.graph_signature.user_outputs)
            return list(operand(node.args[0])[-count:])  # the new statistics come before them
        else:
            machine.origin = _origin(node, inside, paths)
            given = operand(node.args)
            name = _name(node)
            if name == "failed":  # see `resattn.reading.pytorch`
                return list(given[0])
            if _is_in_place(node) and node.meta.get("val") is None:
                continue  # it failed
            keywords = {key: operand(value) for key, value in node.kwargs.items()}
            given = [*given, *(keywords.pop(key, None) for key in KEYWORDS.get(name, ()))]
            table = {} if set(keywords) - IGNORED else PRIMITIVES
            values[node] = machine.interpret(table, name, node, given, shapes_of_outputs(node))
            if _is_in_place(node):
                changed = given[0]
                values |= {each: values[node] for each, x in values.items() if x is changed}
    raise AssertionError("a graph has an output")


# Options that say how and where to compute, and those that some operators take by name alone.
IGNORED = {"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy"}


def _name(node: Any) -> str:
    """Of an operator; relu_ is relu in place."""
    return getattr(node.target, "__name__", str(node.target)).split(".")[0].rstrip("_")


def _is_in_place(node: Any) -> bool:
    name = getattr(node.target, "__name__", "").split(".")[0]
    return name.endswith("_") and not name.endswith("__") and bool(node.args)


def _origin(node: Any, inside: str, paths: Mapping[str, str] | None) -> Origin:
    """Where a node comes from."""
    stack = [*node.meta.get("nn_module_stack", {}).values()]
    path, kind = stack[-1] if stack else ("", "")
    path = path.removeprefix(inside).removeprefix(".")
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    file, line = find_own_place([(file, int(line)) for file, line in reversed(frames)])
    return Origin((paths or {}).get(path, path), str(kind).rpartition(".")[2], file, line)


_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in ', re.MULTILINE)  # as Python prints it


def _own_names(signature: Any) -> dict[str, str]:
    """What the program calls each input that is no argument, by the name of its placeholder."""
    return {
        **signature.inputs_to_lifted_tensor_constants,
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
    }


def _input(node: Any, own: str, owners: Mapping[str, str], exported: Any) -> Operand:
    fixed = own in exported.constants and own not in owners
    if fixed or (own in exported.graph_signature.buffers and len(shape_of_output(node)) > 1):
        value = {**exported.state_dict, **exported.constants}[own]
        return constant(value.detach().cpu().numpy())
    return held_or_unknown(owners.get(own), shape_of_output(node))
