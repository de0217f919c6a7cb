"""Named shapes for annotations: `def forward(self, x: Maps) -> Maps`.

In one call a size has one value wherever its name occurs. A type checker sees the array type with
its axes. At run time a name is `jax.Array`. With the environment variable RESATTN_CHECK_SHAPES=1 it
is jaxtyping's type, which jaxtyping's import hook checks at every call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jax import Array

CHECKED = os.environ.get("RESATTN_CHECK_SHAPES") == "1"

if TYPE_CHECKING or CHECKED:
    from jaxtyping import Float, Int
else:

    class Float:
        """Takes the place of jaxtyping's types: Float[Array, axes] is Array."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Int = Float

# Maps, and maps of another size, or of another size and other channels.
Maps = Float[Array, "batch height width channels"]
ResizedMaps = Float[Array, "batch rows cols channels"]
NewMaps = Float[Array, "batch rows cols new_channels"]
MapPairs = Float[Array, "batch height width 2"]

# One value per channel: of each image, of the batch, and of each image as a sequence.
ChannelValues = Float[Array, "batch 1 1 channels"]
ChannelVector = Float[Array, " channels"]
ChannelSequence = Float[Array, "batch channels 1"]

# One value per position.
PositionValues = Float[Array, "batch height width 1"]

# Self-attention. Scores are of one position (a row) for another (a column).
Tokens = Float[Array, "batch positions channels"]
Heads = Float[Array, "batch heads positions features"]
Scores = Float[Array, "batch heads positions positions"]
ScoresByDistance = Float[Array, "batch heads lines size distances"]
ScoresByPosition = Float[Array, "batch heads lines size size"]

# Classification. Outputs are those of a network (batch classes) or a block.
Vectors = Float[Array, "batch channels"]
Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
Outputs = Float[Array, "batch *positions classes"]
Count = Int[Array, ""]
Scalar = Float[Array, ""]

# Any shape: the same shape, shapes that broadcast to the same, and shapes that have no relation.
Values = Float[Array, "*shape"]
BroadcastValues = Float[Array, "*#shape"]
AnyValues = Float[Array, "..."]
