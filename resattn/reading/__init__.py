"""Reading the graph that a framework executes, and comparing it with the graph that is drawn.

PyTorch, Flax and Keras spell one model in different primitives and layouts. This room brings what
they execute to a common form, and the drawn graph (`weights.graph`) as well. In that form equal
computations are equal.

The rules of the common form:

1.  Transposing, reshaping, broadcasting and casting are no operations. Instead, every axis keeps
    the name that it has in the image, wherever it is moved: an average is "over rows, cols", a
    convolution is "along channels". Values that are added, multiplied or summed over must agree on
    the names of their axes.
2.  Something computed from parameters and numbers alone is a parameter. A computation of values and
    the parameters of a module is that module, under its canonical name. Neighbours with different
    parameters of one module are one operation: a convolution and its bias, or the difference, the
    scale and the offset of a batch norm. So is their sum (relative positions). The operation has
    the module's settings and the parameters that were used. Padding belongs to the convolution or
    pooling that it is for.
3.  A function of one value is known by its values, however many primitives compute it: relu,
    sigmoid, hard sigmoid, hard swish, square. A function a x + b is known by a and b, and two such
    neighbours are one. "Divide by √w" is therefore "1/√w x".
4.  A sum divided by the number of its terms is an average; the values at the place of the greatest
    are a maximum; exp(x - greatest) divided by its total is a softmax. A reduction over one axis
    and then over another is a reduction over both.
5.  A sum of several values is the sum of the first two, and so on. It is left open when these are
    added. The inputs of sums, of products and of the greater of two values have no order. All other
    inputs have one: concatenation, matrix products, quotients.

Two operations are equal if their kinds are equal, and their inputs as well, all the way from the
image.

To read a graph:

    models.py       read_operations: a live model in the common form
    pytorch.py      how a model of each framework gives its graph, and which of the graph's inputs
    flax.py         are which parameters
    keras.py
    admission.py    which models are read, without their wrappers, and which are refused
    torch_export.py the graph of torch.export; aten.py: what each of its operators means
    jaxpr.py        what each primitive of a graph language means: the jaxpr,
    tf_graph.py     the graph of a tf.function
    tables.py       what these three tables share
    drawn.py        read_drawing: the drawn graph in the common form

To bring it to the common form:

    form.py         primitives, the four kinds of operands, and axes with names
    moves.py        moves the names of axes (rule 1)
    machine.py      records primitives (rule 4)
    contraction.py  einsum
    fixed.py        operands that do not depend on the image
    windows.py      what convolutions and poolings move over the image
    functions.py    functions of one value, recognized by their values (rule 3)
    patterns.py     softmax and the greater of two, from their primitives (rule 4)
    spelled.py      norms and PReLU, from the values of their primitives (rule 4)
    steps.py        from primitives to steps, the operations of the common form (rules 2, 3 and 5)

To use what was read:

    kinds.py        the kinds of `weights.operations`, from the common form: the inverse of drawn.py
    executed.py     execute: a reading as a graph of operations
    blocks.py       the residual blocks of such a graph

To compare:

    compare.py      difference: the first difference between two graphs, in one sentence
"""
