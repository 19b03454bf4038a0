"""The emulation against a real GPU: each op of the lists, and each kind of recurrent layer, under real CUDA autocast
and under the emulation, dtypes and values.

Run as ``python -m harness.precision.cuda_policy.proofs.gpu_comparison [--json FILE]`` on a machine with a CUDA GPU.
Exit 0 where the dtypes agree on every op, and both sides raise or neither; 1 where they differ; 6 where there is no
GPU or no emulation. Values are measured, in units of the rounding of the output's dtype at the size of the output;
the GPU sums in another order, so they need not be equal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.errors import ExitCode, HarnessError, PrecisionError, describe_exception
from harness.files import write_atomically
from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.coverage import unemulated_ops
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.proofs.cross_check import HALVES, with_inputs_in
from harness.precision.cuda_policy.proofs.op_samples import WITHOUT_CPU_KERNEL, has_sample, sample_call
from harness.precision.cuda_policy.recurrent import LAYER_OPS


@dataclass(frozen=True)
class Comparison:
    """One op in one region, from inputs in ``given``.

    Attributes:
        gpu_dtypes, emulated_dtypes: of the tensors that came out; empty where the op raised.
        gpu_error, emulated_error: what the op raised, or empty.
        roundings: the largest difference in units of rounding.
    """

    op: str
    region: str
    given: str
    gpu_dtypes: tuple[str, ...]
    emulated_dtypes: tuple[str, ...]
    gpu_error: str
    emulated_error: str
    roundings: float

    @property
    def agrees(self) -> bool:
        """Both gave the same dtypes, or both raised."""
        return self.gpu_dtypes == self.emulated_dtypes and bool(self.gpu_error) == bool(self.emulated_error)


def why_not() -> str | None:
    """Why the comparison cannot run here; None where it can."""
    return None if torch.cuda.is_available() else f"torch {torch.__version__} sees no CUDA GPU"


def compared_ops() -> tuple[str, ...]:
    """The ops that are compared: those that are emulated, run on the CPU and have a sample call."""
    left_out = {name for name, _ in unemulated_ops()} | WITHOUT_CPU_KERNEL
    names = {*read_autocast_lists().policy_of(), *LAYER_OPS} - left_out
    return tuple(sorted(name for name in names if has_sample(name)))


def compare_with_gpu() -> list[Comparison]:
    """Compares every op of `compared_ops`, in both halves, from float32 inputs and from the region's own.

    Raises:
        PrecisionError: there is no GPU, or no emulation.
    """
    if (reason := why_not()) is not None:
        raise PrecisionError(f"Cannot compare with a GPU: {reason}. Run this on a machine that has one.")
    questions = [(region, given) for region in HALVES for given in (torch.float32, region)]
    return [_compare(name, region, given) for name in compared_ops() for region, given in questions]


def _compare(name: str, region: torch.dtype, given: torch.dtype) -> Comparison:
    op, call = op_overload(name), sample_call(name)
    args = with_inputs_in(call.args, given)

    def on_gpu() -> Any:
        with torch.autocast("cuda", dtype=region):
            return op(*tree_map_only(Tensor, lambda t: t.cuda(), args), **call.kwargs)

    def emulated() -> Any:
        with emulate_cuda_autocast(region):
            return op(*args, **call.kwargs)

    (gpu, gpu_error), (own, own_error) = _outcome(on_gpu), _outcome(emulated)
    roundings = max((_roundings(a.cpu(), b) for a, b in zip(gpu, own, strict=False)), default=0.0)
    gpu_dtypes, own_dtypes = (tuple(_short(t.dtype) for t in ts) for ts in (gpu, own))
    return Comparison(name, _short(region), _short(given), gpu_dtypes, own_dtypes, gpu_error, own_error, roundings)


def _outcome(run: Callable[[], Any]) -> tuple[list[Tensor], str]:
    """The tensors that came out, or what was raised: one op that fails must not cost the others."""
    try:
        return [t for t in tree_leaves(run()) if isinstance(t, Tensor)], ""
    except Exception as error:
        return [], describe_exception(error)


def _roundings(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point() or not a.numel() or a.shape != b.shape:
        return 0.0
    size = b.double().abs().max().clamp(min=torch.finfo(b.dtype).tiny)
    return ((a.double() - b.double()).abs().max() / size / (torch.finfo(b.dtype).eps / 2)).item()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison, and writes it where ``--json`` says. The process's exit status."""
    parser = argparse.ArgumentParser(description="Compare the emulation of CUDA autocast with a GPU, op by op.")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every comparison there")
    options = parser.parse_args(arguments)
    try:
        rows = compare_with_gpu()
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return int(error.exit_code)
    apart = [row for row in rows if not row.agrees]
    worst = max(rows, key=lambda row: row.roundings)
    left_out = unemulated_ops()
    gpu = torch.cuda.get_device_name()
    print(
        f"{len(rows)} calls of {len(compared_ops())} ops on {gpu}, torch {torch.__version__}: {len(apart)} differ; "
        f"values at most {worst.roundings:.1f} roundings apart ({worst.op} in {worst.region})"
    )
    for row in apart:
        print(
            f"  {row.op} in {row.region} from {row.given}: GPU {row.gpu_error or row.gpu_dtypes}, "
            f"emulated {row.emulated_error or row.emulated_dtypes}"
        )
    for name, reason in left_out:
        print(f"  not emulated: {name}: {reason}")
    if options.json is not None:
        report = {
            "schema": "harness-gpu-comparison/1",
            "gpu": gpu,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "differ": len(apart),
            "not_emulated": dict(left_out),
            "ops": [asdict(row) for row in rows],
        }
        write_atomically(options.json, json.dumps(report, indent=1) + "\n")
    return int(ExitCode.VIOLATED if apart else ExitCode.HELD)


if __name__ == "__main__":
    sys.exit(main())
