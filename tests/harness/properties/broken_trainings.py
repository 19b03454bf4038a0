"""Trainings that each break one promise: the tiny training with a broken step in it, or broken itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gslrm.testing.tiny_training import TinyTraining
from gslrm.training.amp_step import AmpStep
from gslrm.training.step_outcome import StepOutcome
from harness.subjects.door import load_object
from harness.subjects.facelift import AttributeDict
from harness.subjects.known_bad.steps import StepAfterReport, StepBeforeFix
from tests.harness.properties.small_training import SmallTraining

_STEPS = Path(__file__).with_name("mutants.py")


def _with_step(name: str) -> type[TinyTraining]:
    """The tiny training whose step is one of mutants.py."""

    class Broken(TinyTraining):
        def __init__(self, scaler: torch.amp.GradScaler, **settings: Any) -> None:
            super().__init__(scaler, **settings)
            step: type[AmpStep] = load_object(f"{_STEPS}:{name}")
            self.trainer.step.__class__ = step

    return Broken


break_no_gradients = _with_step("break_no_gradients")
break_finite_parameters = _with_step("break_finite_parameters")
break_drops_bad_windows = _with_step("break_drops_bad_windows")
break_counters = _with_step("break_counters")
break_schedule = _with_step("break_schedule")
break_scale = _with_step("break_scale")
break_gradients_cleared = _with_step("break_gradients_cleared")
break_truthful = _with_step("break_truthful")
break_resume = _with_step("break_resume")


class break_never_raises(TinyTraining):
    """Checks its batch where it should look at the loss and skip."""

    def train_on(self, images: Tensor) -> Tensor:
        if not bool(torch.isfinite(images).all()):
            raise ValueError("NaN pixels")
        return super().train_on(images)


class break_right_update(TinyTraining):
    """Doesn't clip, though it knows which norms to refuse."""

    def __init__(self, scaler: torch.amp.GradScaler, **settings: Any) -> None:
        super().__init__(scaler, **{**settings, "grad_clip_norm": 20.0, "allowed_gradnorm_factor": 1.0})


class _Tampering(TinyTraining):
    """Does something to its optimizer in the middle of each pass, where no schedule and no counter sees it."""

    def train_on(self, images: Tensor) -> Tensor:
        loss = super().train_on(images)
        self.tamper()
        return loss

    def tamper(self) -> None:
        raise NotImplementedError


class break_right_update_rate(_Tampering):
    """Forgets the schedule in one of its groups."""

    def tamper(self) -> None:
        self.optimizer.param_groups[1]["lr"] = 1e-2


class break_right_update_decay(_Tampering):
    def tamper(self) -> None:
        self.optimizer.param_groups[0]["weight_decay"] = 0.5


class break_right_update_betas(_Tampering):
    def tamper(self) -> None:
        for group in self.optimizer.param_groups:
            group["betas"] = (0.5, 0.999)


class break_right_update_state(_Tampering):
    """Loses the moments."""

    def tamper(self) -> None:
        self.optimizer.state.clear()


class break_right_update_count(_Tampering):
    """Has the moments' bias corrected as after many more steps."""

    def tamper(self) -> None:
        for state in self.optimizer.state.values():
            state["step"] += 10


class break_right_update_momentum(SmallTraining):
    """Its SGD gets a momentum on the way."""

    def train_on(self, images: Tensor) -> Tensor:
        self.optimizer.param_groups[0]["momentum"] = 0.9
        return super().train_on(images)


class break_resume_state(TinyTraining):
    """Restores everything but the optimizer's state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.state.clear()


class break_drops_bad_windows_still(SmallTraining):
    """Counts and schedules its updates, but doesn't step."""

    def optimizer_step(self) -> StepOutcome | None:
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        outcome = super().optimizer_step()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(before[name])
        return outcome


break_truthful_still = break_drops_bad_windows_still


class break_ranks_agree(TinyTraining):
    """Each process decides by its own loss alone."""

    def __init__(self, scaler: torch.amp.GradScaler, **settings: Any) -> None:
        super().__init__(scaler, **settings)
        self.trainer.step.agree = None


class break_ranks_agree_hang(TinyTraining):
    """A process whose loss is bad goes on without the backward pass, in which the other waits for it."""

    def train_on(self, images: Tensor) -> Tensor:
        if bool(torch.isfinite(images).all()):
            return super().train_on(images)
        self.trainer.step.fwdbwd_pass_step += 1
        return torch.tensor(torch.nan)


class _FaceLiftShaped(TinyTraining):
    """Ends its windows as FaceLift's trainer did."""

    ending: type[StepBeforeFix]

    def __init__(self, scaler: torch.amp.GradScaler, **settings: Any) -> None:
        super().__init__(scaler, **settings)
        runtime = AttributeDict({name: settings[name] for name in _RUNTIME})
        ending = self.ending()
        ending.optimizer, ending.scaler, ending.lr_scheduler = self.optimizer, scaler, self.lr_scheduler
        ending.optim_param_list = list(self.model.parameters())
        ending.config = AttributeDict(training=AttributeDict(runtime=runtime))
        ending.param_update_step = 0
        self._ending, self._loss = ending, torch.zeros(())

    def train_on(self, images: Tensor) -> Tensor:
        self._loss = super().train_on(images)
        return self._loss

    def optimizer_step(self) -> StepOutcome | None:
        step = self.trainer.step
        if not step.window_is_full:
            return None
        self._ending.fwdbwd_pass_step = step.fwdbwd_pass_step
        self._ending.optimizer_step(AttributeDict(loss_metrics=AttributeDict(loss=self._loss)))
        step.param_update_step, step._window_passes = self._ending.param_update_step, 0
        return None


_RUNTIME = ("grad_accum_steps", "grad_clip_norm", "allowed_gradnorm_factor")


class TrainingBeforeFix(_FaceLiftShaped):
    ending = StepBeforeFix


class TrainingAfterReport(_FaceLiftShaped):
    ending = StepAfterReport


class NotBuilt(TinyTraining):
    def __init__(self) -> None:
        pass


class Forgetful:
    """Lacks what a training needs to be saved."""

    def batch_images(self, pass_step: int) -> Tensor:
        raise NotImplementedError

    def train_on(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def optimizer_step(self) -> None:
        raise NotImplementedError
