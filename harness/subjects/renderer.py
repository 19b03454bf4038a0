"""Adapt a function of plain tensors to a renderer of 3D Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.errors import SubjectError
from harness.subject_spec import SubjectSpec
from harness.subjects.door import load_object


@dataclass(frozen=True)
class AdaptedRenderer:
    """``function(xyz, colour, scale, quaternion, opacity, c2w, intrinsics, height, width)`` giving image (v, 3, h, w),
    alpha and depth (v, 1, h, w).
    """

    name: SubjectSpec
    function: Callable[..., Any]

    def __call__(self, fields: dict[str, Tensor], c2w: Tensor, intrinsics: Tensor, size: int) -> dict[str, Tensor]:
        """The pictures by name: ``image``, ``alpha``, ``depth``.

        Raises:
            SubjectError: it returned something else than three tensors of these shapes.
        """
        pictures = self.function(**fields, c2w=c2w, intrinsics=intrinsics, height=size, width=size)
        views = len(c2w)
        expected = [(views, channels, size, size) for channels in (3, 1, 1)]
        shapes = [tuple(getattr(p, "shape", ())) for p in pictures] if isinstance(pictures, (tuple, list)) else None
        if shapes != expected:
            raise SubjectError(
                f"{self.name.spec} returned {shapes or type(pictures).__name__}; a renderer must return image, alpha "
                f"and depth of shapes {expected}."
            )
        return dict(zip(("image", "alpha", "depth"), pictures, strict=True))


def load_renderer(subject: SubjectSpec) -> AdaptedRenderer:
    """Load the renderer.

    Raises:
        SubjectError: it can't be loaded or called.
    """
    function = load_object(subject.spec, subject.root)
    if not callable(function):
        raise SubjectError(f"{subject.spec} is a {type(function).__name__}, which can't be called.")
    return AdaptedRenderer(subject, function)
