"""From a descriptor to the tensors a loss is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from harness.cases.descriptors import Hidden, LossCase, MaskKind, MaskValues, PerturbationKind, PictureKind
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import LossInputs, MaskedPair
from harness.cases.masks import draw_mask
from harness.cases.pictures import draw_picture
from harness.cases.random_numbers import RandomNumbers

# What a renderer that doesn't clamp makes of black and of white.
_LEAST, _MOST = -0.02, 1.05
# Streams of random numbers; rays have one of their own in points.py.
_PICTURE, _MASK, _PERTURBATION, _HIDDEN, _SOFT = range(5)
_NOT_FINITE = {
    Hidden.NAN_RENDERING: ("rendering", float("nan")),
    Hidden.NAN_TARGET: ("target", float("nan")),
    Hidden.INF_RENDERING: ("rendering", float("inf")),
    Hidden.INF_TARGET: ("target", float("inf")),
}
# Either side of 0.5 as far as bfloat16 tells them apart (0.4999 is 0.5 there, and hides as well), and one that a mask
# rounded to tenths would hide.
_NEXT_TO_HALF = (0.4999, 0.51)


def build_pair(case: LossCase, folder: ImageFolder | None = None) -> MaskedPair:
    """The case's tensors, float32 on the CPU; the same bits for the same case on every machine.

    Image i of a batch is the one image of a case whose seed is i larger, so a batch can be taken apart.

    Raises:
        UsageError: the case uses a picture that isn't there.
    """
    renderings, targets, masks = [], [], []
    for index in range(case.images):
        target, mask = target_and_mask(case, index, folder)
        rendering = perturbed(case, index, target, mask, folder)
        if case.perturbation.kind is not PerturbationKind.OVERSHOOT:
            rendering = np.clip(rendering, 0.0, 1.0)
        renderings.append(rendering)
        targets.append(target)
        masks.append(mask[..., None])
    return MaskedPair(to_tensor(renderings), to_tensor(targets), to_tensor(masks))


def with_other_values(case: LossCase, inputs: LossInputs, where: Bool[Tensor, "n 1 h w"]) -> LossInputs:
    """The same inputs with other values at the pixels named: of a pair both images, of a map the points.

    They are random numbers, or NaN or infinity in the image that the case says; of a map always in the points.
    """
    spoilt = _NOT_FINITE.get(case.hidden)
    if spoilt is not None:
        image, number = spoilt
        if isinstance(inputs, MaskedPair):
            return replace(inputs, **{image: inputs.named()[image].masked_fill(where, number)})
        return inputs.with_first(inputs.xyz.masked_fill(where, number))
    numbers = RandomNumbers(case.seed, _HIDDEN)
    first = inputs.tensors()[0]

    def other(values: Tensor) -> Tensor:
        noise = torch.from_numpy(numbers.uniform(*first.shape)).to(values.device, values.dtype)
        return torch.where(where, noise, values)

    if isinstance(inputs, MaskedPair):
        return replace(inputs, rendering=other(inputs.rendering), target=other(inputs.target))
    return inputs.with_first(other(first))


def with_soft_mask(case: LossCase, inputs: LossInputs) -> LossInputs:
    """The same inputs with a soft mask: up to 0.5 where it was at most that, over it elsewhere.

    It is of quarters; or (``MaskValues.ANY``) a third is next to 0.5, and the rest anything in between.
    """
    numbers = RandomNumbers(case.seed, _SOFT)
    drawn = torch.from_numpy(numbers.uniform(*inputs.mask.shape)).to(inputs.mask.device)
    hidden, shown = (drawn * 3).floor() / 4, (drawn * 2).floor() / 4 + 0.75
    if case.mask.values is MaskValues.ANY:
        under, over = _NEXT_TO_HALF
        share = 1.5 * drawn - 0.5
        hidden, shown = (
            torch.where(drawn < 1 / 3, near, least + 0.49 * share) for near, least in ((under, 0.0), (over, over))
        )
    return replace(inputs, mask=torch.where(inputs.mask > 0.5, shown, hidden).to(inputs.mask.dtype))


def with_mask_values(case: LossCase, inputs: LossInputs) -> LossInputs:
    """The same inputs with a mask of 0 and 1 handed over as the case says: as booleans, whole numbers or bytes."""
    shown = inputs.mask > 0.5
    if case.mask.values is MaskValues.BOOLEANS:
        return replace(inputs, mask=shown)
    largest = 255 if case.mask.values is MaskValues.BYTES else 1
    return replace(inputs, mask=shown.to(torch.uint8) * largest)


def with_half_rendering(inputs: MaskedPair, dtype: torch.dtype) -> MaskedPair:
    """The rendering as a network under autocast gives it, beside a target and a mask as they were loaded."""
    return replace(inputs, rendering=inputs.rendering.to(dtype))


def target_and_mask(
    case: LossCase, index: int, folder: ImageFolder | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Image ``index``'s target (h, w, 3) in [0, 1] and its foreground (h, w)."""
    target, mask = _target(case, index, folder)
    if case.mask.kind is not MaskKind.OWN or mask is None:
        kind = MaskKind.FULL if case.mask.kind is MaskKind.OWN else case.mask.kind
        numbers = RandomNumbers(case.seed + index, _MASK)
        mask = draw_mask(replace(case.mask, kind=kind), case.height, case.width, numbers)
    return target, mask


def _target(
    case: LossCase, index: int, folder: ImageFolder | None, stream: int = _PICTURE
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    numbers = RandomNumbers(case.seed + index, stream)
    return draw_picture(case.picture, case.height, case.width, numbers, folder)


def perturbed(
    case: LossCase,
    index: int,
    target: NDArray[np.float64],
    mask: NDArray[np.bool_],
    folder: ImageFolder | None,
) -> NDArray[np.float64]:
    """What departs from image ``index``'s target (h, w, 3) as the case says; not clipped."""
    kind, magnitude = case.perturbation.kind, case.perturbation.magnitude
    numbers = RandomNumbers(case.seed + index, _PERTURBATION)
    if kind is PerturbationKind.OFFSET:
        return target + magnitude
    if kind is PerturbationKind.NOISE:
        return target + magnitude * (2.0 * numbers.uniform(*target.shape) - 1.0)
    if kind is PerturbationKind.PIXEL:
        rendering = target.copy()
        where = np.argwhere(mask) if mask.any() else np.argwhere(~mask)
        row, column = where[numbers.below(len(where))]
        rendering[row, column] += magnitude if target[row, column].mean() < 0.5 else -magnitude
        return rendering
    if kind is PerturbationKind.BLUR:
        padded = np.pad(target, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
        blurred = 0.25 * rows[:, :-2] + 0.5 * rows[:, 1:-1] + 0.25 * rows[:, 2:]
        return target + magnitude * (blurred - target)
    if kind is PerturbationKind.SHIFT:
        return target + magnitude * (np.roll(target, 1, axis=1) - target)
    if kind is PerturbationKind.UNRELATED:
        if case.picture.kind in (PictureKind.FLAT, PictureKind.FILE):
            return numbers.uniform(*target.shape)
        return _target(case, index, folder, stream=_PERTURBATION)[0]
    if kind is PerturbationKind.PATCH:
        return np.where(mask[..., None], 1.0 - target, target)
    if kind is PerturbationKind.OVERSHOOT:
        return _LEAST + (_MOST - _LEAST) * target
    if kind is PerturbationKind.ANTICORRELATED:
        return 1.0 - target
    return target


def to_tensor(images: Sequence[NDArray[np.generic]]) -> Tensor:
    """Images (h, w, c) as a float32 batch (n, c, h, w)."""
    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
