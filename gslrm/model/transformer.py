"""Pre-norm transformer blocks without biases and without dropout."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Linear(nn.Linear):
    """A linear layer without bias, whose weight is left unset: whoever builds a model from it draws the
    weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draw nothing: it would come from the global generator."""


class Attention(nn.Module):
    """Self-attention among all tokens, with heads `d_head` wide."""

    def __init__(self, d: int, d_head: int) -> None:
        super().__init__()
        self.d_head = d_head
        self.to_qkv = Linear(d, 3 * d)
        self.fc = Linear(d, d)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        # to_qkv's outputs are queries, then keys, then values, each of them head by head.
        q, k, v = self.to_qkv(x).unflatten(-1, (3, -1, self.d_head)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v)
        return self.fc(heads.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(d, 4 * d), nn.GELU(), Linear(4 * d, d))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.mlp(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, d: int, d_head: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, bias=False)
        self.attn = Attention(d, d_head)
        self.norm2 = nn.LayerNorm(d, bias=False)
        self.mlp = Mlp(d)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def run_blocks(
    blocks: Iterable[nn.Module], x: Float[Tensor, "b n d"], checkpoint_every: int = 0
) -> Float[Tensor, "b n d"]:
    """The blocks, one after another.

    Where there is a backward pass to come, each `checkpoint_every` blocks keep only their input, and compute
    the rest again in it; 0 keeps all.
    """
    blocks = list(blocks)
    if checkpoint_every < 1:
        return _run(blocks, x)
    for first in range(0, len(blocks), checkpoint_every):
        # Nothing in a block is random, so there is no generator's state to keep.
        x = checkpoint(_run, blocks[first : first + checkpoint_every], x, use_reentrant=False, preserve_rng_state=False)
    return x


def _run(blocks: list[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x
