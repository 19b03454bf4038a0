"""A run as JUnit's XML, which CI systems show as tests: one for each property and precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.errors import printable
from harness.files import move_into_place
from harness.reports.words import violation_lines


def write_junit(path: Path, report: Mapping[str, Any]) -> None:
    """Write it atomically.

    A violation that counts is a failure; one that doesn't passes, with its sentence as output. What doesn't apply is
    skipped, and what wasn't run an error.
    """
    xml = JUnitXml("harness check")
    for kind in dict.fromkeys(cell["kind"] for cell in report["results"]):
        suite = TestSuite(printable(f"{kind} {report['subject'][kind]}"))
        for cell in report["results"]:
            if cell["kind"] == kind:
                suite.add_testcase(_case(cell))
        xml.add_testsuite(suite)
    with move_into_place(path) as temporary:
        xml.write(str(temporary), pretty=True)


def _case(cell: Mapping[str, Any]) -> TestCase:
    case = TestCase(f"{cell['property']}[{cell['precision']}]", f"harness.{cell['kind']}", cell["seconds"])
    message = printable(cell["message"], 1000)
    if cell["status"] == "violated":
        text = printable("\n".join(violation_lines(cell)), 10_000)
        if cell["counts"]:
            failure = Failure(message, cell["level"] or "fault")
            failure.text = text
            case.result = [failure]
        else:
            case.system_out = f"{cell['level']}: {text}"
    elif cell["status"] == "not applicable":
        case.result = [Skipped(message)]
    elif cell["status"] == "not run" or cell["cut_short"]:
        case.result = [Error(message, cell["status"])]
    return case
