"""LPIPS with VGG16 (Zhang et al. 2018), from the `lpips` package, which is optional."""

from __future__ import annotations

import importlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gslrm.files import one_line


class LpipsError(ValueError):
    """LPIPS cannot be had here; the message says why."""


class LpipsLoss(nn.Module):
    """Mean LPIPS-VGG distance of pictures in [0, 1].

    The `lpips` package holds its own linear weights; it needs torchvision, which fetches VGG16's weights into
    its cache the first time, unless they are there. This project fetches nothing of itself, so put them there
    beforehand where there is no network. Raises LpipsError when the package, or torchvision, is absent, or their
    weights cannot be read.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            lpips = importlib.import_module("lpips")
        except ImportError as error:
            raise LpipsError(
                f"the LPIPS term needs the lpips package, which cannot be imported ({error}): "
                "`pip install lpips`, or set its weight to 0"
            ) from error
        try:
            network: nn.Module = lpips.LPIPS(net="vgg", verbose=False)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file of theirs, or one that could not be fetched
            raise LpipsError(
                f"the LPIPS term: the weights of lpips or torchvision cannot be read ({one_line(str(error))}): put "
                "them into torch's cache anew, or set its weight to 0"
            ) from error
        self.network = network.requires_grad_(False).eval()

    def forward(self, rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """The mean over n pictures; 0 for equal ones. In float32 whatever autocast says.

        Raises ValueError for pictures that differ in shape or are not RGB.
        """
        if rendering.shape != target.shape or rendering.dim() != 4 or rendering.shape[1] != 3:
            raise ValueError(
                f"pictures of shapes {tuple(rendering.shape)} and {tuple(target.shape)}: expected the same "
                "(n, 3, height, width) twice"
            )
        with torch.autocast(rendering.device.type, enabled=False):
            distance: Tensor = self.network(rendering.float() * 2 - 1, target.float() * 2 - 1)
            return distance.mean()
