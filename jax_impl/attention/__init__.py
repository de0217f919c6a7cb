"""The attention modules, by kind: one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.attention.bam import BAM
from jax_impl.attention.cbam import CBAM
from jax_impl.attention.coordinate import Coordinate
from jax_impl.attention.eca import EfficientChannel
from jax_impl.attention.ese import EffectiveSqueezeExcite
from jax_impl.attention.gc import GlobalContext
from jax_impl.attention.ge import GatherExcite
from jax_impl.attention.mhsa import MultiHeadSelfAttention
from jax_impl.attention.non_local import NonLocal
from jax_impl.attention.none import Identity
from jax_impl.attention.scse import ConcurrentSqueezeExcite
from jax_impl.attention.se import SqueezeExcite
from jax_impl.attention.simam import SimAM
from jax_impl.attention.triplet import Triplet
from weights.attention import attention_parameters, plain_options, registered_module

__all__ = [
    "ATTENTION",
    "BAM",
    "CBAM",
    "AttentionModule",
    "ConcurrentSqueezeExcite",
    "Coordinate",
    "EffectiveSqueezeExcite",
    "EfficientChannel",
    "GatherExcite",
    "GlobalContext",
    "Identity",
    "MultiHeadSelfAttention",
    "NonLocal",
    "SimAM",
    "SqueezeExcite",
    "Triplet",
]

ATTENTION: dict[str, type[nnx.Module]] = {
    "none": Identity,
    "se": SqueezeExcite,
    "ese": EffectiveSqueezeExcite,
    "eca": EfficientChannel,
    "cbam": CBAM,
    "bam": BAM,
    "scse": ConcurrentSqueezeExcite,
    "ge": GatherExcite,
    "gc": GlobalContext,
    "simam": SimAM,
    "coordinate": Coordinate,
    "triplet": Triplet,
    "nonlocal": NonLocal,
    "mhsa": MultiHeadSelfAttention,
}


def AttentionModule(  # noqa: N802  (a name users rely on; it makes a module as a class would)
    channels: int,
    kind: str = "se",
    options: Mapping[str, Any] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """A new attention module of a kind of `ATTENTION` or of your own, with that kind's options.

    param_dtype: as everywhere. A module of your own gets it only if it is not None.
    Raises ValueError for an unknown kind or option, and the errors of the module.
    """
    options = plain_options(options)
    attention_parameters(kind, channels, options)
    module: Any = ATTENTION[kind] if kind in ATTENTION else registered_module(kind, "jax")
    dtypes = (
        {"dtype": dtype} if param_dtype is None else {"dtype": dtype, "param_dtype": param_dtype}
    )
    return module(channels, **options, **dtypes, rngs=rngs)
