"""Recording what a model computes, stage by stage: the part that is the same in every framework.
Knows no framework.

A stage is the output of a module (named by its path, "conv1"), the output of a marked function
(named after the module that calls it, "attention.sigmoid"), or a value that a marked function takes
and that no recorded stage gave ("sum"). A second call is "relu 2". The three implementations are
one text, so their stages have the same names in the same order.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar, overload

import numpy as np

from weights.errors import ArgumentError
from weights.frameworks import Framework
from weights.outputs import find_array, is_array

# The stages that take the input of the block or the network, also inside a larger model.
FIRST_STAGES = ("conv1", "shortcut.0", "stem.conv", "stem.conv1")
NORM_ROLES = ("norm mean", "norm variance")

Marked = TypeVar("Marked", bound=Callable[..., Any])


class _Thread(threading.local):
    """The recorder of what this thread calls, or None."""

    recorder: Recorder | None = None


_THREAD = _Thread()


@dataclass(frozen=True)
class Mark:
    """The mark of a class. is_map: as in `stage`."""

    is_map: bool


@overload
def stage(marked: Marked) -> Marked: ...
@overload
def stage(*, is_map: bool) -> Callable[[Marked], Marked]: ...
def stage(marked: Any = None, *, is_map: bool = True) -> Any:
    """Marks a function as a stage, or a module's class as one stage, whatever it calls.

    A marked function asks whether a recorder is active in its thread, and else does what it did.

    is_map: whether the output is a map, whose axes each framework orders in its own way. The axes
        of any other output have the same order in all frameworks.
    """
    if marked is None:
        return partial(stage, is_map=is_map)
    if isinstance(marked, type):
        marked._stage = Mark(is_map)  # type: ignore[attr-defined]
        return marked

    @wraps(marked)
    def call(*arguments: Any, **options: Any) -> Any:
        recorder = _THREAD.recorder
        if recorder is None:
            return marked(*arguments, **options)
        return recorder.function(marked, is_map, *arguments, **options)

    # torch.jit.script compiles the function that this attribute returns.
    call.__prepare_scriptable__ = lambda: marked  # type: ignore[attr-defined]
    return call


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

    values: the outputs. slopes: the gradients of sum(output * cotangent) with respect to the
    values, for those stages on which the output depends. statistics: running statistics after the
    pass, by stage and leaf ("bn1.running_mean"). received: the input of the first stage, which is
    not the model's input if the model only holds a block; None if not known. notes: what a report
    should say about it.
    """

    values: Mapping[str, np.ndarray]
    slopes: Mapping[str, np.ndarray] = field(default_factory=dict)
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    received: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class Recorder:
    """Sees every call of a module and of a marked function, and keeps the outputs.

    names: the stage of each module, by the module's id; "" is the model itself. last: the name of
    the model's output. every: whether functions are stages, too. tap: takes the number of a stage,
    counted in the order of execution, and its value, and returns the value to go on with; a
    framework adds there what it needs for gradients. copy: makes a copy of a value that is safe
    from the model, for a model of a user's own that may change values in place. is_array: whether
    a value is an array of the framework.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        last: str,
        every: bool = True,
        tap: Callable[[int, Any], Any] = lambda number, value: value,
        copy: Callable[[Any], Any] = lambda value: value,
        is_array: Callable[[Any], bool] = is_array,
    ):
        self.names = names
        self.last = last
        self.every = every
        self.tap = tap
        self.copy = copy
        self.is_array = is_array
        self.values: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}
        self.maps: dict[str, bool] = {}
        self.calls: Counter[str | None] = Counter()  # of the module of each stage
        self.received: Any = None
        self.notes: list[str] = []
        # Inputs of functions that no stage gave. They may reach the output in other ways, which the
        # recorder does not see, so their slopes are not recorded.
        self.inputs: set[str] = set()
        # The modules that are running, each with its stage, or None if it is none, and argument.
        self._calls: list[tuple[Any, str | None, Any]] = []
        # Values that a stage gave or that came from outside, kept so that no id comes twice.
        self._known: dict[int, Any] = {}
        # The last stage, and whether a function gave it.
        self._newest: tuple[str, bool] = ("", False)
        # The function or module that is one stage and is running: nothing inside it is recorded.
        self._whole: Any = None

    @property
    def active(self) -> bool:
        """Whether it records what this thread calls."""
        return _THREAD.recorder is self

    def know(self, *values: Any) -> None:
        """Takes note of values from outside."""
        self._known |= {id(value): value for value in values}

    def module(self, module: Any, call: Callable[[], Any], argument: Any = None) -> Any:
        """The output of a module, from the call of it. argument: its first one."""
        self.enter(module, argument)
        try:
            value = call()
        except BaseException:
            self._pop(module)
            raise
        return self.leave(module, value)

    def enter(self, module: Any, argument: Any) -> None:
        """Takes note that a module is called. `leave` must follow. argument: its first one."""
        name = self.names.get(id(module))
        if self._whole is not None or any(running is module for running, *_ in self._calls):
            name = None
        if self.received is None and name in FIRST_STAGES:
            self.received = self.copy(argument) if self.is_array(argument) else None
        self._calls.append((module, name, argument))
        self.calls[name] += name is not None
        if name is not None and _mark(module) is not None:
            self._whole = module

    def leave(self, module: Any, value: Any) -> Any:
        """Records the output of a module, and returns the value to go on with.

        A module of ours that returns its argument is no stage: it computes nothing.
        """
        name, argument = self._pop(module)
        if name is None or (self.every and value is argument):
            return value
        mark = _mark(module)
        return self._leave(name or self.last, value, mark is None or mark.is_map)

    def function(
        self, function: Callable[..., Any], is_map: bool, *arguments: Any, **options: Any
    ) -> Any:
        """The output of a marked function, from the call of it."""
        if self._whole is not None or self._scope is None or not self.every:
            return function(*arguments, **options)
        name = function.__name__
        if (
            arguments
            and not isinstance(arguments[0], (list, tuple))
            and id(arguments[0]) not in self._known
        ):
            first = self._within("sum" if name == "relu" else f"{name} input")
            self.know(arguments[0])
            arguments = (self._keep(first, arguments[0], is_map), *arguments[1:])
            if name != "relu":
                self.inputs.add(self._newest[0])
        self._whole = function
        try:
            value = function(*arguments, **options)
        finally:
            self._whole = None
        if id(value) in self._known:
            return value
        value = self._keep(self._within(name), value, is_map)
        self._newest = (self._newest[0], True)
        return value

    def _pop(self, module: Any) -> tuple[str | None, Any]:
        """The stage and the argument of a module, which no longer runs."""
        running, name, argument = None, None, None
        while running is not module:  # those inside it have raised an error
            running, name, argument = self._calls.pop()
            self._whole = None if running is self._whole else self._whole
        return name, argument

    @property
    def _scope(self) -> str | None:
        """The stage of the innermost module that is running and is one."""
        return next((name for _, name, _ in reversed(self._calls) if name is not None), None)

    def _within(self, name: str) -> str:
        return f"{self._scope}.{name}".lstrip(".")

    def _keep(self, name: str, value: Any, is_map: bool) -> Any:
        number = len(self.values)
        value = self.tap(number, value)
        self._put(name, number, value, is_map)
        onward = self.copy(value)
        self.know(value, onward)
        return onward

    def _put(self, name: str, number: int, value: Any, is_map: bool) -> None:
        name = numbered(name, self.values)
        self.values[name], self.numbers[name], self.maps[name] = value, number, is_map
        self._newest = (name, False)

    def _leave(self, name: str, value: Any, is_map: bool) -> Any:
        """A module's output. If its last function gave it, that stage is renamed after the module.
        If another module gave it, it stays that module's.
        """
        if not self.every:
            array, put_back = find_array(value, f"the output of {name}", self.is_array)
            return put_back(self._keep(name, array, is_map))
        newest, of_function = self._newest
        if newest in self.values and value is self.values[newest] and of_function:
            del self.values[newest]
            self._put(name, self.numbers.pop(newest), value, self.maps.pop(newest))
            return value
        if id(value) in self._known:
            return value
        return self._keep(name, value, is_map)


def _mark(module: Any) -> Mark | None:
    return getattr(type(module), "_stage", None)


@contextmanager
def activate(recorder: Recorder) -> Iterator[None]:
    """Within it, the recorder records the marked functions that this thread calls."""
    before = _THREAD.recorder
    _THREAD.recorder = recorder
    try:
        yield
    finally:
        _THREAD.recorder = before


# One at a time replaces the calls of classes.
_LOCK = threading.RLock()


@contextmanager
def watch_calls(classes: Iterable[type]) -> Iterator[None]:
    """Within it, a recorder also records the calls of objects of these classes that its thread
    makes. For frameworks that have no hooks.
    """
    replaced: list[tuple[Any, bool, Any]] = []
    with _LOCK:
        for kind in set(classes):
            original = kind.__call__
            replaced.append((kind, "__call__" in vars(kind), original))
            kind.__call__ = _watch(original)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for kind, own, original in reversed(replaced):
                if own:
                    kind.__call__ = original
                else:
                    del kind.__call__


def _watch(original: Callable[..., Any]) -> Callable[..., Any]:
    """The `__call__` of a class that asks for the recorder of the thread at each call."""

    @wraps(original)
    def call(module: Any, *arguments: Any, **options: Any) -> Any:
        recorder = _THREAD.recorder
        if recorder is None:
            return original(module, *arguments, **options)
        return recorder.module(
            module,
            lambda: original(module, *arguments, **options),
            first_argument(arguments, options),
        )

    return call


def first_argument(arguments: Iterable[Any], options: Mapping[str, Any]) -> Any:
    """The first argument of a call, by position or by name; None without arguments."""
    return next(iter((*arguments, *options.values())), None)


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


def find_modules(
    model: Any, stages: Mapping[str, str], last: str, find: Callable[[Any, str], Any], kind: type
) -> dict[str, Any]:
    """The modules of a model of a user's own that are stages; the model itself is "" unless another
    is the last stage.

    find: how a framework looks up one part of a path. kind: what modules are. Raises
    ArgumentError for a path that leads to no module, and for two that lead to one.
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


def check_recorded(recorder: Recorder, stages: Mapping[str, str] | None) -> None:
    """Raises ArgumentError when a mapped module was not called, or more than once."""
    for stage in stages or ():
        if stage not in recorder.values:
            raise ArgumentError(
                f"stages: the model did not call the module of {stage}; map one that it calls"
            )
        if recorder.calls[stage] > 1:
            raise ArgumentError(
                f"stages: the model calls the module of {stage} more than once; map one that it "
                "calls once"
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
