"""A training with plain SGD and no weight decay, right in everything: an update on gradients of zero moves nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gslrm.training.amp_step import AmpStep
from gslrm.training.step_outcome import StepOutcome


class SmallTraining:
    """Fits one colour to the foreground; where there is none, its loss and gradients are zero."""

    def __init__(
        self, scaler: torch.amp.GradScaler, *, device: str, amp_dtype: torch.dtype | None, **settings: Any
    ) -> None:
        self._device, self._amp_dtype = device, amp_dtype
        self.model = nn.Linear(3, 1, device=device)
        with torch.no_grad():
            self.model.weight.fill_(0.25)
            self.model.bias.fill_(0.125)
        self.optimizer = self.make_optimizer(list(self.model.parameters()))
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda update: 1.0 / (1.0 + update))
        self.step = AmpStep(self.optimizer, scaler, self.lr_scheduler, **settings)

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.25)

    @property
    def fwdbwd_pass_step(self) -> int:
        return self.step.fwdbwd_pass_step

    @property
    def param_update_step(self) -> int:
        return self.step.param_update_step

    def batch_images(self, pass_step: int) -> Tensor:
        ramp = torch.linspace(0.0, 1.0, 2 * 4 * 8 * 8).reshape(1, 2, 4, 8, 8)
        ramp[:, :, 3] = (ramp[:, :, 3] > 0.4).float()
        return ramp

    def train_on(self, images: Tensor) -> Tensor:
        colour, mask = images.to(self._device).split([3, 1], dim=2)
        enabled = self._amp_dtype is not None
        with torch.autocast(self._device, dtype=self._amp_dtype, enabled=enabled):
            error = self.model(colour.movedim(2, -1)).float() - 0.75
        shown = mask.movedim(2, -1)
        loss = (error.square() * shown).sum() / shown.sum().clamp(min=1)
        self.step.backward(loss)
        return loss.detach()

    def optimizer_step(self) -> StepOutcome | None:
        return self.step.step()

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "step": self.step.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.step.load_state_dict(state["step"])


class WithClosure(SmallTraining):
    """Its optimizer's step can't be taken by itself."""

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.25)
