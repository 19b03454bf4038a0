"""What can be said of a reason without knowing a step's own words."""

from __future__ import annotations

import pytest

from harness.oracle.window import Fault
from harness.properties.skip_reason import is_of_a_skip, misfit

LOSS, NONE, GRADIENTS, LARGE = (
    Fault.NONFINITE_LOSS,
    Fault.NO_GRADIENTS,
    Fault.NONFINITE_GRADIENTS,
    Fault.LARGE_NORM,
)


@pytest.mark.parametrize(
    ("reason", "fitting"),
    [
        ("nonfinite_loss", {LOSS}),
        ("loss is not finite", {LOSS}),
        ("NaNLoss", {LOSS}),
        ("no_gradients", {LOSS, NONE}),
        ("no grads: all frozen", {LOSS, NONE}),
        ("nonfinite_gradients", {LOSS, GRADIENTS}),
        ("infGradients", {LOSS, GRADIENTS}),
        ("loss scale overflow", {LOSS, GRADIENTS}),
        ("found inf", {LOSS, GRADIENTS}),
        ("norm_over_limit", {LOSS, GRADIENTS, LARGE, None}),
        ("exploding gradients", {LOSS, GRADIENTS, LARGE, None}),
    ],
)
def test_a_reason_that_names_a_fault_fits_where_it_can_have_been_seen(reason: str, fitting: set[Fault | None]) -> None:
    for fault in (LOSS, NONE, GRADIENTS, LARGE, None):
        assert bool(misfit(reason, fault, 30.0)) is (fault not in fitting), fault


@pytest.mark.parametrize(
    "reason",
    [
        "bad window",
        "nonfinite loss or gradients",
        "grad norm NaN or too large",
        "NaN norm",
        "inf: exploding",
        "no inf was found",
        "not scaled",
        "information",
        "skip",
        "norm 0.3",
        "",
    ],
)
def test_other_words_are_left_alone(reason: str) -> None:
    for fault in (LOSS, NONE, GRADIENTS, LARGE, None):
        assert not misfit(reason, fault, 30.0)
    assert not is_of_a_skip(reason)


def test_a_norm_whose_squares_overflow_is_infinite_to_its_step() -> None:
    assert misfit("inf in gradients", LARGE, 1e3)
    assert misfit("inf in gradients", LARGE, 2.0**60)
    assert not misfit("inf in gradients", LARGE, 1e25)


def test_a_clipped_norm_may_be_told_of_a_step_that_happened() -> None:
    assert is_of_a_skip("nonfinite_gradients")
    assert is_of_a_skip("no_gradients")
    assert not is_of_a_skip("norm over 1: clipped")
