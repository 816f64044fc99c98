"""A printed number is on the side of a bound on which it is."""

from __future__ import annotations

import numpy as np
import pytest

from btcml.rounding import decimals_apart


@pytest.mark.parametrize("bound", [0.0, 0.01, 1.0, 19.7049])
def test_a_rounded_number_is_on_its_own_side_of_the_bound(bound):
    """Near and far, above, below and on it; no decimals are added where the usual ones show it."""
    for value in (bound, *(bound + sign * 10.0**-n for sign in (1, -1) for n in range(9))):
        places = decimals_apart(value, bound, 3)
        assert np.sign(round(value, places) - round(bound, places)) == np.sign(value - bound)
    assert decimals_apart(bound + 0.5, bound, 3) == 3
