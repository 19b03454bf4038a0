from __future__ import annotations

import math

import pytest

from harness.numerals import largest, shares_told_apart, told_apart


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (0.5, 0.25, ("0.5", "0.25")),
        (1.0004, 1.0, ("1.0004", "1")),
        (2.0 + 2**-51, 2.0, ("2.0000000000000004", "2")),
        (1.0, 1.0, ("1", "1")),
        (math.nan, 1.0, ("nan", "1")),
        (1048577.0, 1048576.0, ("1048577", "1048576")),
    ],
)
def test_numbers_that_differ_look_different(first: float, second: float, words: tuple[str, str]) -> None:
    assert told_apart(first, second) == words


def test_and_so_do_shares() -> None:
    assert shares_told_apart(0.00104, 0.001) == ("0.104%", "0.100%")
    assert shares_told_apart(0.25, 0.001) == ("25.0%", "0.1%")


def test_the_largest_of_numbers_with_a_nan_is_nan() -> None:
    assert math.isnan(largest(0.0, math.nan))
    assert math.isnan(largest(math.nan, 0.0))
    assert largest(-1.0, 2.0) == 2.0
