"""The contract between the implementations: configs, schema, layouts, conversion, files, comparison.

Imports NumPy, ml_dtypes (NumPy's bfloat16) and safetensors, never a framework.
"""

from weights.attention import register_attention
from weights.compare import Difference, Report, difference
from weights.config import BlockConfig, NetworkConfig, preset
from weights.convert import WeightsError
from weights.layouts import register_role
from weights.live import MissingFramework, export, load, port
from weights.schema import schema
from weights.store import read, save, write

__all__ = [
    "BlockConfig",
    "Difference",
    "MissingFramework",
    "NetworkConfig",
    "Report",
    "WeightsError",
    "difference",
    "export",
    "load",
    "port",
    "preset",
    "read",
    "register_attention",
    "register_role",
    "save",
    "schema",
    "write",
]
