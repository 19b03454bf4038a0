"""Blocks: attention against its formula, and recomputation in the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gslrm.model.transformer import Attention, Block, Mlp, run_blocks


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(std=0.3, generator=generator))
    return module.double()


def tokens(n: int = 7, d: int = 12) -> torch.Tensor:
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(1)).double()


def test_attention_is_its_formula() -> None:
    attention, x = drawn(Attention(12, 4)), tokens()
    weight = attention.get_parameter("to_qkv.weight")
    heads = []
    for head in range(3):
        # Queries, keys and values are the three thirds of the projection, and heads run within each.
        q, k, v = (x @ weight[12 * i + 4 * head : 12 * i + 4 * head + 4].T for i in range(3))
        heads.append(((q @ k.transpose(1, 2)) / 2.0).softmax(-1) @ v)
    expected = torch.cat(heads, -1) @ attention.get_parameter("fc.weight").T
    torch.testing.assert_close(attention(x), expected)


def test_a_block_adds_to_what_it_gets() -> None:
    block, x = drawn(Block(12, 4)), tokens()
    assert isinstance(block, Block)
    middle = x + block.attn(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.mlp(block.norm2(middle)))
    mlp = Mlp(12)
    assert [tuple(p.shape) for p in mlp.parameters()] == [(48, 12), (12, 48)]


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_recomputation_changes_no_gradient(every: int) -> None:
    blocks = nn.ModuleList(drawn(Block(12, 4), seed) for seed in range(3))

    def gradients(every: int) -> list[torch.Tensor]:
        x = tokens().requires_grad_()
        blocks.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):  # recomputed under the same autocast
            run_blocks(blocks, x, every).square().sum().backward()
        return [x.grad, *(p.grad.clone() for p in blocks.parameters())]  # type: ignore[list-item, union-attr]

    for plain, recomputed in zip(gradients(0), gradients(every), strict=True):
        assert torch.equal(plain, recomputed)


class _Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (x * self.weight).sin()


@pytest.mark.parametrize(("every", "calls"), [(0, 1), (1, 2), (2, 2)])
def test_blocks_run_again_only_when_asked(every: int, calls: int) -> None:
    blocks = [_Counter() for _ in range(3)]
    run_blocks(blocks, torch.ones(1, 1, 1), every).sum().backward()
    assert [block.calls for block in blocks] == [calls] * 3
    with torch.no_grad():
        run_blocks(blocks, torch.ones(1, 1, 1), every)
    assert blocks[0].calls == calls + 1


def test_what_is_kept_is_one_input_for_each_group() -> None:
    blocks = nn.ModuleList(drawn(Block(12, 4), seed) for seed in range(4))

    def kept(every: int) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            run_blocks(blocks, tokens().requires_grad_(), every)
        return sum(sizes)

    assert kept(2) < kept(0) / 4
