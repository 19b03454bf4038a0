"""A run as JUnit XML, in Markdown, as SARIF and as JSON by its published schema."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from junitparser import Failure, JUnitXml

from harness.cli.main import main
from harness.errors import ExitCode, UsageError
from harness.files import write_atomically
from harness.packed_arrays import packed, unpacked
from harness.reports.json_report import check_command, report, write_report
from harness.reports.junit import write_junit
from harness.reports.markdown import summary
from harness.reports.page.page import page
from harness.reports.report_schema import report_schema
from harness.reports.sarif import sarif
from harness.reports.saved_report import read_report
from tests.harness.reports.made_up_report import (
    HOSTILE,
    acquitted_loss,
    convicted_loss,
    convicted_step,
    hostile_report,
)
from tests.harness.reports.made_up_run import made_up_events, run_of

REPORTS = [convicted_loss, convicted_step, acquitted_loss, hostile_report]


@pytest.mark.parametrize("made", REPORTS)
def test_reports_keep_to_the_published_schema(made: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(report_schema())
    write_report(tmp_path / "run.json", made())
    assert read_report(tmp_path / "run.json") == json.loads(json.dumps(made()))


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == ExitCode.HELD
    assert json.loads(capsys.readouterr().out) == report_schema()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda r: r.update(schema="harness-report/3"),
            "has the schema harness-report/3, but harness-report/4 is read",
        ),
        (lambda r: r.pop("schema"), "names no schema"),
        (lambda r: r["results"][0].update(level="grave"), r"at \$.results\[0\].level, 'grave' is not one of"),
        (lambda r: r["results"][0].pop("claim"), r"at \$.results\[0\], 'claim' is a required property"),
        (lambda r: r.update(more=1), "Additional properties are not allowed"),
    ],
)
def test_a_file_that_is_no_report_is_refused(spoil: Callable[[Any], Any], told: str, tmp_path: Path) -> None:
    spoilt = copy.deepcopy(convicted_step())
    spoil(spoilt)
    write_atomically(tmp_path / "run.json", json.dumps(spoilt))
    with pytest.raises(UsageError, match=told):
        read_report(tmp_path / "run.json")


@pytest.mark.parametrize(
    "array",
    [
        {"shape": [2, 2], "float32": "AAAA"},
        {"shape": [1], "float32": "no base64!"},
        {"shape": [2**40], "float32": ""},
        {"shape": [0, 2**40], "float32": ""},
        {"shape": [3], "float32": packed([1.0, 2.0, 3.0])["float32"]},
    ],
)
def test_evidence_that_is_no_picture_is_refused(array: dict[str, Any]) -> None:
    spoilt = copy.deepcopy(convicted_loss())
    spoilt["results"][0]["evidence"]["arrays"]["mask"] = array
    with pytest.raises(UsageError, match="the report's evidence can't be drawn"):
        page(spoilt)


def test_arrays_come_back_to_float32() -> None:
    numbers = [[0.1, -0.0], [float("inf"), 1e-30]]
    assert unpacked(packed(numbers)).tolist() == [[0.10000000149011612, -0.0], [float("inf"), pytest.approx(1e-30)]]


def test_a_saved_run_renders_as_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = convicted_loss()
    write_report(tmp_path / "run.json", made)
    names = {"html": "run.html", "junit": "run.xml", "markdown": "run.md", "sarif": "run.sarif"}
    flags = [word for name, file in names.items() for word in (f"--{name}", str(tmp_path / file))]
    assert main(["report", str(tmp_path / "run.json"), *flags]) == ExitCode.HELD
    assert capsys.readouterr().out.split() == [str(tmp_path / file) for file in names.values()]
    assert (tmp_path / "run.html").read_text() == page(made)
    assert (tmp_path / "run.md").read_text() == summary(made)
    assert json.loads((tmp_path / "run.sarif").read_text()) == sarif(made)
    assert main(["report", str(tmp_path / "run.json")]) == ExitCode.USAGE


def test_the_same_run_gives_the_same_page() -> None:
    assert page(convicted_loss()) == page(convicted_loss())


def test_junit_has_a_test_for_each_cell(tmp_path: Path) -> None:
    write_junit(tmp_path / "run.xml", convicted_loss())
    (suite,) = JUnitXml.fromfile(str(tmp_path / "run.xml"))
    rounding, fault, definition = suite
    assert (suite.tests, suite.failures, suite.errors) == (3, 1, 0)
    assert fault.name == "range[cpu-autocast-bfloat16]"
    assert isinstance(fault.result[0], Failure)
    assert "harness replay" in fault.result[0].text
    assert rounding.result == definition.result == []
    assert rounding.system_out.startswith("rounding: ")
    write_junit(tmp_path / "held.xml", acquitted_loss())
    (suite,) = JUnitXml.fromfile(str(tmp_path / "held.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (2, 0, 1)


def test_markdown_has_the_table_and_each_propertys_gravest() -> None:
    text = summary(convicted_loss())
    assert text.startswith("### ❌ violated: loss `harness.subjects.known_bad.losses:LossBeforeFix`\n")
    assert "| property | float32 | cpu-autocast-bfloat16 |\n|---|---|---|\n" in text
    assert "| range | rounding −1e−05 | **fault** −1e−05 |" in text
    violations = re.findall(r"^- \*\*(\w+)\*\* `([\w-]+)` under `([\w-]+)`", text, re.MULTILINE)
    assert violations == [("fault", "range", "cpu-autocast-bfloat16"), ("definition", "accuracy", "float32")]


def test_what_a_subject_says_is_text_in_markdown_and_xml(tmp_path: Path) -> None:
    made = hostile_report()
    text = re.sub(r"(`+).*?\1", "", summary(made))
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\[a", text)
    write_junit(tmp_path / "run.xml", made)
    (suite,) = JUnitXml.fromfile(str(tmp_path / "run.xml"))
    assert HOSTILE in {case.result[0].message for case in suite if case.result}


def test_a_job_on_github_gets_its_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job.md"))
    (tmp_path / "subject.py").write_text("def loss(x, y):\n    return (x - y).square().mean()\n")
    arguments = ["check", "--loss", f"{tmp_path}/subject.py:loss", "--truth", "mse", "--property", "finite"]
    arguments += ["--precision", "float32", "--workers", "1", "--cases-dir", str(tmp_path), "--max-examples", "1"]
    found = main([*arguments, "--sarif", str(tmp_path / "r.sarif")])
    assert found == ExitCode.HELD
    assert (tmp_path / "job.md").read_text().startswith("before\n### ✅ held: loss `")
    assert json.loads((tmp_path / "r.sarif").read_text())["runs"][0]["results"] == []


def test_sarif_names_the_subjects_line() -> None:
    root = Path(__file__).parents[3]
    (run,) = sarif(convicted_loss(), root)["runs"]
    first, second = run["results"]
    assert (first["ruleId"], first["level"], second["level"]) == ("loss/range", "error", "warning")
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "harness/subjects/known_bad/losses.py", "uriBaseId": "%SRCROOT%"}
    lines = (root / place["artifactLocation"]["uri"]).read_text().splitlines()
    assert lines[place["region"]["startLine"] - 1] == "class LossBeforeFix(nn.Module):"
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {"loss/range", "loss/accuracy"}


def test_the_command_checks_the_same_again(tmp_path: Path) -> None:
    run = run_of(*made_up_events(str(tmp_path)))
    assert report(run)["command"] == "harness check --loss m:L --truth mse --seed 3"
    from harness.cli.main import command_line
    from harness.config import Settings, load_settings

    settings = Settings(
        loss="a.py:L b", truth="mse", similarity=True, strict=True, arguments={"n": 3, "s": "x y"}, scale=0.5,
        call="f(x, y)", properties=("range", "finite"), precisions=("float32",), seed=4, max_time=9.0,
    )  # fmt: skip
    import shlex

    _, *words = shlex.split(check_command(settings))
    options = vars(command_line().parse_args(words))
    plural = {"argument": "arguments", "property": "properties", "precision": "precisions", "promise": "promises"}
    flags = {plural.get(k, k): v for k, v in options.items() if plural.get(k, k) in Settings.__dataclass_fields__}
    again = load_settings(flags, directory=tmp_path, environment={})
    assert check_command(again) == check_command(settings)
    assert (again.arguments, again.properties, again.scale) == (settings.arguments, settings.properties, 0.5)
