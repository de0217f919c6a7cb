"""Weights files, one format a file. `formats` chooses by suffix, `atomic` puts files in place."""
