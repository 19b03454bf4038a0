"""What a loss owes its user: every claim, in the order of reports."""

from __future__ import annotations

from harness.properties import loss_instance, loss_invariance, loss_use, loss_value
from harness.properties.loss_property import LossProperty

LOSS_PROPERTIES: tuple[LossProperty, ...] = (
    loss_value.range_,
    loss_value.finite,
    loss_value.identity,
    loss_value.accuracy,
    loss_value.gradient_accuracy,
    loss_value.gradient_alive,
    loss_value.float32_target,
    loss_value.target_gradient,
    loss_invariance.symmetry,
    loss_invariance.hidden_pixels,
    loss_invariance.full_mask,
    loss_invariance.empty_mask,
    loss_value.soft_mask,
    loss_invariance.mask_dtype,
    loss_invariance.batch,
    loss_invariance.strides,
    loss_use.side_effects,
    loss_use.repeatable,
    loss_use.modes,
    loss_use.upstream_gradient,
    loss_instance.first_call,
    loss_instance.calls_add_up,
    loss_instance.state_dict,
    loss_instance.casts,
    loss_instance.keeps_nothing,
    loss_use.bad_input,
)
