"""The tools' side of this implementation; a reader of the block does not need it."""
