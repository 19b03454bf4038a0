"""Which precisions can be had: those that need no emulation run where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cli.main import main
from harness.config import Settings
from harness.engine.run import TaskRunner
from harness.errors import ExitCode, PrecisionError, UsageError
from harness.precision import PRECISIONS, Precision, import_guard, left_out, precisions_named, unavailable_reason
from harness.precision.cuda_policy import emulation
from harness.precision.cuda_policy.coverage import unemulated_ops
from harness.subject_spec import SubjectKind

LOSS = "gslrm.model.utils_losses:MaskedSsimLoss"
EMULATED = [p.name for p in PRECISIONS if p.cuda_policy]
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


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p.name in HERE], ids=lambda p: p.name)
def test_the_context_is_as_the_row_says(precision: Precision) -> None:
    device = "cuda" if precision.cuda_policy else precision.device
    outer = torch.bfloat16 if precision.autocast_dtype == torch.float16 else torch.float16
    with precision.installed(), torch.autocast(device, dtype=outer), precision.context():
        assert torch.is_autocast_enabled(device) == (precision.autocast_dtype is not None)
        if precision.autocast_dtype is not None:
            assert torch.get_autocast_dtype(device) == precision.autocast_dtype


def test_what_the_reference_tells_of_each_is_told_of_no_other() -> None:
    told = {(p.device, p.input_dtype, p.autocast_words) for p in PRECISIONS}
    assert len(told) == len(PRECISIONS), "tell the difference in Precision.autocast_words"


def test_without_emulation_the_others_are_had(no_emulation: str) -> None:
    assert {p.name for p in precisions_named(())} == HERE - set(EMULATED)
    assert {p.name for p in PRECISIONS if no_emulation in (unavailable_reason(p) or "")} == set(EMULATED)
    assert unemulated_ops() == ()
    sentence = left_out()
    assert sentence is not None
    assert sentence.startswith(f"{' and '.join(EMULATED)} left out: ")
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
    assert printed.count(f"{' and '.join(EMULATED)} left out: ") == 1
    assert no_emulation in printed
    assert f"HELD: {len(HERE - set(EMULATED))} held" in printed
    assert main([*cheap, "--precision", "cuda-policy-bfloat16"]) == ExitCode.PRECISION
    assert no_emulation in capfd.readouterr().err


def test_a_subject_that_raises_on_import_is_not_hidden_by_the_guard() -> None:
    with pytest.raises(PrecisionError, match="the subject's own"), import_guard():
        raise PrecisionError("the subject's own")


def test_an_unknown_name_is_a_wrong_option() -> None:
    with pytest.raises(UsageError, match="did you mean 'float32'"):
        precisions_named(["float33"])
