"""Where the properties of a loss draw their lines: each loss here is just beyond one, or just within."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cases.descriptors import Flaw, Hidden, LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture
from harness.cases.descriptors import PictureKind as Kind
from harness.errors import SubjectError
from harness.oracle.budget import budget
from harness.oracle.definitions import definition_named
from harness.oracle.levels import Level
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES, loss_instance, loss_use
from harness.properties.verdict import Verdict
from harness.protocols import LossKind
from harness.subject_spec import SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss, Origin
from harness.subjects.witness import HeldTo
from tests.harness.judging import judged_loss
from tests.harness.properties import mutants

_RIGHT = MaskedSsimLoss()
_NOISE = Perturbation(PerturbationKind.NOISE, 0.1)
_CASE = LossCase(16, 16, batch=2, picture=Picture(Kind.SMOOTH), mask=Mask(MaskKind.FULL), perturbation=_NOISE)
_OFF = 1.00104


def _right(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask)
    return value


def _judged(
    name: str, loss: Callable[..., Any], case: LossCase = _CASE, truth: str = "masked-ssim", precision: str = "float32"
) -> Verdict:
    # Of a class a new instance comes before each first call.
    made, origin = (loss(), Origin(construct=loss)) if isinstance(loss, type) else (loss, Origin())
    spec = SubjectSpec("edge", truth=truth)
    subject = AdaptedLoss(spec, LossKind.MASKED, made, held_to=HeldTo(definition_named(truth)), origin=origin)
    return judged_loss(
        subject, next(p for p in LOSS_PROPERTIES if p.name == name), precisions_named([precision])[0], case
    )


class _Seen(nn.Module):
    """Remembers what each instance was first called with."""

    first: list[tuple[Any, ...]] = []  # noqa: RUF012

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if not vars(self).get("called"):
            self.called = True
            autocast = torch.is_autocast_enabled("cpu")
            inference = torch.is_inference_mode_enabled()
            self.first.append((tuple(rendering.shape[2:]), rendering.dtype, autocast, inference))
        return _right(rendering, target, mask)


def test_a_small_case_tries_every_first_call_and_a_large_one_a_single_one() -> None:
    ordinary = ((16, 17), torch.float32, False, False)
    others = [
        ((16, 17), torch.float32, False, True),
        ((16, 17), torch.float32, True, False),
        ((16, 17), torch.float16, False, False),
        ((16, 17), torch.bfloat16, False, False),
        ((16, 17), torch.float64, False, False),
        ((16, 34), torch.float32, False, False),
    ]
    _Seen.first.clear()
    assert _judged("first-call", _Seen, replace(_CASE, width=17, batch=1)).holds
    assert [one for one in _Seen.first if one != ordinary] == others
    for seed, which in ((0, others[0]), (3, others[3]), (11, others[5])):
        _Seen.first.clear()
        large = replace(_CASE, width=17, batch=5, seed=seed)
        assert large.elements > 1200
        assert _judged("first-call", _Seen, large).holds
        assert [one for one in _Seen.first if one != ordinary] == [which]


def test_what_raises_after_a_first_call_is_told_with_that_call() -> None:
    class Raising:
        def __init__(self) -> None:
            self.dtype: torch.dtype | None = None

        def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            self.dtype = self.dtype or rendering.dtype
            if self.dtype != rendering.dtype:
                raise RuntimeError("another dtype")
            return _right(rendering, target, mask)

    message = _judged("first-call", Raising, replace(_CASE, batch=1)).message
    assert message == "after a first call in float16 it raises RuntimeError: another dtype"


@pytest.mark.parametrize(("off", "holds"), [(1.0009, True), (_OFF, False)])
def test_a_full_mask_allows_a_thousandth_of_the_loss(off: float, holds: bool) -> None:
    assert _judged("full-mask", lambda *inputs: _right(*inputs) * off).holds is holds


def test_two_losses_of_a_full_mask_are_told_with_six_digits() -> None:
    message = _judged("full-mask", lambda *inputs: _right(*inputs) * 0 + 0.123456789).message
    assert message.startswith("with a full mask the loss is 0.123457, but that of all pixels is 0.")


@pytest.mark.parametrize(("truth", "mask"), [("masked-ssim", "an empty mask"), ("background", "a full mask")])
def test_a_mask_that_leaves_nothing_is_named_as_it_is(truth: str, mask: str) -> None:
    kind = MaskKind.FULL if truth == "background" else MaskKind.EMPTY
    case = replace(_CASE, mask=Mask(kind))
    assert (
        f"with {mask} the loss is 0.5" in _judged("empty-mask", lambda x, y, m: x.sum() * 0 + 0.5, case, truth).message
    )


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (False, "the batch's loss is not the mean of its images' losses: "),
        (True, "reversing the batch changes the loss: "),
    ],
)
def test_a_loss_that_looks_at_the_order_of_its_images_is_convicted(turned: bool, words: str) -> None:
    def by_order(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        levels = target.mean(dim=(1, 2, 3))
        asked = bool(levels[0] > levels[-1]) if turned else bool(levels[0] < levels[-1])
        return _right(rendering, target, mask) * (1.01 if asked else 1.0)

    assert _judged("batch", by_order).message.startswith(words)


def test_a_value_that_turns_to_nan_is_another_though_the_gradient_stays() -> None:
    class Turning:
        calls = 0

        def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            self.calls += 1
            return _right(rendering, target, mask) + (float("nan") if self.calls > 1 else 0.0)

    verdict = _judged("repeatable", Turning())
    assert not verdict.holds
    assert "the same call gave" in verdict.message
    assert verdict.message.endswith("then nan")


@pytest.mark.parametrize("name", ["upstream-gradient", "calls-add-up"])
def test_what_a_half_gradient_cannot_hold_is_allowed_of_both(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    floors: list[tuple[float, float]] = []
    module: Any = loss_use if name == "upstream-gradient" else loss_instance
    same = module.same_gradient

    def noting(trial: Any, first: Any, second: Any, what: str, floor: float = 0.0) -> Verdict:
        floors.append((floor, first.gradient.numel() ** 0.5))
        found: Verdict = same(trial, first, second, what, floor)
        return found

    monkeypatch.setattr(module, "same_gradient", noting)
    (half,) = precisions_named(["float16-inputs"])
    assert _judged(name, _right, precision="float16-inputs").holds
    scale = 2.0**16
    of = {
        "upstream-gradient": [
            0.0,
            *(sum(budget(half, s).gradient_floor for s in (scale, scale * t)) for t in (2.0, 0.5)),
        ],
        "calls-add-up": [2 * budget(half, scale).gradient_floor] * 2,
    }[name]
    assert [floor for floor, _ in floors] == pytest.approx(
        [one * root for one, (_, root) in zip(of, floors, strict=True)]
    )


class _Overflowing(torch.autograd.Function):
    """The identity, whose gradient is beyond all numbers, also times 0."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream * float("inf")


