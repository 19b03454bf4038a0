"""The emulation against a real GPU: each listed op under real CUDA autocast and under the emulation, dtypes
and values.

Run as ``python -m harness.precision.cuda_policy.gpu_comparison [TABLE.json]`` on a machine with a CUDA GPU;
elsewhere it says so and does nothing. Dtypes must agree on every op, or it fails. Values are measured, in
units of the rounding of the output's dtype at the size of the output; the GPU sums in another order, so they
need not be equal.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.cross_check import HALVES, with_inputs_in
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.op_samples import WITHOUT_CPU_KERNEL, sample_call


@dataclass(frozen=True)
class Comparison:
    """One op in one region, from inputs in ``given``. `roundings` is the largest difference in units of
    rounding.
    """

    op: str
    region: str
    given: str
    gpu_dtypes: tuple[str, ...]
    emulated_dtypes: tuple[str, ...]
    roundings: float

    @property
    def dtypes_agree(self) -> bool:
        return self.gpu_dtypes == self.emulated_dtypes


def why_not() -> str | None:
    """Why the comparison cannot run here; None where it can."""
    return None if torch.cuda.is_available() else f"torch {torch.__version__} sees no CUDA GPU"


def compare_with_gpu() -> list[Comparison]:
    """Compares every listed op that has a CPU kernel and a value.

    Raises:
        RuntimeError: there is no GPU.
    """
    if (reason := why_not()) is not None:
        raise RuntimeError(f"Cannot compare with a GPU: {reason}. Run this on a machine that has one.")
    lists = read_autocast_lists()
    names = sorted(set(lists.policy_of()) - WITHOUT_CPU_KERNEL - set(lists.banned))
    return [_compare(name, region, given) for name in names for region in HALVES for given in (torch.float32, region)]


def _compare(name: str, region: torch.dtype, given: torch.dtype) -> Comparison:
    op, call = op_overload(name), sample_call(name)
    args = with_inputs_in(call.args, given)
    with torch.autocast("cuda", dtype=region):
        gpu = _tensors(op(*tree_map_only(Tensor, lambda t: t.cuda(), args), **call.kwargs))
    with emulate_cuda_autocast(region):
        emulated = _tensors(op(*args, **call.kwargs))
    roundings = max((_roundings(a.cpu(), b) for a, b in zip(gpu, emulated, strict=False)), default=0.0)
    gpu_dtypes, emulated_dtypes = (tuple(_short(t.dtype) for t in ts) for ts in (gpu, emulated))
    return Comparison(name, _short(region), _short(given), gpu_dtypes, emulated_dtypes, roundings)


def _roundings(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point() or not a.numel() or a.shape != b.shape:
        return 0.0
    size = b.double().abs().max().clamp(min=torch.finfo(b.dtype).tiny)
    return ((a.double() - b.double()).abs().max() / size / (torch.finfo(b.dtype).eps / 2)).item()


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(table: str | None = None) -> int:
    """Prints the comparison, and writes it to ``table`` if a path is given. The process's exit status."""
    if (reason := why_not()) is not None:
        print(f"Not compared with a GPU: {reason}.")
        return 0
    rows = compare_with_gpu()
    apart = [r for r in rows if not r.dtypes_agree]
    worst = max(rows, key=lambda r: r.roundings)
    print(
        f"{len(rows)} calls on {torch.cuda.get_device_name()}, torch {torch.__version__}: {len(apart)} "
        f"differ in dtype; values at most {worst.roundings:.1f} roundings apart ({worst.op} in "
        f"{worst.region})"
    )
    for r in apart:
        print(f"  {r.op} in {r.region} from {r.given}: GPU {r.gpu_dtypes}, emulated {r.emulated_dtypes}")
    if table is not None:
        provenance = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        Path(table).write_text(json.dumps({**provenance, "ops": [asdict(r) for r in rows]}, indent=1) + "\n")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
