"""Do the implementations agree? The cross-check, on every device."""
