"""A made-up scene: shaded ellipsoids seen from a circle of cameras, met with each ray in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from gslrm.data.cameras import Frame, write_cameras
from gslrm.data.images import composite
from gslrm.data.scene import assemble
from gslrm.data.views import PosedViews

RADIUS = 2.7
"""Distance of every camera from the origin, world units; that of the public data."""
ELEVATION = np.deg2rad(20.0)
HALF_FIELD_OF_VIEW = np.deg2rad(25.0)
_LIGHT = np.array([0.4, -0.3, 0.866])
_AMBIENT = 0.35
_SAMPLES = 3  # rays a pixel, along each side


@dataclass(frozen=True)
class Ellipsoids:
    """n coloured ellipsoids. centres and axes (half lengths): world units. rotations: own axes to world.
    colours: RGB in [0, 1]."""

    centres: Float64[np.ndarray, "n 3"]
    axes: Float64[np.ndarray, "n 3"]
    rotations: Float64[np.ndarray, "n 3 3"]
    colours: Float64[np.ndarray, "n 3"]


def synthetic_scene(
    n_views: int = 8,
    image_size: int = 64,
    *,
    n_blobs: int = 5,
    seed: int = 0,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    folder: Path | str | None = None,
) -> PosedViews:
    """Views of `n_blobs` ellipsoids near the origin, from cameras evenly on a circle around them.

    The same arguments give the same scene. With `folder` it is also written there, as a scene of RGBA
    pictures, and `load_scene` of it gives these very views. Raises ValueError for counts below 1.
    """
    if min(n_views, image_size, n_blobs) < 1:
        raise ValueError(f"n_views {n_views}, image_size {image_size} and n_blobs {n_blobs} must be at least 1")
    blobs = _blobs(n_blobs, np.random.default_rng(seed))
    focal = 0.5 * image_size / float(np.tan(HALF_FIELD_OF_VIEW))
    frames, pictures = [], []
    for view in range(n_views):
        w2c = look_at_origin(2 * np.pi * view / n_views)
        centre = image_size / 2
        name = f"images/cam_{view:03d}.png"
        frames.append(Frame(image_size, focal, focal, centre, centre, w2c, name))
        pictures.append(draw(blobs, frames[-1]))
    scene = f"synthetic_{seed}"
    if folder is not None:
        (Path(folder) / "images").mkdir(parents=True, exist_ok=True)
        for frame, picture in zip(frames, pictures, strict=True):
            pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
            Image.fromarray(pixels).save(Path(folder) / frame.file_path)
        write_cameras(Path(folder), scene, frames)
    return assemble([composite(picture, background) for picture in pictures], frames, image_size, scene)


def look_at_origin(azimuth: float) -> Float64[np.ndarray, "4 4"]:
    """World-to-camera matrix of the camera on the circle at `azimuth` radians; the world's z is up."""
    position = RADIUS * np.array(
        [np.cos(ELEVATION) * np.cos(azimuth), np.cos(ELEVATION) * np.sin(azimuth), np.sin(ELEVATION)]
    )
    forward = -position / RADIUS
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    w2c = np.eye(4)
    w2c[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    w2c[:3, 3] = -w2c[:3, :3] @ position
    return w2c


def draw(blobs: Ellipsoids, frame: Frame) -> UInt8[np.ndarray, "4 h w"]:
    """Straight RGBA of the nearest ellipsoid on each ray, Lambert-shaded, averaged over a pixel's rays."""
    c2w = frame.c2w()
    n = frame.size * _SAMPLES
    u = ((np.arange(n) + 0.5) / _SAMPLES - frame.cx) / frame.fx
    v = ((np.arange(n) + 0.5) / _SAMPLES - frame.cy) / frame.fy
    rays = np.stack([*np.meshgrid(u, v), np.ones((n, n))], axis=-1) @ c2w[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    nearest = np.full((n, n), np.inf)
    colour = np.zeros((n, n, 3))
    for i in range(len(blobs.centres)):
        # In the ellipsoid's own axes, divided by their lengths, it is the unit sphere.
        whiten = blobs.rotations[i].T / blobs.axes[i][:, None]
        origin, direction = whiten @ (c2w[:3, 3] - blobs.centres[i]), rays @ whiten.T
        a, b = (direction**2).sum(-1), direction @ origin
        discriminant = b**2 - a * (origin @ origin - 1)
        distance = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        hit = (discriminant > 0) & (distance > 0) & (distance < nearest)
        normal = (origin + distance[..., None] * direction) @ whiten
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        shade = _AMBIENT + (1 - _AMBIENT) * np.maximum(normal @ _LIGHT, 0)
        nearest = np.where(hit, distance, nearest)
        colour = np.where(hit[..., None], blobs.colours[i] * shade[..., None], colour)
    covered = np.concatenate([colour, np.isfinite(nearest)[..., None]], axis=-1)
    pixels = covered.reshape(frame.size, _SAMPLES, frame.size, _SAMPLES, 4).mean(axis=(1, 3))
    pixels[..., :3] /= np.maximum(pixels[..., 3:], 1 / _SAMPLES**2)
    return np.rint(pixels.transpose(2, 0, 1).clip(0, 1) * 255).astype(np.uint8)


def _blobs(n: int, rng: np.random.Generator) -> Ellipsoids:
    rotations, _ = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    return Ellipsoids(
        centres=rng.uniform(-0.4, 0.4, (n, 3)),
        axes=rng.uniform(0.15, 0.4, (n, 3)),
        rotations=rotations,
        colours=rng.uniform(0.1, 0.9, (n, 3)),
    )