def test_a_loss_times_0_has_no_gradient_but_for_one_whose_gradient_is_no_number_anyway() -> None:
    verdict = _judged("upstream-gradient", mutants.break_upstream_gradient_zero)
    assert not verdict.holds
    assert verdict.level is Level.FAULT
    numbers = _CASE.images * 3 * _CASE.height * _CASE.width
    assert verdict.message == f"an upstream gradient of 0 leaves {numbers} numbers of the gradient that are not 0"
    assert (
        "of 0 leaves" not in _judged("upstream-gradient", lambda x, y, m: _Overflowing.apply(_right(x, y, m))).message
    )


@pytest.mark.parametrize("flaw", [Flaw.RANK, Flaw.INTEGER, Flaw.SHAPES_DIFFER, Flaw.MASK_SHAPE])
def test_zero_is_no_answer_to_bad_input_and_nothing_is_none_at_all(flaw: Flaw) -> None:
    case = replace(_CASE, flaw=flaw)
    verdict = _judged("bad-input", lambda x, y, m: torch.zeros(()), case)
    assert (verdict.holds, verdict.level) == (False, Level.STRICTNESS)
    assert verdict.message == f"{flaw.value}: accepted, with a loss of 0"
    with pytest.raises(SubjectError):
        _judged("bad-input", lambda x, y, m: None, case)


