"""AMP steps as they were, in the shape of FaceLift's trainer."""

from __future__ import annotations

from typing import Any

import torch


class StepBeforeFix:
    """Calls ``scaler.update()`` only where it steps."""

    always_updates_scaler = False
    # Provided from outside: a trainer's many other parts are not needed to step.
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler
    optim_param_list: list[torch.nn.Parameter]
    config: Any
    fwdbwd_pass_step: int
    param_update_step: int

    def optimizer_step(self, result: Any) -> None:
        """Unscale, replace NaN and inf, clip, skip or step."""
        runtime = self.config.training.runtime
        if self.fwdbwd_pass_step % runtime.grad_accum_steps != 0:
            return
        skip = not bool(torch.isfinite(result.loss_metrics.loss))
        if not skip:
            self.scaler.unscale_(self.optimizer)
            for parameter in self.optim_param_list:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            norm = torch.nn.utils.clip_grad_norm_(self.optim_param_list, runtime.grad_clip_norm)
            limit = runtime.grad_clip_norm * runtime.get("allowed_gradnorm_factor", 20.0)
            skip = bool(norm > limit)
        if not skip:
            self.scaler.step(self.optimizer)
            self.param_update_step += 1
        if self.always_updates_scaler or not skip:
            self.scaler.update()
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)


class StepAfterReport(StepBeforeFix):
    """Calls ``scaler.update()`` always, also where ``unscale_()`` was not called."""

    always_updates_scaler = True
