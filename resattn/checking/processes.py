"""Processes of our own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def make_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that imports what this one would: not a `weights.py` that is in
    the current folder by chance. more: other variables.
    """
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **more}
