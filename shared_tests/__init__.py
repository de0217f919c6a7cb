"""The tests, and the cases that they share."""
