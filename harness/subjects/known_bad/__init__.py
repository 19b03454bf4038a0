"""Subjects that are known to be wrong, written from the analysis of a masked SSIM loss that went negative.

The harness must convict each; they are what its own tests are tested on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownBad:
    """One of them: its spec, which kind of subject it is, and what is wrong with it."""

    spec: str
    kind: str
    fault: str


KNOWN_BAD = (
    KnownBad(
        "harness.subjects.known_bad.losses:LossBeforeFix",
        "loss",
        "1 − SSIM with no bound: below 0 in half precision",
    ),
    KnownBad(
        "harness.subjects.known_bad.losses:LossWithClamp",
        "loss",
        "SSIM clamped to [0, 1]: in range, but wrong in half precision and without gradient where it clamps",
    ),
    KnownBad(
        "harness.subjects.known_bad.steps:StepBeforeFix",
        "step",
        "scaler.update() left out on a skipped step: the next unscale_() raises RuntimeError",
    ),
    KnownBad(
        "harness.subjects.known_bad.steps:StepAfterReport",
        "step",
        "scaler.update() always called: raises AssertionError after a NaN or inf loss",
    ),
)
