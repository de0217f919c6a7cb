"""What the tools need of this implementation and a reader of the block does not: see adapter and recorder."""
