"""Named shapes for annotations: `def forward(self, x: Maps) -> Maps`.

In one call a size has one value wherever its name occurs. A type checker sees the tensor type with
its axes. At run time a name is `keras.KerasTensor`. With the environment variable
RESATTN_CHECK_SHAPES=1 it is a type that jaxtyping's import hook checks at every call. Tensors of a
graph that have a size which is not known before the graph runs pass unchecked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from keras import KerasTensor

CHECKED = os.environ.get("RESATTN_CHECK_SHAPES") == "1"

if TYPE_CHECKING:
    from jaxtyping import Float, Int
elif CHECKED:
    import jaxtyping

    class _Checked(type):
        """The type of tensors of one of jaxtyping's types, and of graphs with unknown sizes."""

        annotation: Any

        def __instancecheck__(cls, value: Any) -> bool:
            return None in getattr(value, "shape", ()) or isinstance(value, cls.annotation)

    class Float:
        """jaxtyping's Float of any tensor, since Keras runs on three backends."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            annotation = jaxtyping.Float[Any, item[1]]
            return _Checked(annotation.__name__, (), {"annotation": annotation})

    class Int:
        """jaxtyping's Int in the same way."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            annotation = jaxtyping.Int[Any, item[1]]
            return _Checked(annotation.__name__, (), {"annotation": annotation})
else:

    class Float:
        """Takes the place of jaxtyping's types: Float[KerasTensor, axes] is KerasTensor."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Int = Float

# Maps, and maps of another size, or of another size and other channels.
Maps = Float[KerasTensor, "batch height width channels"]
ResizedMaps = Float[KerasTensor, "batch rows cols channels"]
NewMaps = Float[KerasTensor, "batch rows cols new_channels"]
MapPairs = Float[KerasTensor, "batch height width 2"]

# One value per channel: of each image, of the batch, and of each image as a sequence.
ChannelValues = Float[KerasTensor, "batch 1 1 channels"]
ChannelVector = Float[KerasTensor, " channels"]
ChannelSequence = Float[KerasTensor, "batch channels 1"]

# One value per position.
PositionValues = Float[KerasTensor, "batch height width 1"]

# Self-attention. Scores are of one position (a row) for another (a column).
Tokens = Float[KerasTensor, "batch positions channels"]
Heads = Float[KerasTensor, "batch heads positions features"]
Scores = Float[KerasTensor, "batch heads positions positions"]
ScoresByDistance = Float[KerasTensor, "batch heads lines size distances"]
ScoresByPosition = Float[KerasTensor, "batch heads lines size size"]

# Classification. Outputs are those of a network (batch classes) or a block.
Vectors = Float[KerasTensor, "batch channels"]
Logits = Float[KerasTensor, "batch classes"]
Labels = Int[KerasTensor, " batch"]
Outputs = Float[KerasTensor, "batch *positions classes"]
Count = Int[KerasTensor, ""]
Scalar = Float[KerasTensor, ""]

# Any shape: the same shape, shapes that broadcast to the same, and shapes that have no relation.
Values = Float[KerasTensor, "*shape"]
BroadcastValues = Float[KerasTensor, "*#shape"]
AnyValues = Float[KerasTensor, "..."]
