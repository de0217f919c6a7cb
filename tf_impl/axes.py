"""Where the axes of a map are: (batch, height, width, channels)."""

BATCH, CHANNELS, ROWS, COLS = 0, 3, 1, 2
