"""What is it? A config told step by step."""
