"""``harness rehearse -- train.py …``: what does a training script do with bad batches?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.check import write_reports
from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.rehearsal.rehearsal import Rehearsal

_MOST_RANKS = 16


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "rehearse",
        help="run a training script with faults put into it, without a GPU",
        description="Run a training script as it is, put NaN, overflowing, huge and missing gradients into it, and "
        "tell what it does with them, rule by rule and line by line. Where there is no GPU, one is pretended.",
        epilog="example: harness rehearse -- train.py --device=cuda --batch_size=2",
    )
    parser.add_argument("--faults", metavar="NAME,…", help="only these (all)")
    parser.add_argument(
        "--dtype",
        metavar="TYPE",
        default="",
        help="float16 or bfloat16: the half precision that autocast has, whatever the script says; what it casts "
        "itself, by .half() or .bfloat16(), stays as it is (the script's)",
    )
    parser.add_argument(
        "--ranks", type=int, default=1, metavar="N", help="train in N processes, with each fault in one of them (1)"
    )
    parser.add_argument(
        "--resume-with",
        metavar="ARGUMENTS",
        default="",
        help="what the script is given besides to go on after a kill, as in '--resume {checkpoint}' (nothing: it may "
        "find its checkpoint itself)",
    )
    parser.add_argument("--budget", default="60s", metavar="TIME", help="start nothing after this long: 90s, 5m (60s)")
    parser.add_argument(
        "--fork",
        choices=("auto", "never"),
        default="never",
        help="auto: where it is sound, run the script's beginning once, and fork it for each run with faults (never)",
    )
    pretend = parser.add_mutually_exclusive_group()
    what = "pretend CUDA, as is done where there is no GPU"
    pretend.add_argument("--pretend-cuda", action="store_true", default=None, help=what)
    pretend.add_argument("--no-pretend-cuda", dest="pretend_cuda", action="store_false", help="don't")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write the table, the findings and every window there"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write all of it as a page that loads nothing")
    parser.add_argument(
        "--png", metavar="FILE", type=Path, help="draw the windows there: loss, norm, scale, rate, what moved, faults"
    )
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, metavar="-- SCRIPT …", help="the script, or -m MODULE, and its arguments"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Rehearse, report, and give the exit code."""
    budget = seconds_of(options.budget)
    words = options.script[1:] if options.script[:1] == ["--"] else options.script
    import torch

    from harness.rehearsal.faults import faults_named
    from harness.rehearsal.half_precision import half_named
    from harness.rehearsal.places import Script
    from harness.rehearsal.rehearsal import rehearse
    from harness.reports.console import report_console
    from harness.reports.progress import ProgressBar
    from harness.reports.rehearsal import show_rehearsal

    script = _script(words, Script)
    faults = faults_named(options.faults.split(",") if options.faults else ())
    half = half_named(options.dtype)
    if not 1 <= options.ranks <= _MOST_RANKS:
        raise UsageError(f"--ranks is {options.ranks}, but must be from 1 to {_MOST_RANKS}.")
    pretend = not torch.cuda.is_available() if options.pretend_cuda is None else options.pretend_cuda
    console = report_console()
    with ProgressBar(console) as bar:
        rehearsal = rehearse(
            script,
            faults,
            pretend_cuda=pretend,
            budget=budget,
            told=bar.still,
            half=half,
            ranks=options.ranks,
            resume_with=options.resume_with,
            fork=options.fork == "auto",
        )
    # Before anything is printed, and what can't be written costs neither the others nor the screen.
    unwritten = write_reports(_reports(options), rehearsal)
    show_rehearsal(rehearsal, console)
    if unwritten is not None:
        raise unwritten
    if rehearsal.findings:
        return ExitCode.VIOLATED
    return ExitCode.INCOMPLETE if rehearsal.left else ExitCode.HELD


def _reports(options: argparse.Namespace) -> list[tuple[Path, Callable[[Path, Rehearsal], None]]]:
    """The files that are asked for, and what writes each."""
    reports: list[tuple[Path, Callable[[Path, Rehearsal], None]]] = []
    if options.json is not None:
        from harness.reports.rehearsal import write_rehearsal

        reports.append((options.json, write_rehearsal))
    if options.html is not None:
        from harness.reports.page.rehearsal import write_rehearsal_page

        reports.append((options.html, write_rehearsal_page))
    if options.png is not None:
        from harness.reports.rehearsal_picture import draw_rehearsal

        reports.append((options.png, draw_rehearsal))
    return reports


def _script(words: list[str], script: Any) -> Any:
    if not words:
        raise UsageError("nothing to rehearse: name the script after --, as in harness rehearse -- train.py --lr 1e-3")
    if words[0] == "-m":
        if len(words) < 2:
            raise UsageError("-m needs a module's name.")
        return script(module=words[1], arguments=tuple(words[2:]))
    return script(path=words[0], arguments=tuple(words[1:]))


def seconds_of(text: str) -> float:
    """What ``--budget`` says: a number above 0, with ``s``, ``m`` or ``h`` behind it, or seconds.

    Raises:
        UsageError: it is something else.
    """
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:].lower())
    try:
        number = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise UsageError(f"--budget is {text!r}, but must be a time such as 60s or 5m.")
    return number
