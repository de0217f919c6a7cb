"""Numbers as people write them in formulas."""

from fractions import Fraction


def affine(factor: float, offset: float) -> str:
    """factor x + offset: "x / 3", "x / √8", "x + 1/2", "4 x + 0.0004"."""
    if offset == 0:
        return _scaled(factor)
    sign = "+" if offset > 0 else "-"
    return f"{_scaled(factor)} {sign} {_number(abs(offset))}"


def _scaled(factor: float) -> str:
    if factor == 1:
        return "x"
    inverse, squared = 1 / factor, 1 / factor**2
    if _whole(inverse):
        return f"x / {round(inverse)}"
    if _whole(squared):
        return f"x / √{round(squared)}"
    return f"{_number(factor)} x"


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9 * abs(value) and round(value) > 1


def _number(value: float) -> str:
    """A simple fraction where it is one, else a few digits."""
    fraction = Fraction(value).limit_denominator(10_000)
    top, bottom = fraction.numerator, fraction.denominator
    simple = 1 < bottom <= 16 or top == bottom + 1 < 10_000
    return str(fraction) if simple and abs(top / bottom - value) < 1e-12 * value else f"{value:g}"
