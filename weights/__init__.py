"""The contract between the implementations: configs, schema, layouts, conversion, files,
comparison.

Imports NumPy, ml_dtypes (NumPy's bfloat16) and safetensors, never a framework.
"""

from weights.attention import register_attention
from weights.compare import Difference, Report, difference
from weights.config import BlockConfig, NetworkConfig, preset
from weights.errors import MissingFramework, ResattnError, WeightsError
from weights.files.formats import read, save, write
from weights.files.training import TrainingState, read_training, write_training
from weights.frameworks import register_role
from weights.live import export, load, port
from weights.preprocessing import Preprocessing
from weights.recipe import SGD, Adam, AdamW, Constant, Cosine, Recipe, Step
from weights.schema import schema

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BlockConfig",
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
    "difference",
    "export",
    "load",
    "port",
    "preset",
    "read",
    "read_training",
    "register_attention",
    "register_role",
    "save",
    "schema",
    "write",
    "write_training",
]
