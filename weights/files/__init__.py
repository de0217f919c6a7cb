"""Weights files, one format a file; `formats` reads and writes by suffix, `atomic` puts in place."""
