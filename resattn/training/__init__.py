"""Training by a recipe, and how far the frameworks drift apart."""
