"""The attention modules, by kind: one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tf_impl.attention.bam import BAM
from tf_impl.attention.cbam import CBAM
from tf_impl.attention.coordinate import Coordinate
from tf_impl.attention.eca import EfficientChannel
from tf_impl.attention.ese import EffectiveSqueezeExcite
from tf_impl.attention.gc import GlobalContext
from tf_impl.attention.ge import GatherExcite
from tf_impl.attention.mhsa import MultiHeadSelfAttention
from tf_impl.attention.non_local import NonLocal
from tf_impl.attention.none import Identity
from tf_impl.attention.scse import ConcurrentSqueezeExcite
from tf_impl.attention.se import SqueezeExcite
from tf_impl.attention.simam import SimAM
from tf_impl.attention.triplet import Triplet
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

ATTENTION: dict[str, type[keras.layers.Layer]] = {
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
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """A new attention module of a kind of `ATTENTION` or of your own, with that kind's options.

    Raises ValueError for an unknown kind or option, and the errors of the module.
    """
    options = plain_options(options)
    attention_parameters(kind, channels, options)
    module = ATTENTION[kind] if kind in ATTENTION else registered_module(kind, "tf")
    return module(channels, **options, dtype=dtype, name=name, **keras_options)
