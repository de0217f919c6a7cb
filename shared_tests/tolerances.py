"""How far a framework may be from the oracle, and from another framework: the one table.

Relative to the greatest magnitude of the oracle's tensor. Measured on CPU over the whole grid of cases.py and on real
networks; the greatest seen stands beside each. The same numbers hold on CUDA devices with TF32 off.
"""

QUANTITIES = ("weights", "eval output", "eval gradient", "train output", "train statistics", "train gradient")

TOLERANCES = {
    ("float64", "output"): 1e-13,
    ("float64", "gradient"): 1e-12,
    ("float64", "statistics"): 1e-13,
    ("float32", "output"): 2e-6,
    ("float32", "gradient"): 1e-5,
    ("float32", "statistics"): 1e-6,
}


def tolerance(dtype: str, quantity: str) -> float:
    """The tolerance of a quantity of `QUANTITIES`. Weights must come back from a model as they went in, to the last bit."""
    if quantity == "weights":
        return 0.0
    if (dtype, quantity.split()[1]) not in TOLERANCES:
        raise ValueError(f"dtype: expected one of {', '.join(sorted({row[0] for row in TOLERANCES}))}, got {dtype!r}")
    return TOLERANCES[dtype, quantity.split()[1]]
