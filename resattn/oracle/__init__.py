"""The definition of everything in NumPy float64."""
