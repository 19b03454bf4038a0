"""From a descriptor to maps of points on rays, or off them: the same bits for the same case on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import PointMap
from harness.cases.random_numbers import RandomNumbers
from harness.cases.tensors import perturbed, target_and_mask, to_tensor

_RAYS, _DEPTH = 5, 6
# The camera stands here, give or take _SWAY in each coordinate, and looks along +z with a field of view of 2·atan(0.3).
_CAMERA, _SWAY, _HALF_WIDTH = (0.0, 0.0, -2.0), 0.2, 0.3


def build_points(case: LossCase, folder: ImageFolder | None = None) -> PointMap:
    """The case's points, rays and mask, float32 on the CPU, in world units.

    Points lie on their rays, as far as float32 can hold them there, 1.5 to 2.5 from the camera: farther where the
    picture is brighter, with as much roughness again, so that distances are never all one. The map of points is then
    perturbed as if it were a picture: an offset moves all coordinates, a shift brings each point to its neighbour's
    pixel, an unrelated one puts them anywhere in the unit cube. Image i of a batch is the one image of a case whose
    seed is i larger.
    """
    points, origins, directions, masks = [], [], [], []
    for index in range(case.images):
        target, mask = target_and_mask(case, index, folder)
        # Points are put on the rays that float32 holds, not on those it was rounded from.
        origin, direction = (_rounded(part) for part in _rays(case, index))
        rough = RandomNumbers(case.seed + index, _DEPTH).uniform(case.height, case.width, 1)
        on_rays = origin + (1.5 + 0.5 * target[..., :1] + 0.5 * rough) * direction
        points.append(perturbed(case, index, on_rays, mask, folder))
        origins.append(origin)
        directions.append(direction)
        masks.append(mask[..., None])
    return PointMap(to_tensor(points), to_tensor(origins), to_tensor(directions), to_tensor(masks))


def _rays(case: LossCase, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origins and unit directions (h, w, 3), by +, −, ×, ÷ and √, which IEEE 754 rounds alike everywhere."""
    sway, tilt = RandomNumbers(case.seed + index, _RAYS).uniform(2, 3) - 0.5
    origin = np.broadcast_to(np.array(_CAMERA) + _SWAY * sway, (case.height, case.width, 3))
    y, x = (
        _HALF_WIDTH * (2.0 * (np.arange(side) + 0.5) / side - 1.0) + _SWAY * lean
        for side, lean in ((case.height, tilt[0]), (case.width, tilt[1]))
    )
    y, x = np.broadcast_arrays(y[:, None], x[None, :])
    length = np.sqrt(x * x + y * y + 1.0)
    return origin, np.stack([x / length, y / length, 1.0 / length], axis=-1)


def _rounded(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return array.astype(np.float32).astype(np.float64)
