"""Recording what a model computes, stage by stage: the part that is the same in every framework.
Knows no framework.

A stage is the output of a module (by its path, "conv1"), of one of the functions that the forward
methods call (by its name, behind the module it is called in, "attention.sigmoid"), or a value that
such a function is given and nothing recorded gave ("sum"). What is called a second time is "relu
2". The three implementations are one text, so their stages have the same names in the same order.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from weights.errors import ArgumentError
from weights.frameworks import Framework

# The functions of `layers.py` that are stages, besides modules. What only moves values about (a
# reshape) is none.
FUNCTIONS = (
    "relu",
    "sigmoid",
    "hard_sigmoid",
    "hard_swish",
    "global_average",
    "average",
    "maximum",
    "max_pool",
    "max_pool_2x2",
    "average_around",
    "nearest",
    "concatenate",
    "greater",
    "softmax",
)
# Their outputs, and those of modules of these classes, are not maps: their axes have the same order
# in every framework.
NOT_MAPS = ("softmax", "RelativePositions")
# The stages that are given what the block or the network is given, whatever stands in front of it.
FIRST_STAGES = ("conv1", "shortcut.0", "stem.conv")
NORM_ROLES = ("norm mean", "norm variance")


def numbered(name: str, taken: Collection[str]) -> str:
    """The name itself, or the first of "name 2", "name 3" that is not taken."""
    number = 1
    while (found := name if number == 1 else f"{name} {number}") in taken:
        number += 1
    return found


@dataclass(frozen=True)
class Recording:
    """What a model computed, by stage, in the order of execution. Arrays are canonical: (batch,
    channels, height, width).

    values: what came out. slopes: the gradients of sum(output * cotangent) with respect to that,
    for those stages on which the output depends. statistics: running statistics after the pass, by
    stage and leaf ("bn1.running_mean"). received: what the first stage was given, which in a model
    that holds a block is not what the model was given; None if not known.
    """

    values: Mapping[str, np.ndarray]
    slopes: Mapping[str, np.ndarray] = field(default_factory=dict)
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    received: np.ndarray | None = None


class Recorder:
    """Is told of every module and function that a model calls, and keeps what they give.

    names: the stage of each module, by the module's id; "" is the model itself. last: what to call
    its output. every: whether functions are stages, too. tap: is given the number of a stage,
    counted as they come, and its value, and gives the value to go on with; a framework puts in
    there what it needs for gradients. copied: makes a copy of a value that what the model does to
    the value leaves alone, for a model of a user's own, which may change values in place.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        last: str,
        every: bool = True,
        tap: Callable[[int, Any], Any] = lambda number, value: value,
        copied: Callable[[Any], Any] = lambda value: value,
    ):
        self.names = names
        self.last = last
        self.every = every
        self.tap = tap
        self.copied = copied
        self.values: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}
        self.maps: dict[str, bool] = {}
        self.received: Any = None
        self.given: set[str] = (
            set()
        )  # values found on their way into a function: other ways are not seen, nor their slopes
        self._scope: list[str] = []
        self._known: dict[
            int, Any
        ] = {}  # values that are a stage's or came from outside, kept so that no id comes twice
        self._newest: tuple[str, bool] = (
            "",
            False,
        )  # the last stage, and whether a function gave it
        self._inside: set[int] = set()
        self._in_function = False

    def know(self, *values: Any) -> None:
        """Values from outside."""
        self._known |= {id(value): value for value in values}

    def module(self, module: Any, call: Callable[[], Any], given: Any = None) -> Any:
        """The output of a module; called in the place of the module. given: its first argument."""
        name = self.names.get(id(module))
        if name is None or id(module) in self._inside or self._in_function:
            return call()
        if self.received is None and name in FIRST_STAGES:
            self.received = self.copied(given)
        self._inside.add(id(module))
        self._scope.append(name)
        try:
            value = call()
        finally:
            self._scope.pop()
            self._inside.discard(id(module))
        return self._leave(name or self.last, value, type(module).__name__)

    def function(self, name: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The output of a function; called in the place of the function."""
        if self._in_function or not self._scope or not self.every:
            return call(*arguments, **options)
        if (
            arguments
            and not isinstance(arguments[0], (list, tuple))
            and id(arguments[0]) not in self._known
        ):
            given = self._within("sum" if name == "relu" else f"{name} input")
            self.know(arguments[0])
            arguments = (self._keep(given, arguments[0], name not in NOT_MAPS), *arguments[1:])
            if name != "relu":
                self.given.add(self._newest[0])
        self._in_function = True
        try:
            value = call(*arguments, **options)
        finally:
            self._in_function = False
        if id(value) in self._known:
            return value
        value = self._keep(self._within(name), value, name not in NOT_MAPS)
        self._newest = (self._newest[0], True)
        return value

    def _within(self, name: str) -> str:
        return f"{self._scope[-1]}.{name}".lstrip(".")

    def _keep(self, name: str, value: Any, is_map: bool) -> Any:
        number = len(self.values)
        value = self.tap(number, value)
        self._put(name, number, value, is_map)
        onward = self.copied(value)
        self.know(value, onward)
        return onward

    def _put(self, name: str, number: int, value: Any, is_map: bool) -> None:
        name = numbered(name, self.values)
        self.values[name], self.numbers[name], self.maps[name] = value, number, is_map
        self._newest = (name, False)

    def _leave(self, name: str, value: Any, kind: str) -> Any:
        """A module's output. What its last function gave is renamed after the module; what another
        module gave is that's.
        """
        if not self.every:
            return self._keep(name, value, kind not in NOT_MAPS)
        newest, of_function = self._newest
        if newest in self.values and value is self.values[newest] and of_function:
            del self.values[newest]
            self._put(name, self.numbers.pop(newest), value, self.maps.pop(newest))
            return value
        if id(value) in self._known:
            return value
        return self._keep(name, value, kind not in NOT_MAPS)


# One trace at a time: while it runs, what others call is replaced.
_LOCK = threading.RLock()


@contextmanager
def functions_recorded(recorder: Recorder, modules: Iterable[ModuleType]) -> Iterator[None]:
    """Within it, the functions of `FUNCTIONS` that these modules of an implementation call are told
    to the recorder.
    """
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    modules = [
        module for module in modules if not module.__name__.endswith(".normalization")
    ]  # a norm is one stage

    def replace(table: dict[str, Any], key: str, name: str) -> None:
        original = table[key]
        replaced.append((table, key, original))
        table[key] = lambda *arguments, **options: recorder.function(
            name, original, *arguments, **options
        )

    tables: dict[int, dict[str, Any]] = {}
    with _LOCK:
        for module in modules:
            for name in FUNCTIONS:
                if callable(vars(module).get(name)):
                    replace(vars(module), name, name)
            if "GATES" in vars(module):
                tables[id(module.GATES)] = module.GATES  # imported by several
        for gates in tables.values():
            for name in gates:
                replace(gates, name, name)
        try:
            yield
        finally:
            for table, key, original in reversed(replaced):
                table[key] = original


@contextmanager
def calls_recorded(recorder: Recorder, classes: Iterable[type]) -> Iterator[None]:
    """Within it, calls of objects of these classes are told to the recorder."""
    replaced: list[tuple[Any, bool, Any]] = []
    with _LOCK:
        for kind in set(classes):
            original = kind.__call__
            replaced.append((kind, "__call__" in vars(kind), original))

            def told(self: Any, *arguments: Any, _original: Any = original, **options: Any) -> Any:
                given = next(iter((*arguments, *options.values())), None)
                return recorder.module(self, lambda: _original(self, *arguments, **options), given)

            kind.__call__ = told  # type: ignore[method-assign]
        try:
            yield
        finally:
            for kind, own, original in reversed(replaced):
                if own:
                    kind.__call__ = original
                else:
                    del kind.__call__


def stage_of(framework: Framework, path: Iterable[Any]) -> str:
    """The canonical path of a module from the path at which a framework holds it."""
    parts = [str(part) for part in path]
    return ".".join(
        part for part in parts if not (framework.sequence and part == framework.sequence)
    )


def norm_statistics(framework: Framework, modules: Mapping[str, Any]) -> dict[str, Any]:
    """The live running statistics of those modules that have them, by stage and canonical leaf."""
    leaves = {"norm mean": "running_mean", "norm variance": "running_var"}
    found = {}
    for stage, module in modules.items():
        for role in NORM_ROLES:
            leaf = getattr(module, framework.leaves[role][0], None)
            if leaf is not None:
                found[f"{stage}.{leaves[role]}"] = leaf
    return found


def mapped(
    model: Any, stages: Mapping[str, str], last: str, find: Callable[[Any, str], Any], kind: type
) -> dict[str, Any]:
    """The modules of a model of a user's own that are stages; the model itself is "" unless another
    is the last stage.

    find: how a framework looks up one part of a path. kind: what modules are. Raises ArgumentError for
    a path that leads to no module, and for two that lead to one.
    """
    found: dict[str, Any] = {}
    for stage, path in stages.items():
        module = resolve(model, path, find)
        if not isinstance(module, kind):
            raise ArgumentError(
                f"stages: {path!r} is {type(module).__qualname__}, not a module that is called"
            )
        for other, known in found.items():
            if known is module:
                raise ArgumentError(
                    f"stages: {other} and {stage} are one module, {path!r}, so which of its calls "
                    "is which is not known; map one of them, or give each a module of its own"
                )
        found[stage] = module
    return found if last in found else {"": model, **found}


def check_recorded(recorder: Recorder, last: str, stages: Mapping[str, str] | None) -> None:
    """Raises ArgumentError when a mapped module was not called, or more than once, and when the model
    gives no array.
    """
    for stage in stages or ():
        if stage not in recorder.values:
            raise ArgumentError(
                f"stages: the model did not call the module of {stage}; map one that it calls"
            )
        if numbered(stage, recorder.values) != f"{stage} 2":
            raise ArgumentError(
                f"stages: the model calls the module of {stage} more than once; map one that it "
                "calls once"
            )
    if not hasattr(recorder.values.get(last), "shape"):
        raise ArgumentError(
            "the model's output: expected one array, got "
            f"{type(recorder.values.get(last)).__qualname__}"
        )


def resolve(model: Any, path: str, find: Callable[[Any, str], Any]) -> Any:
    """The module at a dotted path in a model of a user's own. find: how a framework looks up one
    part of it.

    Raises ArgumentError that says which part does not exist.
    """
    module = model
    for part in path.split(".") if path else ():
        try:
            module = find(module, part)
        except (AttributeError, IndexError, KeyError, ValueError, TypeError):
            module = None
        if module is None:
            raise ArgumentError(
                f"stages: there is no {part!r} in "
                f"{type(model).__module__}.{type(model).__qualname__} on the way to {path!r}"
            )
    return module
