"""The tiny training on a real head."""

from __future__ import annotations

import functools
from pathlib import Path

from gslrm.data.scene import load_scene
from gslrm.data.views import PosedViews
from gslrm.testing.tiny_training import TinyTraining

HEAD = Path(__file__).resolve().parents[4] / "shared" / "data" / "facelift_head"


@functools.cache
def _head(size: int) -> PosedViews:
    return load_scene(HEAD, size)


class HeadTraining(TinyTraining):
    scene = staticmethod(_head)
