"""How far rounding may move a stage: the one place where the trace takes a tolerance from."""

from resattn.checking.tolerances import tolerance


def rounding_limit(dtype: str, quantity: str, steps: int = 1) -> float:
    """The limit for a stage's relative difference from the oracle.

    quantity: of `resattn.checking.tolerances`. steps: how many operations were computed since the
    last value that both have in common.
    """
    return tolerance(dtype, quantity) * max(1.0, steps / 10)
