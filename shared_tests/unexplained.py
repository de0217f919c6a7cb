"""Plants that the trace leaves unexplained, by reason: the name of each and the scopes.

`test_trace_plants.py` fails when one of them becomes explained, and so does
`python -m shared_tests.trace_plants`, which also runs the scope "far" and takes longer.

`FALSE` lists those for which the trace names a wrong cause. Each is a defect of the trace, and this
list should be empty.
"""

EVERY_SCOPE = ("alone", "inside", "among", "output", "far")
IN_NETWORKS = ("inside", "among", "far")

UNEXPLAINED: dict[str, dict[str, tuple[str, ...]]] = {
    "any numbers fit: no rule gives them": {
        "another checkpoint": EVERY_SCOPE,
        "another checkpoint everywhere": IN_NETWORKS,
        "kernel of 5 x 5": ("inside", "among", "output", "far"),
    },
    "more numbers are unknown than the output has": {
        "layer scale": ("far",),
        "dropout left on": ("far",),
        "dropout left on inside": ("output", "far"),
    },
    "too few outputs for that many numbers": {
        "image scaled and shifted": ("far",),
        "image channels with deviations apart": ("far",),
    },
    "the sizes of what it gives are swapped, too": {
        "height and width swapped, not square": ("inside", "output"),
    },
    "the norm is explained, but the running variance that it leaves is not": {
        "fast variance": ("alone",),
    },
}

FALSE: dict[str, dict[str, tuple[str, ...]]] = {}
