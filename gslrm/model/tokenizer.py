"""Pictures to tokens, one for each patch, and back."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from gslrm.model.transformer import Linear


class Patchify(nn.Module):
    """Cut pictures into square patches; a token's numbers are ordered by row, column and channel."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, images: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b n p"]:
        """n = v·(h/p)·(w/p) tokens of p²·c numbers, ordered by view, patch row and patch column."""
        p = self.patch_size
        b, v, c, h, w = images.shape
        patches = images.reshape(b, v, c, h // p, p, w // p, p)
        return patches.permute(0, 1, 3, 5, 4, 6, 2).reshape(b, v * (h // p) * (w // p), p * p * c)

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}"


def unpatchify(
    tokens: Float[Tensor, "b n p"], patch_size: int, views: int, height: int, width: int
) -> Float[Tensor, "b v h w c"]:
    """The pictures that `Patchify` would cut into `tokens`, channels last; or of tokens that are single pixels, in the
    same order."""
    rows, columns = height // patch_size, width // patch_size
    patches = tokens.reshape(tokens.shape[0], views, rows, columns, patch_size, patch_size, -1)
    return patches.permute(0, 1, 2, 4, 3, 5, 6).reshape(tokens.shape[0], views, height, width, -1)


def patch_embedder(patch_size: int, channels: int, width: int) -> nn.Sequential:
    """Patches of pictures with `channels`, and one linear layer to tokens `width` wide."""
    return nn.Sequential(Patchify(patch_size), Linear(patch_size**2 * channels, width))
