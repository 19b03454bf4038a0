"""Every op of the CUDA lists, and many outside them: the emulation's dtypes are those of torch's CUDA
autocast kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.coverage import only_cpu_casts, unemulated_ops
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.errors import OracleUnavailableError, PolicyMismatchError
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.proofs.cross_check import cross_check, policy_dtype, with_inputs_in
from harness.precision.cuda_policy.proofs.dtype_oracle import casts_made, expected_casts, expected_dtype
from harness.precision.cuda_policy.proofs.op_samples import WITHOUT_CPU_KERNEL, has_sample, sample_call

LISTS = read_autocast_lists()
UNEMULATED = {name for name, _ in unemulated_ops()}
POLICY_OF = {name: policy for name, policy in LISTS.policy_of().items() if name not in UNEMULATED}
CPU_BUILD = torch.version.cuda is None
# Of the listed ops, those that no build runs on fake tensors beyond their casts, and those that look for a driver in a
# CUDA build that has none.
CASTS_ALONE = {"cudnn_convolution", "cudnn_convolution_transpose", "grid_sampler", "gru_cell", "_thnn_fused_gru_cell"}
LOOKING_FOR_A_GPU = {
    *("convolution", "_convolution", "_convolution.deprecated", "conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "scaled_dot_product_attention"),
    "_scaled_dot_product_flash_attention",
}
HALVES = (torch.float16, torch.bfloat16)
# In units of the dtype's rounding, for the longest sum of the samples: inputs, products and the output
# are rounded.
ROUNDINGS = 8


def dtypes_of(out: Any) -> list[torch.dtype]:
    return [t.dtype for t in tree_leaves(out) if isinstance(t, Tensor)]


def ask_oracle(op: Callable[..., Any], args: Any, dtype: torch.dtype, kwargs: Any = None) -> list[torch.dtype]:
    return [d for d in tree_leaves(expected_dtype(op, args, dtype, kwargs)) if isinstance(d, torch.dtype)]


def in_half(args: Any, dtype: torch.dtype, given: str) -> Any:
    """The arguments with their floating tensors in float32, in ``dtype``, or in each in turn."""
    if given == "float32":
        return args
    if given == "half":
        return with_inputs_in(args, dtype)
    turn = iter([dtype, torch.float32] * 10)
    return tree_map_only(Tensor, lambda t: t.to(next(turn)) if t.is_floating_point() else t, args)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", ["float32", "half", "mixed"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", sorted(POLICY_OF))
def test_listed_op_has_the_oracles_dtype(name: str, dtype: torch.dtype, given: str) -> None:
    call, op = sample_call(name), op_overload(name)
    args = in_half(call.args, dtype, given)
    if POLICY_OF[name] == "banned":
        with pytest.raises(RuntimeError, match="BCELoss"):
            ask_oracle(op, args, dtype)
        with emulate_cuda_autocast(dtype), pytest.raises(RuntimeError, match="BCELoss"):
            op(*args)
        return
    if name in WITHOUT_CPU_KERNEL:
        with emulate_cuda_autocast(dtype):
            assert casts_made(lambda: op(*args, **call.kwargs)) == expected_casts(op, args, dtype)
        return
    try:
        want = ask_oracle(op, args, dtype, call.kwargs)
    except OracleUnavailableError:
        assert name in (CASTS_ALONE if CPU_BUILD else CASTS_ALONE | LOOKING_FOR_A_GPU)
        with emulate_cuda_autocast(dtype):
            assert casts_made(lambda: op(*args, **call.kwargs)) == expected_casts(op, args, dtype, call.kwargs)
        want = [policy_dtype(POLICY_OF[name], dtype, torch.float32 if given == "mixed" else args[0].dtype)]
    except RuntimeError:  # CUDA refuses the mixture: so must the emulation
        if given != "mixed":
            raise
        with emulate_cuda_autocast(dtype), pytest.raises(RuntimeError):
            op(*args, **call.kwargs)
        return
    with emulate_cuda_autocast(dtype):
        assert dtypes_of(op(*args, **call.kwargs)) == want


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", sorted(set(POLICY_OF) - WITHOUT_CPU_KERNEL - set(LISTS.banned)))
def test_listed_op_has_the_value_of_its_policy(name: str, dtype: torch.dtype) -> None:
    call, op = sample_call(name), op_overload(name)
    run_in = policy_dtype(POLICY_OF[name], dtype, torch.float32)
    assert run_in is not None
    with emulate_cuda_autocast(dtype):
        got = [t for t in tree_leaves(op(*call.args, **call.kwargs)) if isinstance(t, Tensor)]
    same = [t for t in tree_leaves(op(*with_inputs_in(call.args, run_in), **call.kwargs)) if isinstance(t, Tensor)]
    true = [
        t for t in tree_leaves(op(*with_inputs_in(call.args, torch.float64), **call.kwargs)) if isinstance(t, Tensor)
    ]
    assert len(got) == len(same) == len(true)
    for emulated, cast_by_hand, exact in zip(got, same, true, strict=True):
        torch.testing.assert_close(emulated, cast_by_hand, rtol=0, atol=0, equal_nan=True)
        error = (emulated.double() - exact).abs().max()
        scale = exact.abs().max().clamp(min=0.1)
        assert error <= ROUNDINGS * torch.finfo(run_in).eps * scale, f"{name}: {error / scale:.3g} of its value"


IMAGE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
UNLISTED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "scalar": lambda x, y: 2 * x + 1 - y / 3,
    "reciprocal by division": lambda x, y: 1 / x,
    "square": lambda x, y: x.square(),
    "power operator": lambda x, y: x**2,
    "sqrt": lambda x, y: x.sqrt(),
    "mean": lambda x, y: x.mean(),
    "mean over": lambda x, y: x.mean((2, 3)),
    "var": lambda x, y: x.var(),
    "std": lambda x, y: x.std(dim=1),
    "var_mean": lambda x, y: torch.var_mean(x),
    "clamp": lambda x, y: x.clamp(0, 1),
    "abs": lambda x, y: (x - y).abs(),
    "relu": lambda x, y: F.relu(x),
    "gelu": lambda x, y: F.gelu(x),
    "silu": lambda x, y: F.silu(x),
    "sigmoid": lambda x, y: x.sigmoid(),
    "tanh": lambda x, y: x.tanh(),
    "sin": lambda x, y: x.sin(),
    "erf": lambda x, y: x.erf(),
    "atan": lambda x, y: x.atan(),
    "floor": lambda x, y: x.floor(),
    "where": lambda x, y: torch.where(x > y, x, y),
    "maximum": torch.maximum,
    "amax": lambda x, y: x.amax((1, 2)),
    "max over": lambda x, y: x.max(dim=1),
    "sort": lambda x, y: x.sort(),
    "topk": lambda x, y: x.topk(2),
    "gather": lambda x, y: x.gather(0, torch.zeros(1, 1, 2, 2, dtype=torch.int64, device=x.device)),
    "masked_fill": lambda x, y: x.masked_fill(x > 0.5, 0.0),
    "flip": lambda x, y: x.flip(3),
    "interpolate": lambda x, y: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "avg_pool2d": lambda x, y: F.avg_pool2d(x, 3),
    "max_pool2d": lambda x, y: F.max_pool2d(x, 3),
    "adaptive_avg_pool2d": lambda x, y: F.adaptive_avg_pool2d(x, 2),
    "pad": lambda x, y: F.pad(x, (1, 1, 1, 1)),
    "pad reflect": lambda x, y: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "pad replicate": lambda x, y: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "cat": lambda x, y: torch.cat([x, y]),
    "stack": lambda x, y: torch.stack([x, y]),
    "lerp": lambda x, y: torch.lerp(x, x, 0.3),
    "cumsum with dtype": lambda x, y: x.cumsum(0, dtype=torch.float16),
    "sum with dtype": lambda x, y: x.sum(dtype=torch.bfloat16),
    "softmax with dtype": lambda x, y: x.softmax(1, dtype=torch.float16),
    "method sum": lambda x, y: x.sum(),
    "norm method": lambda x, y: x.norm(),
    "norm over": lambda x, y: torch.norm(x, p=1, dim=1, keepdim=True),
    "linalg.norm": lambda x, y: torch.linalg.norm(x),
    "normalize": lambda x, y: F.normalize(x),
    "instance_norm": lambda x, y: F.instance_norm(x),
    "dropout": lambda x, y: F.dropout(x, 0.5),
    "conv2d same": lambda x, y: F.conv2d(x, x.new_ones(3, 1, 3, 3), padding="same", groups=3),
    "matmul operator": lambda x, y: x @ y.mT,
    "einsum": lambda x, y: torch.einsum("nchw,ndhw->cd", x, y),
    "cosine_similarity": lambda x, y: F.cosine_similarity(x, y),
    "l1_loss": lambda x, y: F.l1_loss(x, y),
    "mse_loss": lambda x, y: F.mse_loss(x, y),
    "cross_entropy": lambda x, y: F.cross_entropy(x.flatten(0, 2), torch.zeros(36, dtype=torch.int64, device=x.device)),
    "quantile": lambda x, y: x.quantile(0.5),
    "fft": lambda x, y: torch.fft.rfft2(x.float()),
    "float64": lambda x, y: x.double() @ y.double().mT,
    "float64 exp": lambda x, y: x.double().exp(),
    "float64 norm": lambda x, y: x.double().norm(),
    "integers": lambda x, y: (x > y).sum(),
    "integer product": lambda x, y: (x > y).long().prod(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", ["float32", "half", "mixed"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", sorted(UNLISTED))
def test_unlisted_code_has_the_oracles_dtype(name: str, dtype: torch.dtype, given: str) -> None:
    x, y = in_half((IMAGE, IMAGE.flip(3)), dtype, given)
    try:
        want = ask_oracle(UNLISTED[name], (x, y), dtype)
    except OracleUnavailableError as e:
        if CPU_BUILD:
            raise
        pytest.skip(f"in a CUDA build without a GPU: {e}")
    except RuntimeError:  # CUDA refuses it: so must the emulation
        with emulate_cuda_autocast(dtype), pytest.raises(RuntimeError):
            UNLISTED[name](x, y)
        return
    with emulate_cuda_autocast(dtype):
        assert dtypes_of(UNLISTED[name](x, y)) == want


def test_ops_that_cpu_autocast_alone_casts_are_left_alone() -> None:
    """Padding by reflection keeps its input's dtype under CUDA autocast; CPU autocast makes it float32."""
    names = only_cpu_casts(LISTS)
    assert {"stack", "cat", "reflection_pad2d", "fft_fft", "cross_entropy_loss"} <= names
    halves = IMAGE.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.pad(halves, (1, 1, 1, 1), mode="reflect").dtype is torch.float32
    with emulate_cuda_autocast(torch.bfloat16):
        assert F.pad(halves, (1, 1, 1, 1), mode="reflect").dtype is torch.bfloat16
        # Stepping aside still lets autocast into what the op is made of.
        assert F.cross_entropy(halves.flatten(0, 2), torch.zeros(36, dtype=torch.int64)).dtype is torch.float32


