"""Times of several losses on the same images, taken in turns, so that a busy machine is as busy for all."""

from __future__ import annotations

import ctypes
import enum
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.bench.contenders import BASELINE, Loaded
from harness.bench.inputs import Scene
from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.loss_inputs import MaskedPair
from harness.errors import HarnessError, describe_exception, reraise_unless_subjects
from harness.precision import precisions_named
from harness.protocols import LossKind
from harness.trials.loss_trial import LossTrial

# A round's calls take at least so long, where a call is short, so that the clock's own grain doesn't count.
_ROUND_SECONDS = 0.02
_MOST_CALLS = 1000
_ACCURACY_CASE = LossCase(
    64,
    64,
    picture=Picture(PictureKind.TEXTURE),
    mask=Mask(MaskKind.DISC, 400),
    perturbation=Perturbation(PerturbationKind.NOISE, 0.01),
)


class Mode(str, enum.Enum):
    """What is timed."""

    FORWARD = "forward, no_grad"
    BOTH = "forward and backward"


@dataclass(frozen=True)
class Timing:
    """One loss in one scene.

    Attributes:
        seconds: of one call: lower quartile, median, upper quartile.
        ratio: the median over rounds of its time over the baseline's in the same round; ``None`` without a baseline.
        extra_bytes: memory needed at the most beyond what was there before the call; ``None`` where it can't be had.
    """

    name: str
    scene: Scene
    mode: Mode
    seconds: tuple[float, float, float]
    ratio: float | None
    extra_bytes: int | None


@dataclass(frozen=True)
class Accuracy:
    """How far a loss is from float64, relatively: of its value, and of its gradient's length.

    Attributes:
        definition: what it is held to.
    """

    name: str
    definition: str
    value: float
    gradient: float


@dataclass
class Benchmark:
    """What was measured, and of whom not, why."""

    device: str
    threads: int
    rounds: int
    timings: list[Timing] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def accuracy(one: Loaded) -> Accuracy:
    """Of a noisy texture of 64² pixels with a disc of 400 in the foreground, in float32.

    Raises:
        HarnessError: its truth can't be had.
    """
    (precision,) = precisions_named(["float32"])
    trial = LossTrial(one.loss, precision, _ACCURACY_CASE)
    truth, measured = trial.truth, trial.evaluation
    off = float((measured.gradient - truth.gradient).norm()) / float(truth.gradient.norm())
    return Accuracy(
        one.contender.name, one.loss.definition.name, abs(measured.value - truth.value) / abs(truth.value), off
    )


def timed(benchmark: Benchmark, losses: Sequence[Loaded], scene: Scene, mode: Mode) -> None:
    """Time them all in one scene; who raises is left out from then on, and why is kept."""
    calls: dict[str, Callable[[], object]] = {}
    repeats: dict[str, int] = {}
    pair = scene.pair(benchmark.device)
    for one in losses:
        name = one.contender.name
        if name in benchmark.left_out:
            continue
        call = _call(one, pair, mode)
        try:
            call()
            call()
            took = _took(call, 1, benchmark.device)
        except BaseException as error:
            reraise_unless_subjects(error)
            benchmark.left_out[name] = describe_exception(error)
            continue
        calls[name] = call
        repeats[name] = min(_MOST_CALLS, max(1, round(_ROUND_SECONDS / took)))
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(benchmark.rounds):
        for name, call in calls.items():
            rounds[name].append(_took(call, repeats[name], benchmark.device) / repeats[name])
    for name, call in calls.items():
        ratio = None
        if BASELINE in rounds:
            ratio = statistics.median(own / base for own, base in zip(rounds[name], rounds[BASELINE], strict=True))
        extra = extra_bytes(call, benchmark.device)
        benchmark.timings.append(Timing(name, scene, mode, _quartiles(rounds[name]), ratio, extra))


def _call(one: Loaded, pair: MaskedPair, mode: Mode) -> Callable[[], object]:
    # What a caller of a bare loss does himself is not timed.
    pair = pair.composited() if one.loss.kind is LossKind.BARE else pair
    rendering, *others = pair.tensors()

    def forward() -> object:
        with torch.no_grad():
            return one.loss(rendering, *others)

    def both() -> object:
        leaf = rendering.detach().requires_grad_()
        return torch.autograd.grad(one.loss(leaf, *others), leaf)

    return forward if mode is Mode.FORWARD else both


def _took(call: Callable[[], object], repeats: int, device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """Memory that the call needs at the most beyond what is in use before it.

    On the CPU Linux tells it, to a few pages, of memory that was given back to it before; elsewhere it can't be had.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    if not sys.platform.startswith("linux"):
        return None
    try:
        # What was freed may still be the process' own, and would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    for line in _lines(Path("/proc/self/status")):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise HarnessError(f"/proc/self/status has no {name}.")


def _lines(path: Path) -> Iterator[str]:
    yield from path.read_text().splitlines()
