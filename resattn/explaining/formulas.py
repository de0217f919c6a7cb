"""Numbers as people write them in formulas."""

from fractions import Fraction


def affine(factor: float, offset: float) -> str:
    """factor x + offset, as in "x / 3", "x / √8", "x + 1/2" and "4 x + 0.0004"."""
    if offset == 0:
        return _format_factor(factor)
    sign = "+" if offset > 0 else "-"
    return f"{_format_factor(factor)} {sign} {_format_number(abs(offset))}"


def _format_factor(factor: float) -> str:
    if factor == 1:
        return "x"
    inverse, squared = 1 / factor, 1 / factor**2
    if _is_whole(inverse):
        return f"x / {round(inverse)}"
    if _is_whole(squared):
        return f"x / √{round(squared)}"
    return f"{_format_number(factor)} x"


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9 * abs(value) and round(value) > 1


def _format_number(value: float) -> str:
    """A number as a simple fraction if it is one, else with a few digits."""
    fraction = Fraction(value).limit_denominator(10_000)
    top, bottom = fraction.numerator, fraction.denominator
    simple = 1 < bottom <= 16 or top == bottom + 1 < 10_000
    return str(fraction) if simple and abs(top / bottom - value) < 1e-12 * value else f"{value:g}"
