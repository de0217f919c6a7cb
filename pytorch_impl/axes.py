"""Where the axes of a map are: (batch, channels, height, width)."""

BATCH, CHANNELS, ROWS, COLS = 0, 1, 2, 3
