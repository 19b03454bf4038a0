"""``harness replay``: FIXED (exit 0), FAILED (exit 1) or ERROR (the error's own exit code)."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.cli.check import (
    add_call_options,
    add_case_timeout,
    add_loss_options,
    add_regressions_dir,
    add_subject_options,
    given_subject,
)
from harness.config import Settings, load_settings
from harness.errors import ExitCode, HarnessError, UsageError, printable


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run saved cases again",
        description="Run saved cases again: FIXED (exit 0), FAILED (1) or ERROR: 2 for the file or its case, 3 for "
        "the subject. Of several, 1 where any has failed, else the first error's. This imports the code that the case "
        "files name.",
    )
    what = "a case file, as harness check leaves them, a bundle, as harness watch does, or a folder of either"
    parser.add_argument("files", metavar="FILE", type=Path, nargs="*", help=what)
    parser.add_argument("--all", action="store_true", help="every case of --cases-dir and --regressions-dir")
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    add_case_timeout(parser)
    parser.add_argument("--precision", metavar="NAME", help="run a bundle's loss under this precision, not its own")
    parser.add_argument("--cases-dir", metavar="DIR", help="where failing cases are kept (.harness/cases)")
    add_regressions_dir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and give the exit code."""
    where = {"cases_dir": options.cases_dir, "regressions_dir": options.regressions_dir}
    checked, given = given_settings(options, where)
    paths = _paths(options, checked)
    codes = [_replay(path, given, options.precision, several=len(paths) > 1) for path in paths]
    if len(codes) > 1:
        counts = Counter({0: "FIXED", 1: "FAILED"}.get(code, "ERROR") for code in codes)
        print(", ".join(f"{counts[word]} {word}" for word in ("FIXED", "FAILED", "ERROR") if counts[word]))
    if ExitCode.VIOLATED in codes:
        return ExitCode.VIOLATED
    return next((code for code in codes if code), ExitCode.HELD)


def given_settings(options: argparse.Namespace, where: Mapping[str, str | None]) -> tuple[Settings, Mapping[str, Any]]:
    """All settings, and by their names those that the options give of the subject.

    Args:
        where: options that say where files lie.

    Raises:
        UsageError: as :func:`harness.config.load_settings`.
    """
    given = given_subject(options)
    if options.case_timeout is not None:
        given["case_timeout"] = options.case_timeout
    checked = load_settings({**given, **where})
    return checked, {name: getattr(checked, name) for name in given}


def say_error(error: HarnessError, path: Path | None = None) -> int:
    """Say it on the screen; its exit code."""
    aside = "" if path is None else f"{path}: "
    print(f"ERROR: {printable(f'{aside}{error}')}", file=sys.stderr)
    return int(error.exit_code)


def from_here(path: Path) -> Path:
    """The path as it is told from the working directory, where it lies under it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _paths(options: argparse.Namespace, settings: Settings) -> list[Path]:
    from harness.findings.bundles.bundle import bundles_in
    from harness.findings.known_cases import case_paths

    given = list(options.files)
    if options.all:
        given += [folder for folder in map(Path, (settings.cases_dir, settings.regressions_dir)) if folder.is_dir()]
    elif not given:
        raise UsageError("nothing to replay: name a case file or a folder of them, or say --all.")
    paths = [path for one in given for path in (bundles_in(one) or case_paths(one) if one.is_dir() else [one])]
    if not paths:
        raise UsageError(
            f"nothing to replay: there is no case file and no bundle in {' or '.join(map(str, given)) or 'any folder'}."
        )
    return list(dict.fromkeys(paths))


def _replay(path: Path, given: Mapping[str, Any], precision: str | None, several: bool) -> int:
    from harness.findings.bundles.bundle import is_bundle
    from harness.findings.replay import Answer, replay_contained
    from harness.kinds.registry import describe

    try:
        if is_bundle(path):
            return _replay_bundle(path, given, precision)
        if precision is not None:
            raise UsageError("--precision is for bundles: a case file's precision is its own.")
        replayed = replay_contained(path, given)
    except HarnessError as error:
        # A file's own errors name it.
        return say_error(error, path if several and str(path) not in str(error) else None)
    task = replayed.file.task
    print(f"{replayed.answer.value}: {task.property} under {task.precision}: {replayed.message}")
    if several:
        print(f"  file: {from_here(path)}")
    print(f"  case: {describe(replayed.file.case, task.property)}")
    if replayed.level is not None:
        print(f"  level: {replayed.level.value}")
    if replayed.file.earlier:
        print(f"  after {len(replayed.file.earlier)} other calls")
    return int(ExitCode.HELD if replayed.answer is Answer.FIXED else ExitCode.VIOLATED)


def _replay_bundle(path: Path, given: Mapping[str, Any], precision: str | None) -> int:
    from harness.findings.bundles.bundle import read_bundle
    from harness.findings.bundles.replay import Replayer

    bundle = read_bundle(path)
    replayer = Replayer(bundle, str(path), precision, given.get("subject_root"))
    again = replayer.run()
    recorded = replayer.loss.value
    answer = "FIXED" if again.violation is None else "FAILED"
    said = "which is right" if again.violation is None else f"which {again.violation}"
    print(f"{answer}: {bundle.rule} under {again.precision}: {replayer.loss.name} gives {again.value!r}, {said}")
    print("  the recorded value, to the last bit" if again.same else f"  the recorded value is {recorded!r}")
    if again.exact is not None:
        print(f"  in float64: {again.exact!r}")
    print(f"  seen: {bundle.sentence}")
    return int(ExitCode.HELD if again.violation is None else ExitCode.VIOLATED)
