"""Named shapes for annotations: `def forward(self, x: Maps) -> Maps`.

In one call a size has one value wherever its name occurs. A type checker sees the tensor type with
its axes. At run time a name is `torch.Tensor`, which torch.jit.script can read. With the
environment variable RESATTN_CHECK_SHAPES=1 it is jaxtyping's type, which jaxtyping's import hook
checks at every call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torch import Tensor

CHECKED = os.environ.get("RESATTN_CHECK_SHAPES") == "1"

if TYPE_CHECKING or CHECKED:
    from jaxtyping import Float, Int
else:

    class Float:
        """Takes the place of jaxtyping's types: Float[Tensor, axes] is Tensor."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Int = Float

# Maps, and maps of another size, or of another size and other channels.
Maps = Float[Tensor, "batch channels height width"]
ResizedMaps = Float[Tensor, "batch channels rows cols"]
NewMaps = Float[Tensor, "batch new_channels rows cols"]
MapPairs = Float[Tensor, "batch 2 height width"]

# One value per channel: of each image, of the batch, and of each image as a sequence.
ChannelValues = Float[Tensor, "batch channels 1 1"]
ChannelVector = Float[Tensor, " channels"]
ChannelSequence = Float[Tensor, "batch 1 channels"]

# One value per position.
PositionValues = Float[Tensor, "batch 1 height width"]

# Self-attention. Scores are of one position (a row) for another (a column).
Tokens = Float[Tensor, "batch positions channels"]
Heads = Float[Tensor, "batch heads positions features"]
Scores = Float[Tensor, "batch heads positions positions"]
ScoresByDistance = Float[Tensor, "batch heads lines size distances"]
ScoresByPosition = Float[Tensor, "batch heads lines size size"]

# Classification. Outputs are those of a network (batch classes) or a block.
Vectors = Float[Tensor, "batch channels"]
Logits = Float[Tensor, "batch classes"]
Labels = Int[Tensor, " batch"]
Outputs = Float[Tensor, "batch classes *positions"]
Count = Int[Tensor, ""]
Scalar = Float[Tensor, ""]

# Any shape: the same shape, shapes that broadcast to the same, and shapes that have no relation.
Values = Float[Tensor, "*shape"]
BroadcastValues = Float[Tensor, "*#shape"]
AnyValues = Float[Tensor, "..."]
