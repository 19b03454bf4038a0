"""``harness explain FILE``: where does this case's loss lose its digits?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.check import add_loss_options, add_subject_options, given_subject
from harness.errors import ExitCode


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="follow a loss case's rounding op by op",
        description="Rerun a loss case and show where its rounding goes beyond what the dtypes should give: the first "
        "such op, every cancellation with the digits it loses, and numbers that should be one and are not; why the "
        "case fails, and what to change, where that is known.",
    )
    parser.add_argument("file", metavar="CASE", type=Path, help="a case file, as harness check leaves them")
    add_subject_options(parser)
    add_loss_options(parser)
    parser.add_argument("--precision", metavar="NAME", help="explain under this precision instead of the file's")
    parser.add_argument("--brief", action="store_true", help="show only what stands out, not the ops")
    parser.add_argument(
        "--all-ops", action="store_true", help="show every op: also of the code around the loss, and mere views"
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write one page there, to be read in a browser, offline"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole trace there; NaN and inf as text")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw error maps next to the images, as PNG")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Explain; the exit code is 0 where that was possible."""
    from harness.config import load_settings
    from harness.findings.explain import explain
    from harness.kinds.registry import describe
    from harness.process_state import one_thread
    from harness.reports.explanation import draw_explanation, explanation_text, write_explanation

    given = given_subject(options)
    checked = load_settings(given)
    with one_thread():
        explanation = explain(options.file, {name: getattr(checked, name) for name in given}, options.precision)
    case_words = describe(explanation.file.case, explanation.file.task.property)
    print(f"{explanation.trial.subject.name.spec}\n{case_words}")
    print(explanation_text(explanation, brief=options.brief, all_ops=options.all_ops))
    if options.json:
        write_explanation(options.json, explanation)
    if options.html:
        from harness.reports.page.explanation_page import write_explanation_page

        write_explanation_page(options.html, explanation)
    if options.picture:
        draw_explanation(options.picture, explanation)
    return ExitCode.HELD
