"""What is it? A model explained step by step."""