@pytest.mark.filterwarnings("ignore")
def test_header_dispatcher_and_oracle_agree() -> None:
    done = cross_check(LISTS)
    assert done.ops == len(POLICY_OF)
    assert done.questions == 4 * done.ops
    assert {name for name, _ in done.unasked} == UNEMULATED
    # All the others are compared in full: 114 of 119 in the CPU build of torch 2.13.
    assert set(done.casts_alone) <= (CASTS_ALONE if CPU_BUILD else CASTS_ALONE | LOOKING_FOR_A_GPU)


@pytest.mark.skipif(not torch.__version__.startswith("2.13.0+cpu"), reason="the counts are those of torch 2.13, CPU")
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_left_out_of_the_comparison() -> None:
    assert set() == UNEMULATED
    done = cross_check(LISTS)
    assert (done.ops, len(done.casts_alone)) == (119, 5)


def test_a_wrong_list_is_found_out() -> None:
    moved = type(LISTS)(
        **{
            **LISTS.by_policy(),
            "lower_precision": (*LISTS.lower_precision, "exp"),
            "float32": tuple(o for o in LISTS.float32 if o != "exp"),
        },
        source="here",
    )
    with pytest.raises(PolicyMismatchError, match="aten::exp is listed as lower_precision"):
        cross_check(moved)


