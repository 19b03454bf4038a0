from __future__ import annotations

import copy
import io
import logging
import math

import pytest
import torch
from torch import Tensor, nn

from gslrm.training.amp_step import AmpStep
from gslrm.training.monitor import StepMonitor
from gslrm.training.step_outcome import SkipReason


def _step(*, scaled: bool = True, scale: float = 1024.0, **settings: object) -> tuple[nn.Parameter, AmpStep]:
    parameter = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2, enabled=scaled)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0 / (1 + k))
    return parameter, AmpStep(optimizer, scaler, scheduler, **settings)  # type: ignore[arg-type]


def _run(step: AmpStep, *losses: Tensor):
    outcome = None
    for loss in losses:
        step.backward(loss)
        outcome = step.step()
    return outcome


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (1.0, None),
        (math.nan, SkipReason.NONFINITE_LOSS),
        (math.inf, SkipReason.NONFINITE_LOSS),
        (100.0, SkipReason.NORM_OVER_LIMIT),
    ],
)
def test_outcomes(factor: float, reason: SkipReason | None, scaled: bool) -> None:
    parameter, step = _step(scaled=scaled)
    outcome = _run(step, (parameter * factor).sum())
    assert outcome.reason is reason
    assert outcome.stepped == (reason is None)
    assert torch.equal(parameter.detach(), torch.ones(4)) == (reason is not None)
    assert step.param_update_step == int(reason is None)
    assert step.lr_scheduler.last_epoch == int(reason is None)
    assert parameter.grad is None
    assert _run(step, parameter.sum()).stepped


def test_overflow_backs_off_and_a_bad_loss_does_not() -> None:
    parameter, step = _step(scale=2.0**100)
    overflow = _run(step, (parameter * 2.0**30).sum())
    assert overflow.reason is SkipReason.NONFINITE_GRADIENTS
    assert overflow.scale == 2.0**99
    assert _run(step, parameter.sum() * math.nan).scale == 2.0**99


def test_no_gradients_at_all() -> None:
    _, step = _step()
    assert _run(step, torch.tensor(1.0)).reason is SkipReason.NO_GRADIENTS
    assert _run(step, torch.ones(2, requires_grad=True).sum()).reason is SkipReason.NO_GRADIENTS


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_poisoned_window_is_dropped_whole(bad: int) -> None:
    parameter, step = _step(scaled=False, grad_accum_steps=3)
    losses = [parameter.sum() * (math.nan if i == bad else 1.0) for i in range(3)]
    assert _run(step, *losses).reason is SkipReason.NONFINITE_LOSS
    assert torch.equal(parameter.detach(), torch.ones(4))
    assert step.fwdbwd_pass_step == 3


def test_clipping_is_to_the_norm_and_the_report_before_it() -> None:
    parameter, step = _step(grad_clip_norm=1.0)
    seen: list[Tensor] = []
    step.optimizer.register_step_pre_hook(lambda *_: seen.append(parameter.grad.clone()))
    outcome = _run(step, (parameter * 4.0).sum())
    assert outcome.grad_norm == pytest.approx(8.0)
    assert seen[0].norm().item() == pytest.approx(1.0)


def test_a_finite_gradient_has_a_finite_norm() -> None:
    parameter, step = _step(scaled=False)
    outcome = _run(step, (parameter * 1e30).sum())
    assert outcome.reason is SkipReason.NORM_OVER_LIMIT
    assert outcome.grad_norm == pytest.approx(2e30)


def test_no_limit_without_clipping() -> None:
    parameter, step = _step(grad_clip_norm=None)
    assert _run(step, (parameter * 1e6).sum()).stepped


def test_an_open_window_survives_saving() -> None:
    twin = []
    for interrupted in (False, True):
        parameter, step = _step(grad_accum_steps=2)
        step.backward((parameter * 0.3).sum())
        if interrupted:
            file = io.BytesIO()
            torch.save({"parameter": parameter.detach(), "step": step.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            parameter, step = _step(grad_accum_steps=2)
            with torch.no_grad():
                parameter.copy_(saved["parameter"])
            step.load_state_dict(saved["step"])
        for factor in (0.7, 1.0, -0.2):
            _run(step, (parameter * factor).sum())
        twin.append((parameter.detach().clone(), step.scaler.get_scale(), step.param_update_step))
    assert torch.equal(twin[0][0], twin[1][0])
    assert twin[0][1:] == twin[1][1:]


def test_saved_states_that_do_not_fit_are_named() -> None:
    _, step = _step()
    state = step.state_dict()
    with pytest.raises(ValueError, match="lacks window"):
        step.load_state_dict({key: value for key, value in state.items() if key != "window"})
    broken = copy.deepcopy(state)
    broken["window"]["gradients"] = []
    with pytest.raises(ValueError, match="of 0 parameters"):
        step.load_state_dict(broken)
    with pytest.raises(ValueError, match="has no scaler"):
        step.load_state_dict({**state, "scaler": {}})


def test_all_processes_decide_alike() -> None:
    parameter, step = _step(agree=lambda flags: torch.ones_like(flags))
    assert _run(step, parameter.sum()).reason is SkipReason.NONFINITE_LOSS


def test_misuse_is_named() -> None:
    parameter, step = _step()
    step.backward(parameter.sum())
    with pytest.raises(RuntimeError, match="call step"):
        step.backward(parameter.sum())
    with pytest.raises(ValueError, match="scalar"):
        _step()[1].backward(parameter * 2)
    half = torch.optim.SGD([nn.Parameter(torch.ones(1, dtype=torch.float16))], lr=0.1)
    with pytest.raises(ValueError, match="float16"):
        AmpStep(half, torch.amp.GradScaler("cpu"))
    for setting in ({"grad_accum_steps": 0}, {"grad_clip_norm": -1.0}, {"allowed_gradnorm_factor": 0.5}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            _step(**setting)


def test_the_monitor_logs_range_and_scaler(caplog: pytest.LogCaptureFixture) -> None:
    parameter, step = _step(monitor=StepMonitor(0.0, 2.0))
    with caplog.at_level(logging.WARNING):
        _run(step, parameter.sum() - 4.133)
        assert "loss -0.13" in caplog.text
        assert "1 - loss = 1.13" in caplog.text
        _run(step, parameter.sum() * math.nan)
    assert "skipped (nonfinite_loss)" in caplog.text
    assert "scale 1024, growth tracker 1" in caplog.text
