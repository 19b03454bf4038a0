"""``with harness.watch():`` in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import harness
from harness.errors import UsageError
from harness.findings.bundles.bundle import read_bundle
from harness.rehearsal import readings
from harness.rehearsal.places import Places
from harness.rehearsal.readings import Readings
from harness.watching.watcher import Watcher
from tests.harness.rehearsal.far_device import Late


class Mean(nn.Module):
    """A loss that one may spoil."""

    def __init__(self, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, prediction: Tensor, wanted: Tensor) -> Tensor:
        return (prediction - wanted).square().mean() * self.factor + self.shift


def _train(loss_of: Callable[..., Tensor], steps: int = 4, scaler: Any = None, clip: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    for _ in range(steps):
        loss = loss_of(model(torch.randn(8, 4)), torch.randn(8, 1))
        if scaler is None:
            loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_((p for p in model.parameters()), 0.1)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        schedule.step()
        optimizer.zero_grad(set_to_none=False)
    return model


def test_it_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = _train(Mean(), 8)
    call = nn.Module.__call__
    with harness.watch(bundles_dir=tmp_path) as watcher:
        assert nn.Module.__call__ is not call
        watched = _train(Mean(), 8)
    assert nn.Module.__call__ is call
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == watcher.keeper.bundles == []
    assert len(watcher.run.windows) == 8
    assert all(window.moved == [True] for window in watcher.run.windows)


def test_a_nan_is_told_of_once_with_its_line_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with harness.watch(bundles_dir=tmp_path):
        _train(Mean(math.nan))
    told = capsys.readouterr().err.splitlines()
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "loss = loss_of(" in text)
    assert f"test_watch.py:{line}: Mean gives nan, which is not finite, under float32; bundle: " in told[0]
    assert len([one for one in told if "loss-finite" in one]) == 1
    assert any("stepped with gradients that are not finite" in one for one in told)
    (path,) = tmp_path.glob("*.rank0.001.loss-finite")
    loss = read_bundle(path).loss
    assert loss is not None
    assert math.isnan(loss.value)


def test_a_schedule_on_a_skipped_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with harness.watch(bundles_dir=tmp_path):
        _train(Mean(1e3), 6, torch.amp.GradScaler("cpu", init_scale=2.0**127))
    told = capsys.readouterr().err.splitlines()
    assert [one for one in told if "scheduler.step() advanced although the step at" in one] == told
    (path,) = tmp_path.iterdir()
    bundle = read_bundle(path)
    assert (bundle.rule, bundle.loss) == ("schedule-follows-updates", None)
    assert bundle.scaler is not None
    assert [w["moved"] for w in bundle.windows if w["fault"]][-1] == [False]


def test_a_loss_may_be_negative_unless_precision_made_it_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with harness.watch(bundles_dir=tmp_path):
        _train(Mean(shift=-5.0))
        _train(_NegativeAndRounded())
    assert capsys.readouterr().err == ""
    with harness.watch(bundles_dir=tmp_path):
        _train(_NegativeUnlessDouble())
    assert "_NegativeUnlessDouble gives -" in (told := capsys.readouterr().err)
    assert "which is under 0, while in float64 it is " in told


def test_gradients_alone_may_be_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steep(prediction: Tensor, wanted: Tensor) -> Tensor:
        prediction.register_hook(lambda gradient: gradient * math.inf)
        return (prediction - wanted).square().mean()

    with harness.watch(bundles_dir=tmp_path):
        _train(steep, 6, torch.amp.GradScaler("cpu"))
    (told,) = capsys.readouterr().err.splitlines()
    assert "advanced although the step at" in told
    assert "was skipped (after gradients that are not finite); bundle: " in told


class _NegativeAndRounded(nn.Module):
    def forward(self, prediction: Tensor, wanted: Tensor) -> Tensor:
        value = (prediction - wanted).square().mean() - 5.0
        return value if value.dtype == torch.float64 else value * 1.01


class _NegativeUnlessDouble(nn.Module):
    def forward(self, prediction: Tensor, wanted: Tensor) -> Tensor:
        value = (prediction - wanted).square().mean()
        return value if value.dtype == torch.float64 else -value


def test_a_function_is_watched_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = "torch.nn.functional:mse_loss"
    with harness.watch([named, "torch.nn.functional:l1_loss"], range=(0.0, 1e-3), bundles_dir=tmp_path):
        _train(lambda *pair: nn.functional.mse_loss(*pair))
    told = capsys.readouterr().err.splitlines()
    assert "mse_loss gives " in told[0]
    assert "which is over 0.001" in told[0]
    assert "torch.nn.functional:l1_loss was never called" in told[1]
    (path,) = tmp_path.iterdir()
    loss = read_bundle(path).loss
    assert loss is not None
    assert loss.name == named


def test_what_goes_wrong_in_the_watching_ends_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = _train(Mean(), 6)
    asked = 0

    def broken(self: Places) -> str:
        nonlocal asked
        asked += 1
        if asked > 7:
            raise ZeroDivisionError("a bug")
        return "train.py:1"

    monkeypatch.setattr(Places, "here", broken)
    with harness.watch(bundles_dir=tmp_path):
        watched = _train(Mean(), 6)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    (told,) = capsys.readouterr().err.splitlines()
    assert told == "harness watch: watching failed, and has ended; the script goes on (ZeroDivisionError: a bug)"


def test_the_scripts_own_exceptions_come_out_as_they_are(tmp_path: Path) -> None:
    def refused(*_: Any) -> Tensor:
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"), harness.watch(bundles_dir=tmp_path):
        _train(refused)
    with pytest.raises(RuntimeError, match="does not require grad"), harness.watch(bundles_dir=tmp_path):
        torch.ones(()).backward()


def test_bundles_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with harness.watch(bundles_dir=tmp_path, most=1, largest=16):
        _train(Mean(math.nan))
    assert len(list(tmp_path.iterdir())) == 1
    told = capsys.readouterr().err
    assert "the loss could not be recorded: its tensors have more bytes than a bundle may" in told
    assert "(no bundle: there are 1 already)" in told


class _Scalars(TorchDispatchMode):
    """Counts reads of single numbers, each of which would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("scaled", [False, True])
