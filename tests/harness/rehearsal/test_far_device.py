"""What a GPU holds is read without waiting for it, and comes to the same."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.rehearsal import readings
from harness.rehearsal.averages import NONE, Averages
from harness.rehearsal.faults import Fault
from harness.rehearsal.observer import Observer
from harness.rehearsal.parameters import Parameters
from harness.rehearsal.places import Places, Script
from harness.rehearsal.processes import read_run
from harness.rehearsal.readings import Readings
from harness.rehearsal.record import Run, Window
from harness.rehearsal.windows import NoFaults
from tests.harness.rehearsal.far_device import Late

RIGHT = Path(__file__).with_name("right_recipe.py").read_text()
# No scaler: whatever comes moves the parameters.
UNSCALED = RIGHT.replace("scaler = torch.amp.GradScaler(device, init_scale=1024.0)", "scaler = None").replace(
    "        scaler.scale(loss).backward()\n", "        loss.backward()\n"
)
UNSCALED = UNSCALED.replace("    scaler.unscale_(optimizer)\n", "").replace(
    "    scaler.step(optimizer)\n    scaler.update()\n", "    optimizer.step()\n"
)
AVERAGES_ALWAYS = RIGHT.replace("slow.lerp_(fast.detach(), 0.1)", "slow.data.mul_(0.9).add_(fast.data, alpha=0.1)")
AVERAGES_ALWAYS = AVERAGES_ALWAYS.replace(
    "        schedule.step()\n        for slow", "        schedule.step()\n    if True:\n        for slow"
)
FAULTS = (Fault.NAN_OUTPUT, Fault.INF_GRADIENT, Fault.HUGE_NORM, Fault.NO_GRADIENT)


def _rehearsed(
    script: str, folder: Path, windows: int, *arguments: str, faults: Sequence[Fault] = FAULTS, until: str = "faults"
) -> Run:
    """In a process of its own, whose numbers come so many windows late."""
    own = folder / str(windows)
    own.mkdir()
    path, record = own / "train.py", own / "record"
    path.write_text(script)
    order = {
        "script": str(path), "module": "", "arguments": arguments, "pretend_cuda": False,
        "planned": [[fault.value, "last", None] for fault in faults], "half": "", "until": until, "ranks": 1,
        "patience": 10.0, "fork": False, "record": str(record), "folder": str(own),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "tests.harness.rehearsal.far_device", str(windows), json.dumps(order)],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert record.exists(), ran.stderr
    return read_run(record)


def _told(run: Run) -> list[str]:
    """All that is known of its windows; what a sum's order may change in a norm's last digits is left out."""
    told = []
    for window in run.windows:
        values = window.as_json()
        for call in values["calls"]:
            call["notes"].pop("file", None)  # in a folder of its own
            call["value"] = None if call["value"] is None else f"{call['value']:.6g}"
        told.append(json.dumps(values, sort_keys=True, default=str))
    return told


@pytest.mark.parametrize("windows", [1, 2, 5])
@pytest.mark.parametrize("script", [RIGHT, UNSCALED, AVERAGES_ALWAYS], ids=["right", "unscaled", "averages"])
def test_it_comes_to_the_same_however_late_numbers_are(script: str, windows: int, tmp_path: Path) -> None:
    near, far = (_rehearsed(script, tmp_path, late) for late in (0, windows))
    assert near.ending.done
    assert _told(far) == _told(near)
    assert (far.ending, far.begun, far.scaler) == (near.ending, near.begun, near.scaler)
    # Each has something to tell, else there is nothing to compare.
    assert near.begun == (1 if script is UNSCALED else len(FAULTS))
    assert near.windows[-1].finite is (script is not UNSCALED)
    if script is AVERAGES_ALWAYS:
        line = next(n for n, text in enumerate(script.splitlines(), 1) if "slow.data" in text)
        assert {w.averages_at for w in far.windows if w.fault and w.averages} == {f"train.py:{line}"}


def test_what_a_checkpoint_must_lead_to_comes_later_too(tmp_path: Path) -> None:
    near, far = (
        _rehearsed(RIGHT, tmp_path, late, "--out", ".", faults=(Fault.NAN_OUTPUT,), until="saved") for late in (0, 2)
    )
    assert near.windows[-1].state["optimizers"]["0"]["parameters"][0]
    assert near.windows[-1].state["scaler"]["scale"] == 512.0
    assert near.windows[-1].state["averages"]
    assert _told(far) == _told(near)


class _Waits(TorchDispatchMode):
    """Counts what would wait for a GPU."""

    KINDS = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in self.KINDS
        return func(*args, **(kwargs or {}))


def _train(scaled: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    average = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled)
    for _ in range(8):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 4)).square().mean()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_it_waits_for_no_gpu(scaled: bool, thorough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with _Waits() as plain:
        _train(scaled)
    with _Waits() as near, Observer(Places(Script(path=__file__)), NoFaults(), thorough=thorough):
        _train(scaled)
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    observer = Observer(Places(Script(path=__file__)), NoFaults(), thorough=thorough)
    with _Waits() as far, observer:
        _train(scaled)
    assert far.count == plain.count < near.count
    observer.finish(raised=False)
    window = observer.run.windows[-1]
    assert (window.moved, window.finite, window.averages, window.buffers_finite) == ([True], True, True, True)
    assert len(window.losses) == 1
    assert math.isfinite(window.losses[0])


def test_windows_are_told_of_while_later_ones_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    monkeypatch.setattr(readings, "_event", lambda device: Late())
    told: list[Window] = []
    behind: list[int] = []

    class Director(NoFaults):
        def window_ended(self, window: Window, goes_on: bool = True) -> None:
            told.append(window)

        def next_window(self, run: Run) -> None:
            behind.append(len(run.windows) - len(told))

    observer = Observer(Places(Script(path=__file__)), Director())
    with observer:
        _train(scaled=True)
    assert behind == [1] * 7
    observer.finish(raised=False)
    assert told == observer.run.windows
    assert len(told) == 8


def _with_spoilt_state() -> list[bool]:
    """Whether all was finite in each of eight windows, where the fifth spoils what the optimizer keeps, no more."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    observer = Observer(Places(Script(path=__file__)), NoFaults())
    with observer:
        for number in range(8):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            if number == 4:
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, 1e30)
            if number < 5:
                optimizer.step()
        observer.finish(raised=False)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return [window.finite for window in observer.run.windows]


