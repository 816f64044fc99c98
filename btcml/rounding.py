"""Decimals of a printed number that supports a comparison."""


def decimals_apart(value: float, bound: float, least: int, most: int = 12) -> int:
    """Fewest decimals, `least` or more, at which a rounded value is on its own side of a bound.

    Examples
    --------
    >>> decimals_apart(0.0096, 0.01, 3), decimals_apart(1.00002, 1.0, 4), decimals_apart(0.5, 1.0, 4)
    (4, 5, 4)
    """
    shown = ((places, round(value, places), round(bound, places)) for places in range(least, most))
    apart = (places for places, v, b in shown if ((v > b), (v < b)) == ((value > bound), (value < bound)))
    return next(apart, most)
