"""Descriptors: small frozen values that say which tensors, or which fault program, a case is.

Hypothesis draws and shrinks these, files hold them as JSON, and :mod:`harness.cases.tensors` builds from them the same
numbers on every machine.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.cases.worlds import OPTIONAL, World

MOST_ELEMENTS = 2**22
"""Numbers in one tensor of a case. At most, a masked SSIM and its float64 truth take about 1 GB and a minute."""
MOST_DRAWN_PIXELS = 2**17
"""Pixels of masks that are drawn one by one."""


class PictureKind(str, enum.Enum):
    """What the target shows, from plain to real."""

    FLAT = "flat"  # one grey level
    SMOOTH = "smooth"  # random colours on a 3×3 grid, interpolated
    TEXTURE = "texture"  # smooth, plus as much noise again
    PHOTO = "photo"  # a region of a photograph that scikit-image ships
    FILE = "file"  # one of the user's own pictures


class MaskKind(str, enum.Enum):
    """The foreground's shape."""

    FULL = "full"
    PIXEL = "pixel"
    LINE = "line"
    DISC = "disc"
    BLOB = "blob"  # grown pixel by pixel
    BORDER = "border"  # a disc whose centre lies on the image's edge
    ISLANDS = "islands"  # several single pixels
    EMPTY = "empty"
    OWN = "own"  # the mask that comes with the user's own picture


class MaskValues(str, enum.Enum):
    """What the mask is handed over as, in the properties that look at that."""

    NUMBERS = "numbers"  # 0 and 1 in the images' dtype; for a soft mask quarters
    ANY = "any"  # a soft mask of any values from 0 to 1, those next to 0.5 among them
    BOOLEANS = "booleans"
    WHOLE = "whole numbers"  # 0 and 1, uint8
    BYTES = "bytes"  # 0 and 255, uint8, as a picture's alpha has it


class Hidden(str, enum.Enum):
    """What stands in the pixels that the mask leaves out, where it is replaced."""

    NUMBERS = "numbers"
    NAN_RENDERING = "NaN in the rendering"
    NAN_TARGET = "NaN in the target"
    INF_RENDERING = "infinity in the rendering"
    INF_TARGET = "infinity in the target"


class PerturbationKind(str, enum.Enum):
    """How the rendering departs from the target."""

    NONE = "none"
    OFFSET = "offset"
    NOISE = "noise"
    PIXEL = "pixel"  # one pixel of the foreground
    BLUR = "blur"
    SHIFT = "shift"  # one pixel to the right
    UNRELATED = "unrelated"  # another picture; magnitude unused
    ANTICORRELATED = "anticorrelated"  # the negative about mid-grey; magnitude unused
    OVERSHOOT = "overshoot"  # from −0.02 to 1.05, as renderers give that don't clamp; magnitude unused
    PATCH = "negative in the foreground"  # and equal elsewhere; magnitude unused; only of large pictures


class Flaw(str, enum.Enum):
    """What is wrong with an input that must be refused."""

    SHAPES_DIFFER = "shapes differ"
    RANK = "three dimensions"
    INTEGER = "integer pixels"
    NAN = "NaN in the foreground"
    SMALL = "side of 10 pixels"
    MASK_SHAPE = "mask of another size"
    NO_IMAGE = "no image"


@dataclass(frozen=True)
class Picture:
    """The target. ``level``: grey of a flat one, 0…255.  ``name``: file of the user's own, or of a photograph."""

    kind: PictureKind = PictureKind.FLAT
    level: int = 128
    name: str = ""


@dataclass(frozen=True)
class Mask:
    """The foreground: a shape of about ``pixels`` pixels (exactly, for disc, border and blob where they fit)."""

    kind: MaskKind = MaskKind.FULL
    pixels: int = 1
    values: MaskValues = field(default=MaskValues.NUMBERS, metadata=OPTIONAL)


@dataclass(frozen=True)
class Perturbation:
    """``magnitude`` is in units of the image range [0, 1]; for blur and shift, the share that is blended in."""

    kind: PerturbationKind = PerturbationKind.NONE
    magnitude: float = 0.1


