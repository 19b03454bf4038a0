"""Scenes: posed pictures of an object, read from disk or made up."""

from gslrm.data.listing import read_scene_list, scene_folders
from gslrm.data.scene import load_scene
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import PosedViews, SceneError, ViewBatch, stack_views

__all__ = [
    "PosedViews",
    "SceneError",
    "ViewBatch",
    "load_scene",
    "read_scene_list",
    "scene_folders",
    "stack_views",
    "synthetic_scene",
]
