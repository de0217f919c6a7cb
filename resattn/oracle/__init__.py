"""The definition of everything, in NumPy float64.

node.py: arithmetic with gradients, and with random errors that show what rounding can do.
kinks.py: on which side of their kinks relus and maxima are. convolution.py, layers.py,
pooling.py: what operations compute.
evaluation.py: the graph of a config, operation by operation. cancellation.py: gradients that are
exactly zero. stand_in.py: attention kinds of a user's own. training.py: losses and optimizers.
"""
