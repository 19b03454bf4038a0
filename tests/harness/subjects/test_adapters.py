from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind
from harness.errors import SubjectError, UsageError
from harness.precision import precisions_named
from harness.protocols import LossKind
from harness.subject_spec import SubjectSpec
from harness.subjects.facelift import CallingConvention, learn_calling_convention
from harness.subjects.known_bad import KNOWN_BAD
from harness.subjects.loss import load_loss
from harness.subjects.step import load_fed_step
from harness.trials.loss_trial import LossTrial

_MODULE = '''
import torch
from torch import nn

def bare(x, y): return (x - y).square().mean()
def masked(rendering, target, mask): return ((rendering - target) * mask).square().mean()
def optional(rendering, target, mask=None): return ((rendering - target) * mask).square().mean()
def ranged(x, y, data_range=255.0): return (x - y).square().mean() / data_range**2
def similar(x, y): return 1 - (x - y).square().mean()
def one(x): return x.mean()
def five(a, b, c, d, e): return a.mean()
def points(xyz, origin, direction, mask): return ((xyz - origin) * mask).square().mean()
def picky(xyz, origin, direction, mask): raise KeyError("alpha")
def number(x, y): return 0.5
def per_pixel(x, y): return (x - y).square()
def raises(x, y): raise KeyError("beta")
class Ranged:
    def __init__(self, data_range=255.0): pass
    def __call__(self, x, y): return (x - y).square().mean()
class OfBytes(Ranged):
    data_range = 255
    def __init__(self): pass
class Needs(nn.Module):
    def __init__(self, weight): super().__init__()
    def forward(self, x, y): return x.mean()
class Explodes:
    def __init__(self): raise OSError("no weights")
class Neither:
    pass
class WantsLogger:
    def optimizer_step(self, result): self.logger.info("x")
class Every:
    """Counts before it calls, on every pass."""
    def optimizer_step(self, result):
        if self.fwdbwd_pass_step % self.config.training.runtime.grad_accum_steps: return
        self.optimizer.step(); self.optimizer.zero_grad()
class Before:
    def optimizer_step(self, result):
        if (self.fwdbwd_pass_step + 1) % self.config.training.runtime["grad_accum_steps"]: return
        self.optimizer.step(); self.optimizer.zero_grad()
class AtTheEnd(nn.Module):
    def optimizer_step(self, result):
        assert float(result.loss) == float(result["loss_metrics"].loss)
        self.optimizer.step(); self.optimizer.zero_grad()
'''


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "their_losses.py"
    path.write_text(_MODULE)
    return str(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("bare", LossKind.BARE), ("masked", LossKind.MASKED), ("optional", LossKind.MASKED), ("ranged", LossKind.BARE)],
)
def test_kinds_of_losses(module: str, name: str, kind: LossKind) -> None:
    assert load_loss(SubjectSpec(f"{module}:{name}")).kind is kind


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("ranged", {}, "data_range 1, given to it"),
        ("ranged", {"arguments": {"data_range": 255}}, "data_range 255, as it was told to"),
        ("ranged", {"call": "f(x, y, data_range=2.0)"}, "data_range 2, as it was told to"),
        ("Ranged", {}, "data_range 1, given to it"),
        ("OfBytes", {}, "data_range 255, its own"),
        ("bare", {}, "data_range 1, taken for granted"),
    ],
)
def test_the_range_that_a_loss_takes_images_to_have(module: str, name: str, more: dict[str, Any], words: str) -> None:
    found = load_loss(SubjectSpec(f"{module}:{name}", **more)).data_range
    assert found is not None
    assert found.words == words


def test_four_arguments_make_a_loss_of_points(module: str) -> None:
    loss = load_loss(SubjectSpec(f"{module}:points", truth="pixel-alignment"))
    assert loss.kind is LossKind.POINTS
    ones = torch.ones(1, 3, 2, 2)
    assert loss(ones, 0 * ones, ones, ones[:, :1]).item() == 1.0