@pytest.mark.parametrize(("truth", "passes"), [("masked-ssim", False), ("mse", True)])
def test_nan_may_come_out_as_nan_of_a_term_and_nothing_else_may(truth: str, passes: bool) -> None:
    def nan(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return torch.full((), float("nan"))

    nan_in, no_rank = (replace(_CASE, flaw=flaw) for flaw in (Flaw.NAN, Flaw.RANK))
    assert _judged("bad-input", nan, nan_in, truth).holds is passes
    assert _judged("bad-input", nan, no_rank, truth).message == f"{Flaw.RANK.value}: accepted, with a loss of nan"
    zero = _judged("bad-input", lambda x, y, m: torch.zeros(()), nan_in, truth).message
    assert zero == f"{Flaw.NAN.value}: " + (
        "comes out as a loss of 0, not NaN" if passes else "accepted, with a loss of 0"
    )


def test_of_no_image_zero_and_nothing_are_answers_and_a_number_is_none() -> None:
    case = replace(_CASE, flaw=Flaw.NO_IMAGE)
    assert _judged("bad-input", lambda x, y, m: torch.zeros(()), case).holds
    assert _judged("bad-input", lambda x, y, m: None, case).holds
    assert _judged("bad-input", lambda x, y, m: torch.ones(()), case).message.endswith("a loss of 1, not 0")


def test_a_loss_that_refuses_nan_where_the_mask_hides_is_strict_at_most() -> None:
    def refusing(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if bool(rendering.isnan().any()):
            raise ValueError("NaN")
        return _right(rendering, target, mask)

    case = replace(_CASE, mask=Mask(MaskKind.DISC, 80), hidden=Hidden.NAN_RENDERING)
    verdict = _judged("hidden-pixels", refusing, case)
    assert (verdict.holds, verdict.level) == (False, Level.STRICTNESS)


@pytest.mark.parametrize(
    ("times", "words"),
    [(10.5, "off by 950.0% with 0.1% allowed"), (12.0, "off by 3.03 with 0.000276 allowed")],
)
def test_an_error_of_many_times_the_loss_is_told_as_it_is(times: float, words: str) -> None:
    assert _judged("accuracy", lambda *inputs: _right(*inputs) * times).message.endswith(words)


def test_a_gradient_is_told_with_its_direction() -> None:
    assert "(cosine 1.0000)" in _judged("gradient-accuracy", lambda *inputs: _right(*inputs) * _OFF).message
    assert "(cosine -1.0000)" in _judged("gradient-accuracy", lambda *inputs: -_right(*inputs)).message


def test_of_a_gradient_that_dies_its_share_and_its_lack_are_told() -> None:
    def short(*inputs: Tensor) -> Tensor:
        value = _right(*inputs)
        return value.detach() + 0.05 * (value - value.detach())

    verdict = _judged("gradient-alive", short)
    assert (verdict.quantity, verdict.badness) == pytest.approx((0.05, 2.0), rel=1e-3)
    verdict = _judged("gradient-alive", lambda *inputs: _right(*inputs).detach())
    assert (verdict.holds, verdict.quantity) == (False, 0.0)
    verdict = _judged("gradient-alive", lambda *inputs: _right(*inputs).detach() + 0.0 * inputs[0].sum())
    assert (verdict.holds, verdict.quantity, verdict.badness) == (False, 0.0, 1e6)


@pytest.mark.parametrize("name", ["accuracy", "full-mask"])
@pytest.mark.parametrize(("off", "level"), [(3e-4, Level.ROUNDING), (3e-3, Level.FAULT)])
def test_what_float32_does_to_anyone_is_no_fault(name: str, off: float, level: Level) -> None:
    verdict = _judged(name, lambda *inputs: _right(*inputs) + off)
    assert (verdict.holds, verdict.level) == (False, level)


class _Loading(nn.Module):
    def load_state_dict(self, *given: Any, **more: Any) -> Any:
        raise RuntimeError("x" * 1000)

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return _right(rendering, target, mask)


def test_of_a_long_refusal_of_a_state_dict_300_characters_are_told() -> None:
    message = _judged("state-dict", _Loading).message
    before, told = message.split("RuntimeError: ")
    assert before == "a state dict saved after a call, loaded into a new module: raises "
    assert told == "x" * 300 + " [… 700 more characters]"


@pytest.mark.parametrize(("numbers", "narrow"), [(4096, True), (4097, False)])
def test_what_keeps_more_than_a_few_thousand_numbers_is_cast_to_float64_alone(numbers: int, narrow: bool) -> None:
    asked = set()

    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(numbers))

        def to(self, where: Any) -> Any:
            asked.add(where)
            return super().to(where)

        def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            return _right(rendering, target, mask)

    assert _judged("casts", Keeping, replace(_CASE, batch=1)).holds
    assert torch.float64 in asked
    assert ({torch.float16, torch.bfloat16} <= asked, torch.float16 in asked) == (narrow, narrow)


@pytest.mark.parametrize(("spoilt", "when"), [(False, "before any call"), (True, "after a call")])
def test_a_cast_is_told_with_whether_the_module_had_been_called(spoilt: bool, when: str) -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.called, self.off = False, 1.0

        def to(self, where: Any) -> Any:
            # What is kept is spoilt by a cast, before the first call or after it.
            if where is torch.float64 and self.called is spoilt:
                self.off = 1.5
            return super().to(where)

        def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            self.called = True
            return _right(rendering, target, mask) * self.off

    message = _judged("casts", Casting, replace(_CASE, batch=1)).message
    assert message.startswith(f"a cast to float64 and back {when} changes the loss: ")
