"""Times are taken in turns and told truly; what can't take part says why."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.bench.contenders import BASELINE, PEERS, Contender, Loaded, loaded, variants
from harness.bench.inputs import Scene, grid
from harness.bench.timing import Benchmark, Mode, accuracy, extra_bytes, timed
from harness.errors import UsageError
from harness.subject_spec import SubjectSpec
from harness.subjects.loss import load_loss

OURS = SubjectSpec("gslrm.model.utils_losses:MaskedSsimLoss")


@pytest.mark.parametrize(("share", "islands", "pixels"), [(1.0, 1, 4096), (0.05, 1, 205), (0.001, 5, 20)])
def test_the_mask_shows_what_it_is_said_to(share: float, islands: int, pixels: int) -> None:
    pair = Scene(2, 64, share, islands).pair()
    assert pair.mask.sum(dim=(1, 2, 3)).tolist() == [pixels, pixels]
    assert float(pair.rendering.min()) >= 0.0
    assert float(pair.rendering.max()) <= 1.0
    assert not torch.equal(pair.rendering, pair.target)


def test_islands_lie_far_apart() -> None:
    rows, columns = Scene(1, 100, 0.001, 5).pair().mask[0, 0].nonzero().T
    assert len({(int(r) // 34, int(c) // 34) for r, c in zip(rows, columns, strict=True)}) == 5


@pytest.mark.parametrize("wrong", [(1, 10), (0, 64), (1, 64, 0.0), (1, 64, 1.1), (1, 64, 0.1, 6), (1, 5000)])
def test_what_cannot_be_timed_is_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        Scene(*wrong)  # type: ignore[arg-type]


def test_the_grid_has_every_size_with_every_share() -> None:
    scenes = grid([(2, 64), (1, 32)], [1.0, 0.1], True)
    assert [(s.size, s.foreground) for s in scenes] == [
        ("2×3×64²", "100 %"),
        ("2×3×64²", "10 %"),
        ("1×3×32²", "100 %"),
        ("1×3×32²", "10 %"),
        ("2×3×64²", "5 islands of 0.1 %"),
        ("1×3×32²", "5 islands of 0.1 %"),
    ]


def test_a_variant_is_constructed_with_its_argument() -> None:
    (ready,), left_out = loaded(variants(OURS, ["check_values=false"]))
    assert ready.contender.name == "MaskedSsimLoss, check_values=false"
    assert left_out == {}
    assert ready.loss.function.check_values == "false"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="NAME=VALUE"):
        variants(OURS, ["fast"])


def test_a_peer_that_is_not_installed_is_named() -> None:
    absent = Contender("absent", SubjectSpec("no_such_package_of_losses:ssim"))
    ready, left_out = loaded([absent])
    assert ready == []
    assert left_out == {"absent": "no_such_package_of_losses is not installed"}


def _slow(x: Tensor, y: Tensor) -> Tensor:
    time.sleep(0.004)
    return ((x - y) ** 2).mean()


def _fast(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).mean()


def _raises(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[-1] > 16:
        raise ValueError("too wide for me")
    return _fast(x, y)


def _made(name: str, function: object) -> Loaded:
    (ready,), _ = loaded([Contender(name, SubjectSpec("gslrm.training.loss_terms:l2", truth="mse"))])
    return Loaded(replace(ready.contender, name=name), replace(ready.loss, function=function))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", list(Mode))
def test_a_ratio_is_to_the_baseline(mode: Mode) -> None:
    benchmark = Benchmark("cpu", 1, rounds=3)
    timed(benchmark, [_made(BASELINE, _fast), _made("slow", _slow)], Scene(1, 16), mode)
    base, slow = benchmark.timings
    assert base.ratio == 1.0
    assert slow.ratio is not None
    assert slow.ratio > 1.0
    assert slow.seconds[0] <= slow.seconds[1] <= slow.seconds[2]
    assert slow.seconds[0] >= 0.004


def test_who_raises_is_left_out_from_then_on() -> None:
    benchmark, losses = Benchmark("cpu", 1, rounds=1), [_made("wide", _raises), _made("fast", _fast)]
    for scene in (Scene(1, 16), Scene(1, 32), Scene(1, 12)):
        timed(benchmark, losses, scene, Mode.FORWARD)
    assert benchmark.left_out == {"wide": "ValueError: too wide for me"}
    assert [(t.name, t.scene.side) for t in benchmark.timings] == [
        ("wide", 16),
        ("fast", 16),
        ("fast", 32),
        ("fast", 12),
    ]
    assert all(t.ratio is None for t in benchmark.timings)


def test_the_accuracy_is_that_of_the_loss() -> None:
    right = load_loss(OURS)
    told = accuracy(Loaded(Contender("ours", OURS), right))
    assert told.definition == "masked-ssim"
    assert told.value < 1e-5
    assert told.gradient < 1e-4
    doubled = replace(right, name=replace(right.name, scale=2.0))
    assert accuracy(Loaded(Contender("twice", OURS), doubled)).value == pytest.approx(1.0, rel=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process' peak memory")
def test_memory_is_what_the_call_needs() -> None:
    wanted = 2**26
    extra = extra_bytes(lambda: torch.ones(wanted, dtype=torch.uint8), "cpu")
    assert extra is not None
    assert 0.9 * wanted < extra < 1.5 * wanted
    small = extra_bytes(lambda: torch.ones(8), "cpu")
    assert small is not None
    assert small < wanted / 10


def test_every_peer_has_a_name_of_its_own() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert PEERS[0].name == BASELINE
