"""Posed views: what they refuse, and how they are chosen and batched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gslrm.data import PosedViews, SceneError, stack_views, synthetic_scene


@pytest.fixture(scope="module")
def views() -> PosedViews:
    return synthetic_scene(3, 8)


@pytest.mark.parametrize(
    ("field", "spoil", "message"),
    [
        ("images", lambda x: x[:, :2], "images have shape"),
        ("images", lambda x: x[:0], "images have shape"),
        ("images", lambda x: x * 2, r"images leave \[0, 1\]"),
        ("images", lambda x: x - 0.1, r"images leave \[0, 1\]"),
        ("images", lambda x: torch.full_like(x, torch.nan), "images holds a NaN"),
        ("images", lambda x: x.double(), "images is torch.float64"),
        ("c2w", lambda x: x[:2], "c2w is torch.float32 of shape"),
        ("c2w", lambda x: x / 0, "c2w holds a NaN or an infinity"),
        ("intrinsics", lambda x: x[:, :3], "intrinsics is"),
        ("intrinsics", lambda x: -x, "focal length"),
        ("ids", lambda x: x[:1], "1 ids for 3 images"),
    ],
)
def test_wrong_fields_are_named(views: PosedViews, field: str, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SceneError, match=rf"scene 'synthetic_0': .*{message}"):
        replace(views, **{field: spoil(getattr(views, field))})


def test_views_are_chosen(views: PosedViews) -> None:
    chosen = views.select([2, 0])
    assert chosen.ids == (views.ids[2], views.ids[0])
    for name in ("images", "c2w", "intrinsics"):
        assert torch.equal(getattr(chosen, name)[0], getattr(views, name)[2])
    with pytest.raises(SceneError, match="but not 3"):
        views.select([3])
    with pytest.raises(SceneError, match="but not -1"):
        views.select([-1])


def test_scenes_are_stacked(views: PosedViews) -> None:
    other = synthetic_scene(3, 8, seed=1)
    batch = stack_views([views, other])
    assert batch.images.shape == (2, 3, 4, 8, 8)
    assert torch.equal(batch.images[1], other.images)
    assert torch.equal(batch.c2w[0], views.c2w)
    assert batch.scenes == ("synthetic_0", "synthetic_1")
    assert torch.equal(batch.first(2).intrinsics, batch.intrinsics[:, :2])
    with pytest.raises(SceneError, match="'synthetic_0' and 'synthetic_2' do not fit"):
        stack_views([views, synthetic_scene(2, 8, seed=2)])
    with pytest.raises(SceneError, match="at least one"):
        stack_views([])
