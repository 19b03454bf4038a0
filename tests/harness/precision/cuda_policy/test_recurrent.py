"""Recurrent layers get the dtype that cuDNN's get: float16, in a bfloat16 region too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.precision.cuda_policy.dispatcher import autocast_ops
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.proofs.cross_check import HALVES, with_inputs_in
from harness.precision.cuda_policy.proofs.dtype_oracle import expected_casts, expected_dtype
from harness.precision.cuda_policy.proofs.op_samples import sample_call
from harness.precision.cuda_policy.recurrent import CUDNN_OP, LAYER_OPS
from tests.harness.rounding.traces import F16, F32, F64

pytestmark = pytest.mark.usefixtures("leaves_no_trace")


@pytest.mark.parametrize("region", HALVES, ids=str)
@pytest.mark.parametrize("name", LAYER_OPS)
def test_layer_has_the_value_of_casts_by_hand(name: str, region: torch.dtype) -> None:
    op, args = op_overload(name), sample_call(name).args
    with emulate_cuda_autocast(region):
        got = op(*args)
        kept = op(*with_inputs_in(args, F64))
        with torch.autocast("cuda", enabled=False):
            off = op(*args)
    for emulated, by_hand in zip(got, op(*with_inputs_in(args, F16)), strict=True):
        assert emulated.dtype is F16
        assert emulated.equal(by_hand)
    assert {t.dtype for t in kept} == {F64}
    assert {t.dtype for t in off} == {F32}


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_modules_and_their_gradients(layer: Any) -> None:
    torch.manual_seed(0)
    module = layer(3, 4, num_layers=2, bidirectional=True)
    packed = pack_sequence([torch.rand(5, 3), torch.rand(3, 3)])
    with emulate_cuda_autocast(torch.bfloat16):
        out, _ = module(torch.rand(5, 2, 3))
        of_packed, _ = module(packed)
    assert isinstance(of_packed, PackedSequence)
    assert (out.dtype, of_packed.data.dtype) == (F16, F16)
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype is F32 and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.skipif(CUDNN_OP not in autocast_ops("cuda"), reason="a CPU build has no cuDNN to cast for")
@pytest.mark.parametrize("region", HALVES, ids=str)
def test_cudnns_own_op_is_cast_to_float16_in_any_region(region: torch.dtype) -> None:
    x, (h, c), weights, *_ = sample_call("lstm.input").args
    # With weights in float16 there is nothing to flatten, for which a GPU would be needed.
    weights = tree_map_only(Tensor, Tensor.half, weights)
    args = (x, weights, 4, None, h, c, 2, 4, 0, 1, False, 0.0, True, False, [], None)
    op = op_overload(CUDNN_OP)
    assert expected_casts(op, args, region) == [F16] * 3
    dtypes = [d for d in tree_leaves(expected_dtype(op, args, region)) if isinstance(d, torch.dtype)]
    assert dtypes[:3] == [F16] * 3
