"""PyTorch's own files, read with `weights_only=True`: nothing in them is executed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from weights.errors import MissingFramework, WeightsError
from weights.files.atomic import write_atomically
from weights.files.content import Content, unwrap
from weights.live import adapter


def write(
    path: Path, text: str | None, arrays: Mapping[str, np.ndarray], origin: str | None = None
) -> None:
    """text: the config's JSON; None for a plain state dict, as other libraries load it. origin:
    where they came from, JSON. Needs PyTorch.
    """
    torch = adapter("torch")
    said = {} if text is None else {"config": text}
    said |= {"origin": origin} if said and origin else {}
    write_atomically(path, lambda temporary: torch.write_file(temporary, said, arrays))


def read(path: Path, part: str | None = None) -> Content:
    """The config and the arrays. part: as in `unwrap`. Needs PyTorch.

    Raises WeightsError for a file that is not whole, or holds more than plain tensors.
    """
    torch = adapter("torch")
    try:
        content = torch.read_file(path)
    except MissingFramework:
        raise
    except UnpicklingError as error:
        raise WeightsError(
            f"{path.name}: is not a PyTorch file of plain tensors, or not a whole one; files with "
            "other Python objects in them are refused, since reading them would run their code; "
            "save the model's state_dict() alone "
            f"({_first_line(error)})",
            [],
        ) from None
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole PyTorch file of plain floating point tensors "
            f"({_first_line(error)})",
            [],
        ) from None
    origin = content.get("origin")
    found = unwrap(content, path.name, part)
    return replace(found, origin=origin if isinstance(origin, str) else None)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
