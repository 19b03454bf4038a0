from __future__ import annotations

import base64
import re
import sys
import zlib
from collections.abc import Iterator
from math import inf, nan
from pathlib import Path
from unittest import mock

import pytest
import torch

from harness.cases.descriptors import Action, LossCase, Perturbation, PerturbationKind, StepCase
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.session import Session
from harness.errors import UsageError
from harness.findings.case_file import CaseFile
from harness.findings.export.export import export
from harness.findings.export.literals import arguments_source, tensor_source
from harness.findings.export.script import Draft, shortened, with_header
from harness.findings.export.step_script import StepScript
from harness.kinds.step_worlds import first_programs
from harness.precision import precisions_named
from harness.subject_spec import SubjectKind
from tests.harness.findings.bare import run_bare

_RANDOM = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
_TENSORS = {
    "constant": torch.full((1, 3, 11, 11), 0.1),
    "written": _RANDOM,
    "half": _RANDOM.half(),
    "brain half": _RANDOM.bfloat16(),
    "double": _RANDOM.double() / 3,
    "whole numbers": torch.tensor([[[[0.0, 1.0, 2.0, -0.0]]]]),
    "a zero with a sign": torch.tensor([[0.0, -0.0]]),
    "smallest": torch.tensor([1e-45, 3.4028235e38, 1.17549435e-38]),
    "not finite": torch.tensor([[[[nan, inf, -inf, 0.5]]]]),
    "one plane": _RANDOM[:, :1].repeat(1, 3, 1, 1),
    "mask": (_RANDOM[:, :1] > 0.5).float(),
    "bytes": (_RANDOM * 255).to(torch.uint8),
    "large": torch.rand(2, 3, 48, 96, generator=torch.Generator().manual_seed(1)),
    "large half": torch.rand(2, 3, 48, 96).half(),
    "channels last": _RANDOM.to(memory_format=torch.channels_last),
    "empty": torch.empty(1, 3, 0, 4),
}


@pytest.mark.parametrize("name", _TENSORS)
def test_a_tensor_is_built_again_to_the_bit(name: str) -> None:
    tensor, made = _TENSORS[name], {}
    source = "\n".join(tensor_source("made", tensor))
    exec(source, {"torch": torch, "base64": base64, "zlib": zlib, "nan": nan, "inf": inf}, made)
    built = made["made"]
    assert (built.dtype, built.shape, built.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    numbers = {"nan": 7.0} if tensor.is_floating_point() else {}
    one, other = (t.nan_to_num(**numbers) if numbers else t for t in (built, tensor))
    assert torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
    assert max(map(len, source.splitlines())) <= 120


def test_nothing_of_a_case_file_becomes_code() -> None:
    """A file's words stand in comments of one line each, and its names in quotes."""
    assert arguments_source({"size": 11, "name": "a'b"}) == 'size=11, name="a\'b"'
    hostile = arguments_source({"x); import os; (": 1})
    assert hostile == "**{'x); import os; (': 1}"
    task = Task(SubjectKind.LOSS, "range", "float32")
    case = LossCase(perturbation=Perturbation(PerturbationKind.NOISE))
    message = 'a\nimport os\r\n"""\u2028import sys\x0b'
    file = CaseFile.of(Settings(loss="m:L"), task, case, message)
    text = with_header(file, Draft("body = 1"), "printed\nimport os", reproduces=False)
    code = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert code == ["body = 1"]
    compile(text, "case.py", "exec")
    assert "did NOT show the failure" in text


@pytest.fixture
def run_where_there_is_no_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_imports: None
) -> Iterator[None]:
    """The run that fills a script's header is such a one, and everything lies in ``tmp_path``."""

    def run(text: str, _: float) -> str:
        (tmp_path / "sent.py").write_text(text)
        return run_bare(tmp_path / "sent.py", tmp_path).strip()

    monkeypatch.setattr("harness.findings.export.export.run_script", run)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("exported_subject", None)


def _exported(subject: str, property_: str, precision: str, case: StepCase) -> list[str]:
    """What the script of a failing step prints; the header says that it shows the failure."""
    Path("exported_subject.py").write_text(subject)
    task = Task(SubjectKind.STEP, property_, precision)
    CaseFile.of(Settings(step="exported_subject.py:Wrong"), task, case, "m").write(Path("case.json"))
    exported = export(Path("case.json"), {})
    assert exported.reproduces, exported.text
    assert "did NOT" not in exported.text
    lines = exported.printed.splitlines()
    assert len(lines) == 2 * len(case.actions)
    return lines


