"""PyTorch's own files, read with `weights_only=True`: nothing in them is executed."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from weights.convert import Arrays
from weights.errors import MissingFramework, WeightsError
from weights.files.atomic import write_atomically
from weights.live import adapter


def write(path: Path, text: str, arrays: Mapping[str, np.ndarray]) -> None:
    """text: the config's JSON. Needs PyTorch."""
    torch = adapter("torch")
    write_atomically(path, lambda temporary: torch.write_file(temporary, text, arrays))


def read(path: Path) -> tuple[str | None, Arrays]:
    """The config (JSON text, or None) and the arrays. Needs PyTorch.

    Raises WeightsError for a file that is not whole, or holds more than plain tensors.
    """
    torch = adapter("torch")
    try:
        text, arrays = torch.read_file(path)
    except MissingFramework:
        raise
    except UnpicklingError as error:
        raise WeightsError(
            f"{path.name}: is not a PyTorch file of plain tensors, or not a whole one; files with "
            "other Python objects in them are refused, since reading them would run their code "
            f"({_first_line(error)})",
            [],
        ) from None
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole PyTorch file of plain floating point tensors "
            f"({_first_line(error)})",
            [],
        ) from None
    return text, arrays


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
