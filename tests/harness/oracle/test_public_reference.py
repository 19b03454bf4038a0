"""The oracles against the public implementation's own numbers."""

from __future__ import annotations

import pytest
import torch

from harness.cases.loss_inputs import LossInputs, MaskedPair, PointMap
from harness.oracle.definitions import DEFINITIONS
from tests.gslrm import public_reference
from tests.gslrm.public_reference import Reference

# SSIM's window is rounded to float32 in the public numbers, though the images are float64.
_WINDOW = 1.2e-7
_DEFINITIONS = {
    "l2": "mse",
    "l2_unclamped": "mse",
    "masked_l2": "masked-mse",
    "ssim": "ssim",
    "masked_ssim": "masked-ssim",
    "background": "background",
    "pixelalign": "pixel-alignment",
    "masked_pixelalign": "masked-pixel-alignment",
    "pointsdist": "points-distance",
}


@pytest.fixture(scope="module", params=["reduced", "whole"])
def reference(request: pytest.FixtureRequest) -> Reference:
    found = public_reference.reduced() if request.param == "reduced" else public_reference.whole()
    if found is None:
        pytest.skip("the whole reference is not beside this checkout (../shared/data/gslrm_reference)")
    return found


def _case(reference: Reference, name: str) -> LossInputs:
    """The reference's batch, its views folded: an oracle knows no clamp, so the rendering is clamped before it."""
    given = {key: tensor.flatten(0, 1) for key, tensor in reference.loss_inputs().items()}
    target, mask = given["target"].split([3, 1], dim=1)
    if DEFINITIONS[_DEFINITIONS[name]].on_points:
        return PointMap(given["xyz"], given["ray_o"], given["ray_d"], mask)
    rendering = given["rendering"] if name == "l2_unclamped" else given["rendering"].clamp(0, 1)
    return MaskedPair(rendering, target, mask)


@pytest.mark.parametrize("name", _DEFINITIONS)
def test_an_oracle_is_the_public_term(reference: Reference, name: str) -> None:
    case = _case(reference, name)
    truth = DEFINITIONS[_DEFINITIONS[name]].oracle(case)
    theirs = reference.cases[name]["loss"]
    assert abs(truth.value - theirs) <= 1e-6 * theirs + (_WINDOW if "ssim" in name else 0.0)
    gradient = truth.gradient
    if isinstance(case, MaskedPair) and name != "l2_unclamped":
        beyond = reference.loss_inputs()["rendering"].flatten(0, 1)
        gradient = gradient.where((beyond >= 0) & (beyond <= 1), 0.0)
    kind = "xyz" if isinstance(case, PointMap) else "rendering"
    held = reference.losses[f"{name}/grad_{kind}"].flatten().double()
    difference = reference.thinned("gradients", gradient) - held
    assert float(torch.linalg.vector_norm(difference)) <= 1e-5 * float(torch.linalg.vector_norm(held))