@dataclass(frozen=True)
class LossCase:
    """A batch of masked image pairs: ``batch * views`` images of 3×height×width, values in [0, 1]."""

    height: int = 16
    width: int = 16
    batch: int = 1
    views: int = 1
    seed: int = 0
    picture: Picture = Picture()
    mask: Mask = Mask()
    perturbation: Perturbation = Perturbation()
    flaw: Flaw | None = None
    hidden: Hidden = field(default=Hidden.NUMBERS, metadata=OPTIONAL)

    @property
    def images(self) -> int:
        return self.batch * self.views

    @property
    def elements(self) -> int:
        """Numbers in the images."""
        return self.images * 3 * self.height * self.width

    @property
    def drawn_pixels(self) -> int:
        """Pixels that are drawn one by one."""
        one_by_one = self.mask.kind in (MaskKind.LINE, MaskKind.BLOB, MaskKind.ISLANDS)
        return self.images * min(self.mask.pixels, self.height * self.width) if one_by_one else 0


class Action(str, enum.Enum):
    """One action of a fault program: a micro-step, or a save and restore between two of them."""

    GOOD = "good"  # gradient elements of 2⁻⁴
    LARGE = "large"  # 2: over the clip norm, under the limit
    HUGE = "huge"  # 2⁷: over the limit
    TINY = "tiny"  # 2⁻³⁰: vanishes in float16 at a small scale
    OVERFLOW = "overflow"  # 2⁴⁰: beyond float16 at any scale
    NAN_LOSS = "nan loss"
    INF_LOSS = "inf loss"  # an infinite loss with finite gradients
    NAN_BACKWARD = "nan backward"  # a finite loss whose gradients are NaN
    FROZEN = "frozen"  # a loss that reaches no parameter
    UNDER = "just under the limit"  # a norm 3 % below the one over which a window is dropped, or clipped
    OVER = "just over the limit"  # 5 % above
    RESTORE = "save and restore"


@dataclass(frozen=True)
class StepCase:
    """A fault program: the setting, then actions in order.

    Attributes:
        accumulation: micro-steps in a window: 1 to 4.
        scale_exponent: the scaler starts at 2 to this power.
        growth_interval: finite windows after which the scaler doubles its scale.
        world: what surrounds the step.
    """

    accumulation: int = 1
    scale_exponent: int = 10
    growth_interval: int = 2
    actions: tuple[Action, ...] = ()
    world: World = field(default=World(), metadata=OPTIONAL)

    @property
    def micro_steps(self) -> int:
        return sum(action is not Action.RESTORE for action in self.actions)


class PassKind(str, enum.Enum):
    """One pass of a whole training: what is wrong with its batch, or a save and restore between two passes."""

    GOOD = "good"
    NAN_PIXELS = "nan pixels"  # one pixel of a view, in the foreground
    EXPLODING_VIEW = "exploding view"  # a view's colours times 10⁴
    OVERFLOW = "overflow"  # a view's colours beyond float16
    ALL_BACKGROUND = "all-background mask"
    ONE_PIXEL = "one-pixel mask"
    FROZEN = "frozen"  # no parameter takes a gradient
    RESTORE = "save and restore"


@dataclass(frozen=True)
class TrainingCase:
    """A fault program of a whole training.

    Attributes:
        accumulation, scale_exponent, growth_interval: as in :class:`StepCase`.
        actions: in order.
        second_rank: those of a second process that trains along, as many; empty where there is none.
    """

    accumulation: int = 1
    scale_exponent: int = 10
    growth_interval: int = 2
    actions: tuple[PassKind, ...] = ()
    second_rank: tuple[PassKind, ...] = ()

    @property
    def micro_steps(self) -> int:
        return sum(kind is not PassKind.RESTORE for kind in self.actions)


ProgramCase = StepCase | TrainingCase
Case = LossCase | ProgramCase


def with_actions(case: ProgramCase, actions: Sequence[Action | PassKind]) -> ProgramCase:
    """The same setting with another program, of actions of the case's own kind."""
    changed: ProgramCase = replace(case, actions=tuple(actions))  # type: ignore[arg-type]
    return changed
