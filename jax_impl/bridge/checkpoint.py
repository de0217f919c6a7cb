"""Orbax checkpoints, written. `weights.files.orbax` reads them, without JAX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orbax.checkpoint


def write_checkpoint(path: Path, tree: dict[Any, Any]) -> None:
    """Writes nested mappings of NumPy arrays to a new folder, as `PyTreeCheckpointer` does.

    They are written as arrays of NumPy: they have no sharding, so any device restores them, and
    float64 stays float64 also where JAX has it disabled.
    Raises OSError where the system refuses.
    """
    handler = orbax.checkpoint.PyTreeCheckpointHandler()
    with orbax.checkpoint.Checkpointer(handler) as checkpointer:
        try:
            checkpointer.save(path, tree)
        except ValueError as error:  # of TensorStore, which has no other class for a full disk
            raise OSError(next(iter(str(error).splitlines()), "")[:300]) from error