def test_a_state_that_was_spoilt_is_remembered_before_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _with_spoilt_state() == [True] * 4 + [False] * 4
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    monkeypatch.setattr(readings, "_event", lambda device: Late())
    assert _with_spoilt_state() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("away", [False, True])
def test_what_is_not_near_the_parameters_is_no_average_once_that_has_come(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved() -> Any:
        found = averages.moved()
        return found.item() if isinstance(found, Tensor) else found

    if away:
        monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    model, reading = nn.Linear(3, 2), Readings()
    parameters, averages = Parameters(reading), Averages(reading)
    parameters.index(torch.optim.SGD(model.parameters(), lr=0.1))
    moments = [torch.full_like(p, 100.0) for p in model.parameters()]
    averages.find(model, parameters)
    moments[0] += 1.0
    assert moved() == (NONE if away else None)
    assert averages.finite() is True or _number(averages.finite()) is True
    near = [p.detach().clone() for p in model.parameters()]
    averages.find(model, parameters)
    moments[0] *= math.nan
    assert moved() == 0
    assert averages.finite() is True or _number(averages.finite()) is True
    near[1] += 1.0
    assert moved() in (True, 1)
    reading.wait()
    assert [follower.held is near for follower in averages.each()] == [True]


def _number(measured: Any) -> Any:
    assert isinstance(measured, Tensor)
    return measured.item()


@pytest.mark.parametrize("spoil", [lambda t: t.fill_(math.nan), lambda t: t[0].fill_(-math.inf)], ids=["nan", "inf"])
def test_what_is_measured_far_away_is_right(spoil: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readings, "is_away", lambda self, tensor: True)
    held = [nn.Parameter(torch.full((3,), 3e38)), nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.SGD(held, lr=0.1)
    parameters = Parameters(Readings())
    parameters.index(optimizer)
    assert parameters.norm(0) is None
    assert parameters.gradients_finite(0) is None
    held[0].grad = torch.full((3,), 3e38)
    held[1].grad = torch.zeros(2)
    assert _number(parameters.finite()) is _number(parameters.gradients_finite(0)) is True
    assert _number(parameters.norm(0)) == pytest.approx(math.sqrt(3) * 3e38)
    assert _number(parameters.have_gradients()) is True
    assert [_number(moved) for moved in parameters.moved()] == [False]
    held[1].data[1] = 1.0
    assert [_number(moved) for moved in parameters.moved()] == [True]
    assert [_number(moved) for moved in parameters.moved()] == [False]
    spoil(held[0].grad)
    spoil(held[0].data)
    assert _number(parameters.finite()) is _number(parameters.gradients_finite(0)) is False
    assert [_number(moved) for moved in parameters.moved()] == [True]
    assert [_number(moved) for moved in parameters.moved()] == [False]