_FIRST = """
import torch
from torch import nn


class Wrong:
    '''Halves the last group's rate; clips what it began with; a new one has counted what the old one has.'''

    updates = 0

    def __init__(
        self, optimizer, scaler, lr_scheduler, grad_accum_steps, grad_clip_norm, allowed_gradnorm_factor
    ):
        self.parts = optimizer, scaler, lr_scheduler
        self.every, self.clip_norm = grad_accum_steps, grad_clip_norm
        self.limit = grad_clip_norm * allowed_gradnorm_factor
        self.known = [p for group in optimizer.param_groups for p in group["params"]]
        self.fwdbwd_pass_step = self.param_update_step = 0

    def backward(self, loss):
        self.parts[1].scale(loss / self.every).backward()
        self.fwdbwd_pass_step += 1

    def step(self):
        optimizer, scaler, schedule = self.parts
        if self.fwdbwd_pass_step % self.every:
            return
        optimizer.param_groups[-1]["lr"] /= 2
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.known, self.clip_norm)
        if norm.isfinite() and norm <= self.limit:
            scaler.step(optimizer)
            schedule.step()
            self.param_update_step += 1
            Wrong.updates = self.param_update_step
        scaler.update()
        optimizer.zero_grad()

    def state_dict(self):
        return {"all": [part.state_dict() for part in self.parts], "passes": self.fwdbwd_pass_step}

    def load_state_dict(self, state):
        for part, saved in zip(self.parts, state["all"]):
            part.load_state_dict(saved)
        self.fwdbwd_pass_step, self.param_update_step = state["passes"], Wrong.updates
"""
_GOOD, _OVER, _NAN, _RESTORE = Action.GOOD, Action.OVER, Action.NAN_BACKWARD, Action.RESTORE
_WORLDS = {
    "three groups": (
        "right-update",
        "float32",
        StepCase(
            actions=(_NAN, _OVER, _GOOD),
            world=World(optimizer=OptimizerKind.ADAMW_FUSED, parameters=ParameterKind.GROUPS),
        ),
        ("gain", True),
    ),
    "added later": (
        "right-update",
        "float32",
        StepCase(actions=(_GOOD, Action.UNDER), world=World(0.25, parameters=ParameterKind.LATE)),
        ("late", True),
    ),
    "through a file": (
        "resume",
        "cpu-autocast-float16",
        StepCase(3, 4, actions=(*[_GOOD] * 3, _RESTORE), world=World(saving=Saving.FILE)),
        ("updates", False),
    ),
}


@pytest.mark.usefixtures("run_where_there_is_no_harness")
@pytest.mark.parametrize("name", _WORLDS)
def test_a_world_is_written_out(name: str) -> None:
    property_, precision, case, (figure, has_right) = _WORLDS[name]
    lines = _exported(_FIRST, property_, precision, case)
    if has_right:
        found, right = (float(re.findall(rf"\b{figure} ([^,]+)", line)[0]) for line in lines[-2:])
        assert abs(found - right) > 1e-5, lines[-2:]
    else:
        # The window that was lost has been counted.
        assert "updates 2" in lines[-2], lines[-2]
        assert "updates 1" in lines[-4], lines[-4]


_KIT = """
import torch
from torch import nn

from harness.adapters import Step


class Wrong(Step):
    '''The average takes in what was dropped, and the last schedule advances on every window.'''

    def begin(self, {many}, scaler, ema=None):
        self.optimizers, self.schedulers = {lists}
        self.scaler, self.ema = scaler, ema

    def step(self, loss, parameters, model, clip_norm, last):
        self.scaler.scale(loss).backward()
        if not last:
            return
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if nn.utils.clip_grad_norm_(parameters, clip_norm).isfinite():
            for optimizer, scheduler in zip(self.optimizers, self.schedulers):
                self.scaler.step(optimizer)
                scheduler.step()
        elif len(self.schedulers) > 1:
            self.schedulers[-1].step()
        self.ema.update_parameters(model)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
"""
_KITS = {
    "averages": ("optimizer, scheduler", "[optimizer], [scheduler]", "drops-bad-windows", "averaged 2 times"),
    "several": ("optimizers, schedulers", "optimizers, schedulers", "schedule", "schedule 1/2"),
}


@pytest.mark.usefixtures("run_where_there_is_no_harness")
@pytest.mark.parametrize("name", _KITS)
def test_a_step_of_the_kit_is_written_out(name: str) -> None:
    many, lists, property_, shown = _KITS[name]
    case = StepCase(actions=(_GOOD, Action.OVERFLOW))
    subject = _KIT.replace("{many}", many).replace("{lists}", lists)
    lines = _exported(subject, property_, "cpu-autocast-float16", case)
    assert shown in lines[-2], lines[-2]
    assert shown not in lines[-1], lines[-1]


@pytest.mark.usefixtures("run_where_there_is_no_harness")
def test_a_step_that_needs_more_of_the_harness_is_refused() -> None:
    many, lists, *_ = _KITS["averages"]
    subject = "from harness.errors import UsageError\n" + _KIT.replace("{many}", many).replace("{lists}", lists)
    with pytest.raises(UsageError, match=r"imports harness\.errors, .*: send the case file"):
        _exported(subject, "schedule", "float32", StepCase(actions=(_GOOD,)))


@pytest.mark.parametrize(
    "spec", ["gslrm.training.amp_step:AmpStep", "tests.harness.subjects.kit_steps:Together"], ids=("ours", "the kit's")
)
def test_a_script_does_in_every_world_what_the_harness_saw(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each action in each of the worlds that a check tours."""
    monkeypatch.setattr(sys, "argv", ["case.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    session = Session(Settings(step=spec))
    (precision,) = precisions_named(["cpu-autocast-float16"])
    programs = first_programs(tuple(Action), session.subject(SubjectKind.STEP), 60)[60:]
    assert len({case.world for case in programs}) >= 7
    for case in programs:
        writer = StepScript(session, Task(SubjectKind.STEP, "truthful", precision.name), precision, case)
        (draft,) = writer.drafts()
        with mock.patch.dict(sys.modules):  # a script has a stand-in for some of them
            exec(compile(draft.body, "case.py", "exec"), {"__name__": "__main__"})
        printed = capsys.readouterr().out
        assert writer.is_shown(printed), f"{case}\n{printed}"


def test_of_a_long_output_the_header_has_the_first_lines_and_the_last() -> None:
    lines = [f"{number} good: parameters moved" for number in range(200)]
    kept = shortened("\n".join(lines)).splitlines()
    assert kept[0] == lines[0]
    assert kept[-1] == lines[-1]
    assert set(kept) - set(lines) == {"[...]"}
    assert len("\n".join(kept)) <= 2010
