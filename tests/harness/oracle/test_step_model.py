"""The step model by hand-worked examples; torch's GradScaler agrees with it wherever our own step is acquitted."""

from __future__ import annotations

import pytest

from harness.cases.descriptors import Action, StepCase
from harness.oracle.step_model import ScalerState, StepModel


def _after(case: StepCase, *actions: Action, scaled: bool = True):
    model = StepModel(case, scaled)
    return [model.after(action) for action in actions]


def test_a_good_window_moves_and_counts() -> None:
    (good,) = _after(StepCase(), Action.GOOD)
    assert good.stepped
    assert good.updates == 1
    assert good.grad_norm == pytest.approx(2.0**-4 * 8**0.5)
    assert good.scaler == (ScalerState(1024.0, 1),)


def test_overflow_depends_on_scale_and_halves_it() -> None:
    assert not _after(StepCase(scale_exponent=16), Action.LARGE)[0].stepped
    assert _after(StepCase(scale_exponent=10), Action.LARGE)[0].stepped
    assert _after(StepCase(scale_exponent=16), Action.LARGE)[0].scaler == (ScalerState(2.0**15, 0),)
    assert _after(StepCase(scale_exponent=16), Action.LARGE, scaled=False)[0].stepped


def test_the_scale_grows_after_its_interval() -> None:
    last = _after(StepCase(growth_interval=2), Action.GOOD, Action.GOOD)[-1]
    assert last.scaler == (ScalerState(2048.0, 0),)


@pytest.mark.parametrize("bad", [Action.NAN_LOSS, Action.INF_LOSS, Action.NAN_BACKWARD, Action.HUGE])
def test_a_bad_micro_step_spoils_its_window_only(bad: Action) -> None:
    seen = _after(StepCase(accumulation=2, scale_exponent=3), bad, Action.GOOD, Action.GOOD, Action.GOOD)
    assert [s.stepped for s in seen] == [False, False, False, True]


def test_a_bad_loss_permits_a_back_off_but_does_not_demand_it() -> None:
    (seen,) = _after(StepCase(), Action.NAN_LOSS)
    assert set(seen.scaler) == {ScalerState(1024.0, 0), ScalerState(512.0, 0)}


def test_frozen_parameters_leave_everything() -> None:
    (seen,) = _after(StepCase(), Action.FROZEN)
    assert not seen.stepped
    assert seen.scaler == (ScalerState(1024.0, 0),)


def test_gradients_under_float16s_smallest_vanish() -> None:
    (seen,) = _after(StepCase(scale_exponent=3), Action.TINY)
    assert seen.stepped
    assert seen.grad_norm == 0.0
