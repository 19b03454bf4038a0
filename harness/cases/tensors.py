"""From a descriptor to the tensors a loss is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from harness.cases.descriptors import LossCase, MaskKind, PerturbationKind, PictureKind
from harness.cases.image_folder import ImageFolder
from harness.cases.masks import draw_mask
from harness.cases.pictures import draw_picture
from harness.cases.random_numbers import RandomNumbers

_PICTURE, _MASK, _PERTURBATION, _HIDDEN = range(4)


@dataclass(frozen=True)
class MaskedPair:
    """A batch of renderings and targets with their masks.

    Attributes:
        rendering, target: (n, 3, h, w), values in [0, 1].
        mask: (n, 1, h, w), 1 in the foreground and 0 elsewhere.
    """

    rendering: Float[Tensor, "n 3 h w"]
    target: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def composited(self, neutral_value: float = 0.5) -> MaskedPair:
        """The pair with ``neutral_value`` wherever the mask hides, and a full mask."""
        shown = self.mask > 0.5
        neutral = torch.full_like(self.rendering, neutral_value)
        return replace(
            self,
            rendering=torch.where(shown, self.rendering, neutral),
            target=torch.where(shown, self.target, neutral),
            mask=torch.ones_like(self.mask),
        )


def build_pair(case: LossCase, folder: ImageFolder | None = None) -> MaskedPair:
    """The case's tensors, float32 on the CPU; the same bits for the same case on every machine.

    Image i of a batch is the one image of a case whose seed is i larger, so a batch can be taken apart.

    Raises:
        UsageError: the case uses a picture that isn't there.
    """
    renderings, targets, masks = [], [], []
    for index in range(case.images):
        target, own_mask = _target(case, index, folder)
        mask = own_mask
        if case.mask.kind is not MaskKind.OWN or mask is None:
            kind = MaskKind.FULL if case.mask.kind is MaskKind.OWN else case.mask.kind
            numbers = RandomNumbers(case.seed + index, _MASK)
            mask = draw_mask(replace(case.mask, kind=kind), case.height, case.width, numbers)
        rendering = np.clip(_perturbed(case, index, target, mask, folder), 0.0, 1.0)
        renderings.append(rendering)
        targets.append(target)
        masks.append(mask[..., None])
    return MaskedPair(_tensor(renderings), _tensor(targets), _tensor(masks))


def other_background(case: LossCase, pair: MaskedPair) -> MaskedPair:
    """The same pair with other pixels wherever the mask hides."""
    numbers = RandomNumbers(case.seed, _HIDDEN)
    shown = pair.mask > 0.5
    shape = tuple(pair.rendering.shape)
    noise = [torch.from_numpy(numbers.uniform(*shape)).to(pair.rendering.dtype) for _ in range(2)]
    return replace(
        pair,
        rendering=torch.where(shown, pair.rendering, noise[0]),
        target=torch.where(shown, pair.target, noise[1]),
    )


def _target(
    case: LossCase, index: int, folder: ImageFolder | None, stream: int = _PICTURE
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    numbers = RandomNumbers(case.seed + index, stream)
    return draw_picture(case.picture, case.height, case.width, numbers, folder)


def _perturbed(
    case: LossCase,
    index: int,
    target: NDArray[np.float64],
    mask: NDArray[np.bool_],
    folder: ImageFolder | None,
) -> NDArray[np.float64]:
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
    if kind is PerturbationKind.ANTICORRELATED:
        return 1.0 - target
    return target


def _tensor(images: Sequence[NDArray[np.generic]]) -> Tensor:
    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
