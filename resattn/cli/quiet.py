"""Keeps what TensorFlow's C++ code writes while it starts out of the output of commands.

`TF_CPP_MIN_LOG_LEVEL` does not: these lines come before TensorFlow has read it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_starts = True  # whether TensorFlow is started when it is imported
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl|[IW]\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\]"
)


def keep_quiet() -> None:
    """From now on TensorFlow starts without a word, whoever imports it first."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


@contextmanager
def choose_devices() -> Iterator[None]:
    """Within it, TensorFlow is imported and told which devices it has, which must be before it
    starts. It starts at the end.
    """
    global _starts
    _starts = False
    with without_chatter():
        yield
        _start(sys.modules.get("tensorflow"))


def _start(module: Any) -> None:
    """Makes TensorFlow compute something, because it writes more then."""
    if module is not None:
        module.constant(0)


class _Finder(MetaPathFinder):
    """Finds TensorFlow where it is, until it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)  # else it would find itself
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads and starts TensorFlow."""

    def __init__(self, inner: Loader):
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = self._inner
        sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Finder)]
        with without_chatter():
            self._inner.exec_module(module)
            if _starts:
                _start(module)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Within it, what C++ code writes to stderr waits; then it comes, without the chatter."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError):  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            rest = b"".join(line for line in held if not _CHATTER.match(line))
            os.write(2, rest)
