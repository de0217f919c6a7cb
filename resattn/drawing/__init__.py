"""Pictures of a config: SVG, PNG, Mermaid and text."""
