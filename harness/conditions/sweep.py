"""A loss over a grid of foregrounds, perturbations, sizes and precisions, and what became of it in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.image_folder import ImageFolder
from harness.cases.pictures import PHOTOGRAPHS
from harness.errors import UsageError, describe_exception, reraise_unless_subjects
from harness.oracle.budget import budget
from harness.oracle.levels import Level
from harness.precision import Precision
from harness.process_state import kept_state
from harness.protocols import LossSubject
from harness.trials.loss_trial import LossTrial

OWN_MASK = 0.0
"""Stands among the shares of foreground for the masks that the user's own pictures come with."""
_PERTURBATIONS = (PerturbationKind.NOISE, PerturbationKind.OFFSET)
_LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Grid:
    """The cases of a sweep.

    Attributes:
        sizes: sides of the square images, in pixels.
        shares: of the foreground in the image, over 0 up to 1; :data:`OWN_MASK` for the pictures' own.
        magnitudes: of the perturbation, in units of the image range [0, 1].
        repeats: cases in each place, of different pictures, half of them with noise and half with an offset.
        seed: of the first.
    """

    sizes: tuple[int, ...] = (32, 64, 128)
    # Powers of four: images of one size and twice its side then share numbers of foreground pixels.
    shares: tuple[float, ...] = (1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1 / 4, 1.0)
    magnitudes: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    repeats: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for what, values, least, most in (
            ("size", self.sizes, 11, _LARGEST_SIDE),
            ("share", self.shares, OWN_MASK, 1.0),
            ("magnitude", self.magnitudes, 0.0, 1.0),
            ("number of repeats", (self.repeats,), 1, 1000),
        ):
            if not values:
                raise UsageError(f"the grid has no {what}: name at least one.")
            for value in values:
                if not least <= value <= most:
                    raise UsageError(f"a {what} is {value:g}, but must lie between {least:g} and {most:g}.")

    @property
    def places(self) -> int:
        """Of the grid, in each precision."""
        return len(self.sizes) * len(self.shares) * len(self.magnitudes)

    def cases(self, place: tuple[int, float, float], folder: ImageFolder | None) -> Iterator[LossCase]:
        """The cases of a place: size, share and magnitude."""
        size, share, magnitude = place
        mask = Mask(MaskKind.OWN) if share == OWN_MASK else _foreground(size, share)
        for index in range(self.repeats):
            seed = self.seed + index
            changed = Perturbation(_PERTURBATIONS[index % len(_PERTURBATIONS)], magnitude)
            yield LossCase(size, size, seed=seed, picture=_picture(seed, folder), mask=mask, perturbation=changed)


def _foreground(size: int, share: float) -> Mask:
    if share == 1.0:
        return Mask(MaskKind.FULL)
    pixels = max(1, round(share * size * size))
    return Mask(MaskKind.PIXEL if pixels == 1 else MaskKind.DISC, pixels)


def _picture(seed: int, folder: ImageFolder | None) -> Picture:
    if folder is not None:
        return Picture(PictureKind.FILE, 0, folder.names[seed % len(folder.names)])
    kinds = (PictureKind.SMOOTH, PictureKind.PHOTO, PictureKind.FLAT, PictureKind.TEXTURE)
    # The perturbation alternates with the seed; pairs of seeds share a picture's kind.
    kind = kinds[(seed // len(_PERTURBATIONS)) % len(kinds)]
    if kind is PictureKind.PHOTO:
        return Picture(kind, 0, PHOTOGRAPHS[seed % len(PHOTOGRAPHS)])
    return Picture(kind, 40 + 37 * (seed % 6)) if kind is PictureKind.FLAT else Picture(kind)


@dataclass
class Tally:
    """What became of the cases of one place under one precision.

    Attributes:
        precision: its name.
        size: side of the images.
        share: of foreground that was asked for; :data:`OWN_MASK` for the pictures' own.
        magnitude: of the perturbation.
        foreground: pixels in the foreground, the mean of the cases.
        cases: how many were run.
        outside: left the loss' range, by however little.
        far_outside: left it by more than rounding.
        wrong: off the truth by more than the error budget and more than rounding.
        not_finite: gave NaN or inf; counted among neither.
        raised: raised an exception; counted among none of the others.
        farthest: out of the range, the largest distance.
        largest_error: the largest |value − truth|.
    """

    precision: str
    size: int
    share: float
    magnitude: float
    foreground: float = 0.0
    cases: int = 0
    outside: int = 0
    far_outside: int = 0
    wrong: int = 0
    not_finite: int = 0
    raised: int = 0
    farthest: float = 0.0
    largest_error: float = 0.0


@dataclass
class Sweep:
    """A sweep's results so far: a tally for each precision and place, in the order they were run."""

    subject: LossSubject
    grid: Grid
    precisions: tuple[str, ...]
    tallies: list[Tally] = field(default_factory=list)
    first_exception: str = ""


def run_sweep(
    subject: LossSubject,
    precisions: Sequence[Precision],
    grid: Grid,
    folder: ImageFolder | None = None,
    done: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Run the grid.

    Args:
        folder: the user's own pictures, which then take the place of the drawn ones.
        done: told after each place under each precision, in words.

    Raises:
        UsageError: the grid wants pictures' own masks and there are none, or the loss isn't one of images.
    """
    if subject.definition.on_points:
        raise UsageError("conditions are measured on losses of images; this one is of points and rays.")
    if OWN_MASK in grid.shares and folder is None:
        raise UsageError("a share of 0 means the pictures' own masks: name a folder of them with --images.")
    sweep = Sweep(subject, grid, tuple(p.name for p in precisions))
    places = [(s, share, m) for s in grid.sizes for share in grid.shares for m in grid.magnitudes]
    truths: dict[tuple[torch.dtype, LossCase], float] = {}
    for precision in precisions:
        with precision.installed():
            for place in places:
                tally = Tally(precision.name, *place)
                for case in grid.cases(place, folder):
                    trial = LossTrial(subject, precision, case, folder)
                    # The truth for inputs of this dtype, whatever autocast surrounds the loss.
                    key = (precision.input_dtype, case)
                    if key not in truths:
                        truths[key] = trial.truth.value
                    _add(tally, sweep, trial, truths[key])
                sweep.tallies.append(tally)
                done(f"{precision.name}, {place[0]} px")
    return sweep


def _add(tally: Tally, sweep: Sweep, trial: LossTrial, truth: float) -> None:
    tally.foreground += (float(trial.inputs.mask.sum()) - tally.foreground) / (tally.cases + 1)
    tally.cases += 1
    try:
        with kept_state():
            value = trial.value(trial.inputs)
    except BaseException as error:
        reraise_unless_subjects(error)
        tally.raised += 1
        sweep.first_exception = sweep.first_exception or describe_exception(error)
        return
    if not math.isfinite(value):
        tally.not_finite += 1
        return
    definition = trial.definition
    distance = max(definition.lower - value, value - definition.upper, 0.0)
    off = abs(value - truth)
    bounds = budget(trial.precision)
    rounding = definition.noise().of_value
    tally.outside += distance > 0.0
    tally.far_outside += rounding(distance) is Level.FAULT
    allowed = bounds.value_relative * abs(truth) + bounds.value_floor
    tally.wrong += off > allowed and rounding(off) is Level.FAULT
    tally.farthest = max(tally.farthest, distance)
    tally.largest_error = max(tally.largest_error, off)