def test_every_listed_op_has_a_sample() -> None:
    assert [name for name in POLICY_OF if not has_sample(name)] == []
    with pytest.raises(PolicyMismatchError, match="add one"):
        sample_call("no_such_op")


@pytest.mark.parametrize(("dtype", "other"), [HALVES, HALVES[::-1]], ids=str)
def test_widest_input_refuses_the_other_half(dtype: torch.dtype, other: torch.dtype) -> None:
    x = torch.rand(3)
    with pytest.raises(RuntimeError, match="Unexpected floating ScalarType"):
        ask_oracle(torch.dot, (x.to(other), x.to(other)), dtype)
    with emulate_cuda_autocast(dtype), pytest.raises(RuntimeError, match="widest"):
        torch.dot(x.to(other), x.to(other))
    after_float32 = (x, x.to(other), x.to(other))
    with emulate_cuda_autocast(dtype):
        assert [torch.addcmul(*after_float32).dtype] == ask_oracle(torch.addcmul, after_float32, dtype)


def test_oracle_leaves_no_trace() -> None:
    before = (
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.is_autocast_enabled("cpu"),
    )
    assert ask_oracle(torch.mm, (torch.rand(2, 2), torch.rand(2, 2)), torch.bfloat16) == [torch.bfloat16]
    with emulate_cuda_autocast(torch.float16):
        assert ask_oracle(torch.mm, (torch.rand(2, 2), torch.rand(2, 2)), torch.bfloat16) == [torch.bfloat16]
        assert torch.mm(torch.rand(2, 2), torch.rand(2, 2)).dtype is torch.float16
    assert before == (
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.is_autocast_enabled("cpu"),
    )
