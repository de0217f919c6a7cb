"""The definition of everything, in NumPy float64.

node.py: arithmetic with gradients. layers.py: convolutions, norms, activations, pooling.
evaluation.py: the graph of a config, operation by operation. cancellation.py: gradients that are
exactly zero. stand_in.py: attention kinds of a user's own. training.py: losses and optimizers.
"""