def test_it_waits_for_no_gpu(scaled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaler() -> Any:
        return torch.amp.GradScaler("cpu", init_scale=4.0) if scaled else None

    with _Scalars() as plain:
        _train(Mean(), 8, scaler())
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    with _Scalars() as watched, harness.watch(bundles_dir=tmp_path) as watcher:
        _train(Mean(), 8, scaler())
    assert watched.count == plain.count
    window = watcher.run.windows[-1]
    assert window.moved == [True]
    assert all(math.isfinite(loss) and loss > 0 for loss in window.losses)
    assert len(window.losses) == 1


def test_a_window_is_judged_while_a_gpu_is_busy_with_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    monkeypatch.setattr(readings, "_event", lambda device: Late())
    judged = []
    monkeypatch.setattr(Watcher, "_judge", lambda self, window: judged.append(window))
    with harness.watch(bundles_dir=tmp_path):
        _train(Mean(), 8)
        assert len(judged) == 8 - 2  # one is still open, and one on its way


def test_numbers_that_come_later_are_judged_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    with harness.watch(bundles_dir=tmp_path):
        _train(Mean(math.nan))
    told = capsys.readouterr().err
    assert "Mean gives nan, which is not finite" in told
    assert "stepped with gradients that are not finite" in told
    (path,) = tmp_path.glob("*.loss-finite")
    assert read_bundle(path).loss is not None


def test_what_is_compiled_stays_compiled(tmp_path: Path) -> None:
    def run() -> tuple[Tensor, int]:
        graphs = []

        def backend(graph: Any, inputs: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        torch.manual_seed(0)
        torch._dynamo.reset()
        model = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), backend=backend)
        return model(torch.ones(2, 4)), len(graphs)

    plain, graphs = run()
    with harness.watch(bundles_dir=tmp_path):
        watched, graphs_watched = run()
    assert torch.equal(plain, watched)
    assert graphs == graphs_watched == 1


def test_one_watch_at_a_time(tmp_path: Path) -> None:
    with harness.watch(bundles_dir=tmp_path), pytest.raises(UsageError, match="watched already"):  # noqa: SIM117
        with harness.watch(bundles_dir=tmp_path):
            pass
