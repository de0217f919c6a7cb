"""The contract between the implementations: configs, schema, layouts, conversion, files,
comparison.

Imports NumPy, ml_dtypes (NumPy's bfloat16) and safetensors, never a framework. Most names are
imported when they are first asked for: `resattn inspect` needs few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not later, since modules have the same names.
from weights.attach import attach
from weights.fold import fold
from weights.schema import schema

if TYPE_CHECKING:
    from weights.attention import register_attention
    from weights.compare import Difference, Report, difference
    from weights.config import BlockConfig, BottleneckConfig, NetworkConfig
    from weights.errors import MissingFramework, ResattnError, WeightsError
    from weights.files.formats import (
        Checkpoint,
        build_from,
        read,
        read_checkpoint,
        read_into,
        save,
        write,
    )
    from weights.files.training import TrainingState, read_training, write_training
    from weights.foreign import adopt, load_into
    from weights.frameworks import register_role
    from weights.live import export, load, port
    from weights.preprocessing import Preprocessing
    from weights.presets import preset
    from weights.recipe import SGD, Adam, AdamW, Constant, Cosine, Recipe, Step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BlockConfig",
    "BottleneckConfig",
    "Checkpoint",
    "Constant",
    "Cosine",
    "Difference",
    "MissingFramework",
    "NetworkConfig",
    "Preprocessing",
    "Recipe",
    "Report",
    "ResattnError",
    "Step",
    "TrainingState",
    "WeightsError",
    "adopt",
    "attach",
    "build_from",
    "difference",
    "export",
    "fold",
    "load",
    "load_into",
    "port",
    "preset",
    "read",
    "read_checkpoint",
    "read_into",
    "read_training",
    "register_attention",
    "register_role",
    "save",
    "schema",
    "write",
    "write_training",
]

_HOMES = {
    "Adam": "weights.recipe",
    "AdamW": "weights.recipe",
    "BlockConfig": "weights.config",
    "BottleneckConfig": "weights.config",
    "Checkpoint": "weights.files.formats",
    "Constant": "weights.recipe",
    "Cosine": "weights.recipe",
    "Difference": "weights.compare",
    "MissingFramework": "weights.errors",
    "NetworkConfig": "weights.config",
    "Preprocessing": "weights.preprocessing",
    "Recipe": "weights.recipe",
    "Report": "weights.compare",
    "ResattnError": "weights.errors",
    "SGD": "weights.recipe",
    "Step": "weights.recipe",
    "TrainingState": "weights.files.training",
    "WeightsError": "weights.errors",
    "adopt": "weights.foreign",
    "build_from": "weights.files.formats",
    "difference": "weights.compare",
    "export": "weights.live",
    "load": "weights.live",
    "load_into": "weights.foreign",
    "port": "weights.live",
    "preset": "weights.presets",
    "read": "weights.files.formats",
    "read_checkpoint": "weights.files.formats",
    "read_into": "weights.files.formats",
    "read_training": "weights.files.training",
    "register_attention": "weights.attention",
    "register_role": "weights.frameworks",
    "save": "weights.files.formats",
    "write": "weights.files.formats",
    "write_training": "weights.files.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
