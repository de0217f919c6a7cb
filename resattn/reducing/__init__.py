"""The smallest problem that still fails, as a script."""
