"""Fixed tolerances, for the tests of single blocks, single stages of a trace and the demo.

The cross-check has none: see `resattn.checking.rounding`.

Relative to the greatest magnitude of the oracle's tensor. Why these: a float64 convolution and its
batch norm end within a few hundred units in the last place (1e-16 each), a float32 one within a few
dozen (6e-8 each); gradients pass through all of it twice and get up to ten times the room. Beside
each stands the greatest that was measured, on CPU. On CUDA devices, with TF32 off, the same are
asked; nobody has measured there yet.
"""

from weights.errors import ArgumentError

QUANTITIES = (
    "weights",
    "eval output",
    "eval gradient",
    "train output",
    "train statistics",
    "train gradient",
)

TOLERANCES = {
    ("float64", "output"): 1e-13,  # measured 2e-15
    ("float64", "gradient"): 1e-12,  # 1e-13
    ("float64", "statistics"): 1e-13,  # 6e-16
    ("float32", "output"): 2e-6,  # 5e-7 for blocks, 1.4e-6 for a trained ResNet-20 in training
    ("float32", "gradient"): 1e-5,  # 9.6e-6
    ("float32", "statistics"): 1e-6,  # 3e-7
}

# Of any parameter, running statistic or moment after 100 steps of training in float64, relative to
# the tensor's greatest magnitude. Measured: 4e-13 on the digits with the demo's network, 1e-14 with
# smaller ones. The rest is room for one relu that rounding puts on its other side near the end; a
# misread argument is off by 1e-5 after 8 steps. In float32 such a relu comes along within 100 steps
# and moves parameters by 1e-3 to 2e-1; there no limit is set, and the drift is reported.
TRAINING_TOLERANCE = 1e-9


def tolerance(dtype: str, quantity: str) -> float:
    """The tolerance of a quantity of `QUANTITIES`. Weights must come back from a model as they went
    in, to the last bit.
    """
    if quantity == "weights":
        return 0.0
    if (dtype, quantity.split()[1]) not in TOLERANCES:
        raise ArgumentError(
            f"dtype: expected one of {', '.join(sorted({row[0] for row in TOLERANCES}))}, got "
            f"{dtype!r}"
        )
    return TOLERANCES[dtype, quantity.split()[1]]
