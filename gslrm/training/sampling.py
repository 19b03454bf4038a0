"""Which scenes and views a pass sees: a pure function of seed, pass and process, so that a resumed run repeats it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gslrm.config import DatasetConfig
from gslrm.data.views import PosedViews, SceneError, ViewBatch, stack_views


@dataclass(frozen=True)
class Sampler:
    """Draws batches of ``batch_size`` scenes from scenes held in memory.

    Raises:
        SceneError: a scene has fewer views than a pass needs.
    """

    scenes: Sequence[PosedViews]
    config: DatasetConfig
    seed: int = 0
    rank: int = 0
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not self.scenes:
            raise SceneError("there is no scene to train on")
        for scene in self.scenes:
            if len(scene.ids) < self.config.num_views:
                raise SceneError(
                    f"scene {scene.scene!r} has {len(scene.ids)} views, but num_views is {self.config.num_views}"
                )

    def passes_per_epoch(self, processes: int = 1) -> int:
        """Passes in which so many processes see as many scenes as there are."""
        return math.ceil(len(self.scenes) / (self.batch_size * processes))

    def batch(self, pass_step: int) -> ViewBatch:
        """The batch of this pass: ``batch_size`` scenes, ``num_views`` different views of each."""
        mixed = ((self.seed * 1_000_003 + pass_step) * 1_000_003 + self.rank) % 2**63
        generator = torch.Generator().manual_seed(mixed)
        drawn = []
        for _ in range(self.batch_size):
            scene = self.scenes[int(torch.randint(len(self.scenes), (), generator=generator))]
            views = torch.randperm(len(scene.ids), generator=generator)[: self.config.num_views]
            drawn.append(scene.select(views.tolist()))
        return stack_views(drawn)
