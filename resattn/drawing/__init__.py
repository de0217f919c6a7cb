"""Pictures of a config."""
