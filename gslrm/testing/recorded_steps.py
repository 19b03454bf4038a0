"""What a refactor must leave of the step beside a training's own use: its defaults and limits, refusals, log lines.

Plain named values, as those of :mod:`gslrm.testing.recorded_values`. All are powers of two or sums of few, so that
no rounding is in what is printed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gslrm.testing.recorded_calls import sentence_of, set_field
from gslrm.training.amp_step import AmpStep
from gslrm.training.monitor import StepMonitor
from gslrm.training.step_outcome import StepOutcome


def step_edges(device: str) -> dict[str, Sequence[float] | Sequence[int | str | None]]:
    """A step that is left its defaults, one that neither clips nor drops, and an open window saved and loaded:
    what came of gradients with norms about each limit, and where the parameter is then; and what the monitor logs.
    """
    found: dict[str, Sequence[float] | Sequence[int | str | None]] = {}
    settings: dict[str, dict[str, Any]] = {
        "defaults": {},
        "unclipped": {"grad_clip_norm": None},
        "clipped-at-0": {"grad_clip_norm": 0},
        "clipped-at-4": {"grad_clip_norm": 4.0, "allowed_gradnorm_factor": 2.0},
        "clipped-below-1": {"grad_clip_norm": 0.0625, "allowed_gradnorm_factor": 8.0},
        "agreed": {"agree": lambda flags: flags},
    }
    parameters: list[float] = []
    for name, setting in settings.items():
        parameter, step = _step(device, **setting)
        windows = [
            _window(step, (parameter * gradient).sum())
            for gradient in (0.25, 1.0, 2.0, 8.0, 8.25, 19.5, 20.0, 20.5, 1e6)
        ]
        found[f"{name}-reasons"] = [None if outcome.reason is None else outcome.reason.value for outcome in windows]
        found[f"{name}-counts"] = [step.fwdbwd_pass_step, step.param_update_step]
        parameters.append(float(parameter.detach()))
    found["parameters"] = parameters
    parameter, step = _step(device, grad_accum_steps=3)
    step.backward(parameter.sum())
    saved = step.state_dict()
    _, other = resumed = _step(device, grad_accum_steps=3)
    other.load_state_dict(saved)
    resumes: list[int | str | None] = [other.next_backward_ends_window, other.step() is None]
    other.backward(resumed[0].sum())
    resumes += [other.next_backward_ends_window, other.window_is_full, other.fwdbwd_pass_step]
    other.backward(resumed[0].sum())
    resumes.append(other.window_is_full)
    ended = other.step()
    assert ended is not None, "the window is full"
    found["resumed"] = [*resumes, other.fwdbwd_pass_step, other.param_update_step, str(ended.grad_norm)]
    found["resumed-full"] = _resumed_full(device)
    found["log"] = _logged(device)
    return found


def _resumed_full(device: str) -> list[int | str | None]:
    """Windows that were saved full, one of a bad loss among them, and are ended after they were loaded, twice each."""
    found: list[int | str | None] = []
    for losses in ((1.0, 3.0), (math.nan, 1.0)):
        parameter, step = _scaled(device)
        for loss in losses:
            step.backward(parameter.sum() * loss)
        saved = step.state_dict()
        # The first may leave nothing of its own in what was saved.
        for _ in range(2):
            other, resumed = _scaled(device)
            resumed.load_state_dict(saved)
            outcome = resumed.step()
            assert outcome is not None, "the window is full"
            reason = None if outcome.reason is None else outcome.reason.value
            found += [reason, str(outcome.grad_norm), str(float(other.detach())), str(outcome.scale)]
    return found


def _scaled(device: str) -> tuple[torch.nn.Parameter, AmpStep]:
    scaler = torch.amp.GradScaler(device, init_scale=4.0)
    return _step(device, scaler=scaler, grad_accum_steps=2)


def step_refusals(device: str) -> dict[str, list[str | None]]:
    """What a step says of each bad setting, call and saved state; of what is just allowed too."""
    parameter, step = _step(device)
    step.backward(parameter.sum())
    twice = _step(device, grad_accum_steps=2)[1]
    saved = step.state_dict()
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.float16, device=device))
    scaler = torch.amp.GradScaler(device, init_scale=4.0)

    scheduled = _step(device)[1]
    scheduled.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(scheduled.optimizer, 0.5, 2)

    def other(parameters: list[Tensor], **settings: Any) -> AmpStep:
        return AmpStep(torch.optim.SGD(parameters, lr=0.125), **settings)

    calls: list[Callable[[], object]] = [
        lambda: _step(device, grad_accum_steps=0), lambda: _step(device, grad_accum_steps=-1),
        lambda: _step(device, grad_clip_norm=-1.0), lambda: _step(device, grad_clip_norm=math.inf),
        lambda: _step(device, grad_clip_norm=math.nan), lambda: _step(device, grad_clip_norm=float("inf")),
        lambda: _step(device, allowed_gradnorm_factor=0.5), lambda: _step(device, allowed_gradnorm_factor=math.nan),
        lambda: _step(device, allowed_gradnorm_factor=math.inf), lambda: _step(device, allowed_gradnorm_factor=1.0),
        lambda: other([half], scaler=scaler), lambda: other([half]),
        lambda: other([parameter, half], scaler=torch.amp.GradScaler(device, enabled=False)),
        lambda: other([parameter], scaler=scaler), lambda: step.backward(parameter.sum()),
        lambda: twice.backward(parameter * torch.ones(2, device=device)), lambda: twice.backward(parameter[:0]),
        lambda: twice.load_state_dict({}), lambda: twice.load_state_dict({**saved, "window": {"gradients": []}}),
        lambda: other([parameter], scaler=scaler).load_state_dict(saved),
        lambda: twice.load_state_dict({**saved, "window": {"gradients": [None, None]}}),
        lambda: scheduled.load_state_dict(saved), lambda: step.load_state_dict(scheduled.state_dict()),
        lambda: twice.load_state_dict(saved), lambda: set_field(StepOutcome(True, None, 1.0, 1.0), "scale"),
    ]  # fmt: skip
    return {"steps": [sentence_of(call) for call in calls]}


def _step(device: str, **settings: Any) -> tuple[torch.nn.Parameter, AmpStep]:
    """Of one parameter, whose gradient's norm is its size, under plain gradient descent at a rate of 1/8."""
    parameter = torch.nn.Parameter(torch.ones(1, device=device))
    return parameter, AmpStep(torch.optim.SGD([parameter], lr=0.125), **settings)


def _window(step: AmpStep, loss: Tensor) -> StepOutcome:
    step.backward(loss)
    outcome = step.step()
    assert outcome is not None, "windows are of one pass by default"
    return outcome


def _logged(device: str) -> list[str]:
    """The lines of a monitor of a loss in [0, 2], over windows of all kinds, then of one that is left its defaults."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.Logger("recorded", logging.DEBUG)
    logger.addHandler(handler)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=3)
    parameter, _ = _step(device)
    step = AmpStep(torch.optim.SGD([parameter], lr=0.0), scaler, monitor=StepMonitor(0.0, 2.0, logger))
    for loss in (0.0, 2.0, -0.125, 2.25, 64.0, math.nan, math.inf):
        _window(step, parameter.sum() * loss)
    _window(step, parameter.detach().sum() * 2.0)
    _window(step, parameter.sum() * 2.0**125)
    unscaled = AmpStep(torch.optim.SGD([parameter], lr=0.0), monitor=StepMonitor(logger=logger))
    for loss in (0.0, -0.125, 2.0**60):
        _window(unscaled, parameter.sum() * loss)
    lines.append(StepMonitor().logger.name)
    return lines
