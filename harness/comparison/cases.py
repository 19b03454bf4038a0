"""The cases that two implementations are compared on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from harness.cases.descriptors import (
    LossCase,
    Mask,
    MaskKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
)
from harness.cases.strategies import (
    ACCUMULATIONS,
    DRAWN_MASKS,
    GROWTH_INTERVALS,
    MICRO_STEPS,
    SCALE_EXPONENTS,
    loss_cases,
)
from harness.oracle.definitions import LossDefinition
from harness.properties import sampling

_LONGEST_PROGRAM = 10
_TIMED_LOSS = LossCase(
    128,
    128,
    batch=2,
    picture=Picture(PictureKind.TEXTURE),
    mask=Mask(MaskKind.DISC, 5000),
    perturbation=Perturbation(PerturbationKind.NOISE),
)

TIMED_STEP = StepCase(actions=MICRO_STEPS * 2)
"""The program on which two steps are timed."""


def loss_cases_for(definition: LossDefinition) -> st.SearchStrategy[LossCase]:
    """Losses' cases that such a loss has something to say of."""
    smallest, largest = sampling.sides(definition)
    return loss_cases(
        masks=sampling.masks(definition, DRAWN_MASKS),
        magnitudes=sampling.magnitudes(definition),
        smallest_side=smallest,
        largest_side=largest,
    )


def timed_loss(definition: LossDefinition) -> LossCase:
    """The case on which two losses are timed."""
    smallest, largest = sampling.sides(definition)
    # What looks through a network is slow enough on the images that are drawn.
    side = largest if definition.needs_convolutions else max(_TIMED_LOSS.height, smallest)
    return replace(_TIMED_LOSS, height=side, width=side)


def step_cases() -> st.SearchStrategy[StepCase]:
    """Steps' programs, at most ten actions long."""
    actions = st.lists(st.sampled_from(MICRO_STEPS), min_size=1, max_size=_LONGEST_PROGRAM)
    return st.builds(
        lambda case, actions: replace(case, actions=tuple(actions)),
        st.builds(
            StepCase,
            st.sampled_from(ACCUMULATIONS),
            st.sampled_from(SCALE_EXPONENTS),
            st.sampled_from(GROWTH_INTERVALS),
        ),
        actions,
    )
