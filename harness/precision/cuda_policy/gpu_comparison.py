"""The emulation against a real GPU: each listed op under real CUDA autocast and under the emulation, dtypes
and values.

Run as ``python -m harness.precision.cuda_policy.gpu_comparison [--json FILE]`` on a machine with a CUDA GPU;
elsewhere it says so and does nothing. Dtypes must agree on every op that both run, or it fails. Values are measured, in
units of the rounding of the output's dtype at the size of the output; the GPU sums in another order, so they
need not be equal.
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

from harness.errors import describe_exception
from harness.files import write_atomically
from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.cross_check import HALVES, with_inputs_in
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.kernels import op_overload
from harness.precision.cuda_policy.op_samples import WITHOUT_CPU_KERNEL, sample_call


@dataclass(frozen=True)
class Comparison:
    """One op in one region, from inputs in ``given``. `roundings` is the largest difference in units of
    rounding. Where a side raises, it has no dtypes, and ``gpu_raised`` or ``emulated_raised`` says what.
    """

    op: str
    region: str
    given: str
    gpu_dtypes: tuple[str, ...]
    emulated_dtypes: tuple[str, ...]
    roundings: float
    gpu_raised: str = ""
    emulated_raised: str = ""

    @property
    def compared(self) -> bool:
        """Both sides ran it."""
        return not (self.gpu_raised or self.emulated_raised)

    @property
    def dtypes_agree(self) -> bool:
        """They do, or there is nothing to compare: a CPU lacks kernels that a GPU has."""
        return self.gpu_dtypes == self.emulated_dtypes if self.compared else not self.gpu_raised


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
    def on_gpu() -> list[Tensor]:
        with torch.autocast("cuda", dtype=region):
            return _tensors(op(*tree_map_only(Tensor, lambda t: t.cuda(), args), **call.kwargs))

    def on_cpu() -> list[Tensor]:
        with emulate_cuda_autocast(region):
            return _tensors(op(*args, **call.kwargs))

    try:
        op, call = op_overload(name), sample_call(name)
        args = with_inputs_in(call.args, given)
    except Exception as error:
        # Of a newer torch, an op that there is no call of yet.
        return Comparison(name, _short(region), _short(given), (), (), 0.0, emulated_raised=describe_exception(error))
    gpu, gpu_raised = _run(on_gpu)
    emulated, emulated_raised = _run(on_cpu)
    roundings = max((_roundings(a.cpu(), b) for a, b in zip(gpu, emulated, strict=False)), default=0.0)
    gpu_dtypes, emulated_dtypes = (tuple(_short(t.dtype) for t in ts) for ts in (gpu, emulated))
    return Comparison(
        name, _short(region), _short(given), gpu_dtypes, emulated_dtypes, roundings, gpu_raised, emulated_raised
    )


def _run(call: Callable[[], list[Tensor]]) -> tuple[list[Tensor], str]:
    """What the call gives, and what it raises: one op must not cost the others."""
    try:
        return call(), ""
    except Exception as error:
        return [], describe_exception(error)


def _roundings(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point() or not a.numel() or a.shape != b.shape:
        return 0.0
    size = b.double().abs().max().clamp(min=torch.finfo(b.dtype).tiny)
    return ((a.double() - b.double()).abs().max() / size / (torch.finfo(b.dtype).eps / 2)).item()


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison, and writes it to ``--json FILE``. The process's exit status: 1 where dtypes differ, or the
    GPU refuses what the emulation runs, or nothing was compared.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name if __spec__ else __name__}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole table there")
    options = parser.parse_args(arguments)
    if (reason := why_not()) is not None:
        print(f"Not compared with a GPU: {reason}.")
        return 0
    rows = compare_with_gpu()
    if options.json:
        provenance = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        write_atomically(options.json, json.dumps({**provenance, "ops": [asdict(r) for r in rows]}, indent=1) + "\n")
    compared, apart = [r for r in rows if r.compared], [r for r in rows if not r.dtypes_agree]
    print(
        f"{len(compared)} of {len(rows)} calls compared on {torch.cuda.get_device_name()}, torch {torch.__version__}: "
        f"{len(apart)} differ in dtype"
    )
    if compared:
        worst = max(compared, key=lambda r: r.roundings)
        print(f"values at most {worst.roundings:.1f} roundings apart ({worst.op} in {worst.region})")
    for r in apart:
        gpu, emulated = r.gpu_raised or r.gpu_dtypes, r.emulated_raised or r.emulated_dtypes
        print(f"  {r.op} in {r.region} from {r.given}: GPU {gpu}, emulated {emulated}")
    for r in rows:
        if r.emulated_raised and r.dtypes_agree:
            print(f"  not compared: {r.op} in {r.region} from {r.given}: {r.emulated_raised}")
    return 1 if apart or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
