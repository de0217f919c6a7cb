"""The attention modules, by kind: one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pytorch_impl.attention.bam import BAM
from pytorch_impl.attention.cbam import CBAM
from pytorch_impl.attention.coordinate import Coordinate
from pytorch_impl.attention.eca import EfficientChannel
from pytorch_impl.attention.ese import EffectiveSqueezeExcite
from pytorch_impl.attention.gc import GlobalContext
from pytorch_impl.attention.ge import GatherExcite
from pytorch_impl.attention.mhsa import MultiHeadSelfAttention
from pytorch_impl.attention.non_local import NonLocal
from pytorch_impl.attention.none import Identity
from pytorch_impl.attention.scse import ConcurrentSqueezeExcite
from pytorch_impl.attention.se import SqueezeExcite
from pytorch_impl.attention.simam import SimAM
from pytorch_impl.attention.triplet import Triplet
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

ATTENTION: dict[str, type[nn.Module]] = {
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
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A new attention module of a kind of `ATTENTION` or of your own, with that kind's options.

    Raises ValueError for an unknown kind or option, and the errors of the module.
    """
    options = plain_options(options)
    attention_parameters(kind, channels, options)
    module = ATTENTION[kind] if kind in ATTENTION else registered_module(kind, "torch")
    return module(channels, **options, dtype=dtype, device=device)
