"""The attention kinds: for each its source, options, parameters and what it computes, in one file.

A kind is one file of the same name here and in each `*_impl/attention/`. A kind of your own is
registered in one call, `register_attention`.
"""

from weights.attention import (
    bam,
    cbam,
    coordinate,
    eca,
    ese,
    gc,
    ge,
    mhsa,
    non_local,
    none,
    scse,
    se,
    simam,
    triplet,
)
from weights.attention.eca import eca_kernel_size
from weights.attention.ge import gathered_steps
from weights.attention.kinds import (
    ATTENTION,
    Kind,
    Start,
    attention_parameters,
    hidden_width,
    plain_options,
    register_attention,
    registered_module,
)
from weights.attention.mhsa import head_width

ATTENTION |= {
    "none": none.KIND,
    "se": se.KIND,
    "ese": ese.KIND,
    "eca": eca.KIND,
    "cbam": cbam.KIND,
    "bam": bam.KIND,
    "scse": scse.KIND,
    "ge": ge.KIND,
    "gc": gc.KIND,
    "simam": simam.KIND,
    "coordinate": coordinate.KIND,
    "triplet": triplet.KIND,
    "nonlocal": non_local.KIND,
    "mhsa": mhsa.KIND,
}

__all__ = [
    "ATTENTION",
    "Kind",
    "Start",
    "attention_parameters",
    "eca_kernel_size",
    "gathered_steps",
    "head_width",
    "hidden_width",
    "plain_options",
    "register_attention",
    "registered_module",
]
