"""Which precisions can be had: those that need no emulation run where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cli.main import main
from harness.config import Settings
from harness.engine.run import TaskRunner
from harness.errors import ExitCode, PrecisionError, UsageError
from harness.precision import PRECISIONS, import_guard, left_out, precisions_named, unavailable_reason
from harness.precision.cuda_policy import emulation
from harness.precision.cuda_policy.coverage import unemulated_ops
from harness.subject_spec import SubjectKind

LOSS = "gslrm.model.utils_losses:MaskedSsimLoss"
EMULATED = {p.name for p in PRECISIONS if p.cuda_policy}
HERE = {p.name for p in PRECISIONS if p.device == "cpu" or torch.cuda.is_available()}


@pytest.fixture(params=["no header", "another header", "no torch.library"])
def no_emulation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A torch in which CUDA autocast can't be emulated; what the reason says."""
    monkeypatch.setattr(emulation, "_INSTALLATION", emulation._Installation())
    if request.param == "no torch.library":
        monkeypatch.setattr(emulation, "Library", None)
        return "does not let CUDA autocast be emulated"
    header = tmp_path / "autocast_mode.h"
    if request.param == "another header":
        header.write_text("#pragma once\n")
    monkeypatch.setattr("harness.precision.cuda_policy.autocast_lists.installed_header", lambda: header)
    return "Cannot read the CUDA autocast lists"


def test_every_precision_of_the_cpu_is_had_here() -> None:
    assert left_out() is None
    assert {p.name for p in precisions_named(())} == HERE


def test_without_emulation_the_others_are_had(no_emulation: str) -> None:
    assert {p.name for p in precisions_named(())} == HERE - EMULATED
    assert {p.name for p in PRECISIONS if no_emulation in (unavailable_reason(p) or "")} == EMULATED
    assert unemulated_ops() == ()
    sentence = left_out()
    assert sentence is not None
    assert sentence.startswith("cuda-policy-float16 and cuda-policy-bfloat16 left out: ")
    assert no_emulation in sentence


def test_without_emulation_asking_for_it_is_an_error_for_people(no_emulation: str) -> None:
    with pytest.raises(PrecisionError, match=f"can't run on this machine: .*{no_emulation}") as raised:
        precisions_named(["float32", "cuda-policy-float16"])
    assert raised.value.exit_code is ExitCode.PRECISION
    (precision,) = (p for p in PRECISIONS if p.name == "cuda-policy-float16")
    with pytest.raises(PrecisionError, match=no_emulation), precision.installed():
        pass


@pytest.mark.usefixtures("no_emulation")
def test_without_emulation_subjects_are_loaded_all_the_same() -> None:
    with import_guard():
        pass
    assert TaskRunner(Settings(loss=LOSS)).session.subject(SubjectKind.LOSS) is not None


@pytest.mark.parametrize("no_emulation", ["no header"], indirect=True)
def test_a_default_check_says_what_it_leaves_out(
    no_emulation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_WORKERS", "1")
    cheap = ["check", "--loss", LOSS, "--property", "repeatable", "--max-examples", "1", "--cases-dir", str(tmp_path)]
    assert main(cheap) == ExitCode.HELD
    printed = capfd.readouterr().out
    assert printed.count("cuda-policy-float16 and cuda-policy-bfloat16 left out: ") == 1
    assert no_emulation in printed
    assert f"HELD: {len(HERE - EMULATED)} held" in printed
    assert main([*cheap, "--precision", "cuda-policy-bfloat16"]) == ExitCode.PRECISION
    assert no_emulation in capfd.readouterr().err


def test_a_subject_that_raises_on_import_is_not_hidden_by_the_guard() -> None:
    with pytest.raises(PrecisionError, match="the subject's own"), import_guard():
        raise PrecisionError("the subject's own")


def test_an_unknown_name_is_a_wrong_option() -> None:
    with pytest.raises(UsageError, match="did you mean 'float32'"):
        precisions_named(["float33"])
