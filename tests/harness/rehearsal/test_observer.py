"""The observer around a loop in this process: what it measures, and what it may leave out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.record import Did, Window
from harness.rehearsal.windows import NoFaults


def _windows(
    clips: bool = False, spoil: Callable[[nn.Module, torch.optim.Optimizer, int], None] = lambda *_: None
) -> list[Window]:
    """Of five updates by a scaler that is on; ``spoil`` is called after each."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    observer = Observer(Places(Script(path=__file__)), NoFaults())
    with observer:
        for number in range(5):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(2, 4)).square().mean()).backward()
            if clips:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            scaler.step(optimizer)
            scaler.update()
            spoil(model, optimizer, number)
        observer.finish(raised=False)
    return observer.run.windows


def test_the_norm_of_a_step_is_that_of_the_gradients_it_is_made_with() -> None:
    for clips in (False, True):
        for window in _windows(clips):
            (step,) = window.of(Did.OPTIMIZER_STEP)
            (asked,) = window.of(Did.SCALER_STEP)
            assert step.finite is asked.finite is True
            assert step.value is not None
            if clips:
                assert math.isclose(step.value, 0.25, rel_tol=1e-4)
            else:
                assert 1.0 < step.value < 2.0


def _spoil_state(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    if number == 2:
        next(iter(optimizer.state.values()))["exp_avg_sq"][0, 0] = math.nan


def test_a_state_that_a_script_spoils_itself_is_told_once_a_parameter_is() -> None:
    assert [window.finite for window in _windows(spoil=_spoil_state)] == [True, True, True, False, False]


def _spoil_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    """An update by a gradient whose square is too large for the state, and by no scaler; the step it makes is small."""
    if number == 2:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1e30)
        optimizer.step()


def test_a_state_that_large_gradients_spoil_is_told_at_once() -> None:
    windows = _windows(spoil=_spoil_gradients)
    (_, large) = windows[2].of(Did.OPTIMIZER_STEP)
    assert large.value is not None
    assert large.value > 1e29
    assert [window.finite for window in windows][:3] == [True, True, False]
