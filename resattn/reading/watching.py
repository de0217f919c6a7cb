"""Which module runs while a framework traces a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from weights.stages import Recorder


class Watcher(Recorder):
    """Enters a context for every call of a module. `weights.stages.watch_calls` calls it.

    paths: of the modules, by their ids. context: made for the path and the class of a module.
    """

    def __init__(
        self,
        paths: Mapping[int, str],
        context: Callable[[str, type], AbstractContextManager[Any]],
    ):
        super().__init__({}, "")
        self.paths = paths
        self.context = context

    def module(self, module: Any, call: Callable[[], Any], argument: Any = None) -> Any:
        """The output of a module, from the call of it."""
        path = self.paths.get(id(module))
        if path is None:
            return call()
        with self.context(path, type(module)):
            return call()

    def function(
        self, function: Callable[..., Any], is_map: bool, *arguments: Any, **options: Any
    ) -> Any:
        """The output of a marked function, which is no module."""
        return function(*arguments, **options)
