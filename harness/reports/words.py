"""Cases and measures in words."""

from __future__ import annotations

from harness.cases.descriptors import Case, LossCase, MaskKind, PerturbationKind, PictureKind, TrainingCase


def describe(case: Case) -> str:
    """The case in one line."""
    if isinstance(case, LossCase):
        return _describe_loss_case(case)
    program = ", ".join(action.value for action in case.actions)
    if isinstance(case, TrainingCase) and case.second_rank:
        program += f" beside {', '.join(action.value for action in case.second_rank)}"
    return f"{program} (accumulation {case.accumulation}, scale 2^{case.scale_exponent})"


def _describe_loss_case(case: LossCase) -> str:
    images = f"{case.images} images of " if case.images > 1 else ""
    picture = {
        PictureKind.FLAT: f"flat grey {case.picture.level}/255",
        PictureKind.PHOTO: f"photograph {case.picture.name}",
        PictureKind.FILE: f"picture {case.picture.name}",
    }.get(case.picture.kind, case.picture.kind.value)
    mask = f"{case.mask.kind.value} mask"
    if case.mask.kind in (MaskKind.LINE, MaskKind.DISC, MaskKind.BLOB, MaskKind.BORDER, MaskKind.ISLANDS):
        mask += f" of {case.mask.pixels} px"
    change = case.perturbation.kind.value
    if case.perturbation.kind is PerturbationKind.NONE:
        change = "identical"
    elif case.perturbation.kind not in (PerturbationKind.UNRELATED, PerturbationKind.ANTICORRELATED):
        change += f" {case.perturbation.magnitude:g}"
    flaw = f", {case.flaw.value}" if case.flaw else ""
    return f"{images}{case.height}×{case.width}, {picture}, {mask}, {change}{flaw}, seed {case.seed}"


def measure(value: float | None) -> str:
    """Three significant digits, or nothing."""
    return "" if value is None else f"{value:.3g}"
