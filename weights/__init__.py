"""The contract between the implementations: configs, schema, layouts, conversion, files,
comparison.

Imports NumPy, ml_dtypes (NumPy's bfloat16) and safetensors, never a framework.
"""

from weights.attach import attach
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
from weights.schema import schema

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