@pytest.mark.parametrize(
    ("name", "truth", "words"),
    [
        ("points", "masked-ssim", r"but masked-ssim is a loss of images: .* one of pixel-alignment, masked-pixel-"),
        ("bare", "pixel-alignment", r"takes \(x, y\), but pixel-alignment is a loss of points: .* one of masked-ssim"),
        ("bare", "background", "background can't be told without a mask"),
        ("picky", "points-distance", r"called as loss\(xyz, origin, direction, mask\) on one plain float32 map of po"),
        ("masked", "perceptual", "an attribute 'convolutions'"),
        ("five", "masked-ssim", r"takes 5 required .* or \(xyz, origin, direction, mask\)"),
    ],
)
def test_losses_that_can_not_be_what_they_are_held_to_are_named(module: str, name: str, truth: str, words: str) -> None:
    with pytest.raises(SubjectError, match=words):
        load_loss(SubjectSpec(f"{module}:{name}", truth=truth))


def test_a_truth_that_there_is_not_is_a_wrong_setting(module: str) -> None:
    with pytest.raises(UsageError, match="did you mean 'mse'"):
        load_loss(SubjectSpec(f"{module}:bare", truth="msee"))


def test_a_bare_loss_of_the_whole_image_is_given_it_uncomposited(module: str) -> None:
    (precision,) = precisions_named(["float32"])
    case = LossCase(mask=Mask(MaskKind.EMPTY), perturbation=Perturbation(PerturbationKind.OFFSET, 0.1))
    trial = LossTrial(load_loss(SubjectSpec(f"{module}:bare", truth="mse")), precision, case)
    assert trial.evaluation.value == pytest.approx(0.01, rel=1e-5)
    assert trial.truth.value == pytest.approx(0.01, rel=1e-5)
    assert LossTrial(load_loss(SubjectSpec(f"{module}:bare")), precision, case).evaluation.value == 0.0


def test_the_data_range_is_one(module: str) -> None:
    loss = load_loss(SubjectSpec(f"{module}:ranged"))
    ones, zeros = torch.ones(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)
    assert loss(ones, zeros, ones[:, :1]).item() == 1.0


def test_a_similarity_is_turned_round(module: str) -> None:
    loss = load_loss(SubjectSpec(f"{module}:similar", similarity=True))
    assert loss(torch.ones(1, 3, 11, 11), torch.zeros(1, 3, 11, 11), torch.ones(1, 1, 11, 11)).item() == 1.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one", "takes 1 required"),
        ("number", "must return one number"),
        ("per_pixel", "of shape"),
        ("raises", "raised KeyError"),
        ("Needs", "without weight"),
        ("Explodes", "raised OSError: no weights"),
        ("Neither", "can't be called"),
        ("torch", "can't be called"),
    ],
)
def test_losses_that_do_not_fit_are_named(module: str, name: str, words: str) -> None:
    with pytest.raises(SubjectError, match=words):
        load_loss(SubjectSpec(f"{module}:{name}"))


@pytest.mark.parametrize(
    ("name", "words"), [("bare", "must be a class"), ("Neither", "lacks backward"), ("WantsLogger", "'logger'")]
)
def test_steps_that_do_not_fit_are_named(module: str, name: str, words: str) -> None:
    with pytest.raises(SubjectError, match=words):
        load_fed_step(SubjectSpec(f"{module}:{name}"))


@pytest.mark.parametrize(
    ("name", "convention"),
    [("Every", (True, True)), ("Before", (True, False)), ("AtTheEnd", (False, True))],
)
def test_the_calling_convention_is_learnt(module: str, name: str, convention: tuple[bool, bool]) -> None:
    from harness.subjects.door import load_object

    cls: Any = load_object(f"{module}:{name}")
    assert learn_calling_convention(cls, name) == CallingConvention(*convention)
    if name == "AtTheEnd":
        assert issubclass(cls, nn.Module)


def test_every_known_bad_subject_loads() -> None:
    for known in KNOWN_BAD:
        load_loss(SubjectSpec(known.spec)) if known.kind == "loss" else load_fed_step(SubjectSpec(known.spec))
    assert {known.kind for known in KNOWN_BAD} == {"loss", "step"}
