"""Three witnesses of CUDA autocast's casts, held against each other: header, dispatcher and dtype oracle.

Run as ``python -m harness.precision.cuda_policy.proofs.cross_check``: it prints what was checked and fails on a
disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.precision.cuda_policy.autocast_lists import AutocastLists, read_autocast_lists
from harness.precision.cuda_policy.coverage import unlike_dispatcher
from harness.precision.cuda_policy.errors import OracleUnavailableError, PolicyMismatchError
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.proofs.dtype_oracle import expected_casts, expected_dtype
from harness.precision.cuda_policy.proofs.op_samples import has_sample, sample_call

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class CrossCheck:
    """What was compared.

    Attributes:
        ops: how many were asked about.
        questions: how many calls that were.
        casts_alone: the ops that this torch cannot run on fake CUDA tensors beyond their casts.
        unasked: those of which only one witness knows, or that have no sample call, each with the reason.
    """

    torch_version: str
    ops: int
    questions: int
    casts_alone: tuple[str, ...]
    unasked: tuple[tuple[str, str], ...]


def cross_check(lists: AutocastLists | None = None) -> CrossCheck:
    """Checks the installed torch's lists against its dispatcher and its CUDA autocast kernels.

    Raises:
        PolicyMismatchError: two witnesses disagree about an op.
        HeaderNotUnderstoodError: the header cannot be read.
    """
    lists = lists if lists is not None else read_autocast_lists()
    unasked = unlike_dispatcher(lists)
    asked = {name: policy for name, policy in sorted(lists.policy_of().items()) if name not in unasked}
    for name in [name for name in asked if not has_sample(name)]:
        del asked[name]
        unasked[name] = "op_samples.py has no call of it"
    questions, casts_alone = 0, []
    for name, policy in asked.items():
        for dtype, given in product(HALVES, (torch.float32, None)):
            questions += 1
            if not _refuse_disagreement(name, policy, dtype, given or dtype) and name not in casts_alone:
                casts_alone.append(name)
    return CrossCheck(torch.__version__, len(asked), questions, tuple(casts_alone), tuple(sorted(unasked.items())))


def policy_dtype(policy: str, dtype: torch.dtype, given: torch.dtype) -> torch.dtype | None:
    """The dtype that a policy's ops give for inputs of dtype ``given`` in a region of ``dtype``; None where
    they raise.
    """
    return {
        "lower_precision": dtype,
        "float32": torch.float32,
        "float32_unless_dtype": torch.float32,
        "float32_appended": torch.float32,
        "widest": given,
        "banned": None,
    }[policy]


def with_inputs_in(args: Any, dtype: torch.dtype) -> Any:
    """``args`` with each floating tensor in ``dtype``."""
    return tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, args)


def _refuse_disagreement(name: str, policy: str, dtype: torch.dtype, given: torch.dtype) -> bool:
    """Compares one call. Whether its output was compared, and not its casts alone."""
    call, want, op = sample_call(name), policy_dtype(policy, dtype, given), op_overload(name)
    args = with_inputs_in(call.args, given)
    ran = True
    try:
        out = tree_leaves(expected_dtype(op, args, dtype, call.kwargs))
        # Attention also gives a float32 log-sum-exp: the first output is the op's value.
        got = {d for d in out[:1] if isinstance(d, torch.dtype)}
    except OracleUnavailableError:
        ran = False
        got = set(expected_casts(op, args, dtype, call.kwargs)) or {given}
    except RuntimeError as e:
        if want is None and "unsafe to autocast" in str(e):
            return True
        raise PolicyMismatchError(
            f"aten::{name} is listed as {policy}, but its CUDA autocast kernel raised: {e}"
        ) from e
    if got != {want}:
        raise PolicyMismatchError(
            f"aten::{name} is listed as {policy}, which gives {want} from {given} inputs in a {dtype} "
            f"region, but its CUDA autocast kernel gave {', '.join(map(str, got)) or 'nothing'}: read the "
            "header of the installed torch, or correct the op's policy in autocast_lists.py."
        )
    return ran


if __name__ == "__main__":
    done = cross_check()
    print(
        f"torch {done.torch_version}: {done.ops} ops of the CUDA autocast lists agree in header and "
        f"dispatcher, and with the dtype oracle in {done.questions} calls; casts alone compared: "
        f"{', '.join(done.casts_alone) or 'none'}; not asked: "
        f"{', '.join(f'{name} ({reason})' for name, reason in done.unasked) or 'none'}"
    )
