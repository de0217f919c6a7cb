"""Which lines of the three implementations compute which operations, from their syntax trees."""
