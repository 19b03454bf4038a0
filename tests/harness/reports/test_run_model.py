"""The model of a run, from events, and what reports make of it."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

from harness.cases.descriptors import LossCase
from harness.config import Settings
from harness.engine.events import CaseFailed, Event, RunStarted
from harness.engine.pool import run_pooled
from harness.engine.result import Outcome
from harness.findings.recorder import CaseRecorder
from harness.reports.console import ReportConsole
from harness.reports.json_report import cell_report, report, write_report
from harness.reports.run_model import RunModel
from harness.reports.terminal import show_run
from harness.reports.words import violation_lines
from harness.subject_spec import SubjectKind, SubjectSpec
from tests.harness.reports.made_up_run import FINITE, RANGE, made_up_events, run_of

BEFORE_FIX = "harness.subjects.known_bad.losses:LossBeforeFix"


def test_everything_that_a_report_needs_is_kept(tmp_path: Path) -> None:
    run = run_of(*made_up_events(str(tmp_path)))
    assert run.subject(SubjectKind.LOSS) == SubjectSpec("m:L", truth="mse")
    assert run.subject(SubjectKind.STEP) is None
    assert (run.ended, run.outcome, run.examples) == ("finished", Outcome.VIOLATED, 9)
    # In the plan's order, whichever came first.
    range_, finite = run.cells
    assert (range_.task, finite.task) == (RANGE, FINITE)
    assert range_.evidence == {"value": -math.inf, "arrays": {}}
    assert (finite.evidence, finite.replay, finite.case_file) == (None, None, None)
    sentence, claim, worst, worst_replay, smallest, after, *said, replay = violation_lines(cell_report(range_))
    assert worst.endswith("seed 9")
    assert worst_replay == f"replay: {range_.worst_replay}" != replay
    assert sentence == "the loss is [-inf]"
    assert claim == "claim: The loss lies in the range of its definition, which for 1 − SSIM is [0, 2]."
    assert smallest.endswith("seed 7")
    assert after == "after 1 other calls, which the case file holds"
    assert said == ["printed last: first [line]", "printed last: last"]
    assert replay == f"replay: harness replay {range_.case_file}"


def test_a_run_that_was_cut_off_is_no_finished_one(tmp_path: Path) -> None:
    run = run_of(*made_up_events(str(tmp_path))[:4])
    assert (run.ended, run.outcome, len(run.cells)) == ("failed", Outcome.INCOMPLETE, 1)
    run.ended = "interrupted"
    assert report(run)["status"] == "interrupted"


def test_evidence_is_of_the_case_that_is_reported(tmp_path: Path) -> None:
    *before, violated, _, _, finished = made_up_events(str(tmp_path))
    lost = CaseFailed(RANGE, LossCase(seed=8), "ends the interpreter (signal 11)", shrunk=True)
    (cell,) = run_of(*before, lost, violated, finished).violated
    assert cell.evidence is None


def test_the_json_holds_what_json_can(tmp_path: Path) -> None:
    run = run_of(*made_up_events(str(tmp_path)))
    write_report(tmp_path / "report.json", report(run))
    data = json.loads((tmp_path / "report.json").read_text())
    assert data == report(run)
    violated, held = data["results"]
    assert (violated["worst"], violated["evidence"]["value"]) == ("-inf", "-inf")
    assert (held["worst"], held["evidence"], held["case_words"]) == (0.25, None, "")
    assert (data["subject"]["data_range"], data["subject"]["data_range_words"]) == (1.0, "data_range 1, [so]")
    assert data["warnings"] == [
        {"category": "UserWarning", "message": "[odd] 1", "where": "m.py:1", "times": 5},
        {"category": "FutureWarning", "message": "soon", "where": "", "times": 1},
    ]
    assert (data["schema"], data["left_out"]) == ("harness-report/4", "all else left out: no reason.")


def test_the_terminal_prints_brackets_as_they_are(tmp_path: Path) -> None:
    console = ReportConsole(file=io.StringIO(), width=110)
    show_run(run_of(*made_up_events(str(tmp_path))), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "loss m:L, held to [mse] (data_range 1, [so])" in printed
    assert "definition: In float64 this is [mse]." in printed
    assert "FAULT range under float32: the loss is [-inf]" in printed
    assert (
        "2 warnings of the subject (--verbose: each as it comes):\n  UserWarning: [odd] 1 (5 times, m.py:1)" in printed
    )
    assert "VIOLATED: 1 fault, 1 held; 9 examples, seed 3" in printed


def test_the_events_of_a_real_run_tell_it_again(tmp_path: Path) -> None:
    heard: list[Event] = []
    live = RunModel()
    settings = Settings(loss=BEFORE_FIX, max_examples=40, workers=2, cases_dir=str(tmp_path))

    def listen(event: Event) -> None:
        heard.append(event)
        live(event)

    results = run_pooled(RunStarted((RANGE, FINITE), settings), listen, CaseRecorder(settings))
    again = run_of(*heard)
    timeless = [{**report(run), "seconds": 0} for run in (live, again)]
    assert timeless[0] == timeless[1]
    assert tuple(cell.result for cell in again.cells) == results
    (violated,) = again.violated
    assert violated.case_file is not None
    assert Path(violated.case_file).is_file()
