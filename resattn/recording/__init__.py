"""What a model computed, in a file: recorded with one framework, compared without any."""
