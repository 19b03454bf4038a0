"""What every exported script has: its header, the import of its subject, and the run that shows what it does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.errors import ending
from harness.files import one_line
from harness.findings.case_file import CaseFile
from harness.kinds.registry import claim_of, describe
from harness.precision import Precision
from harness.subject_spec import SubjectSpec
from harness.subjects.door import PlainImport, plain_import

_MOST_PRINTED = 2000


@dataclass(frozen=True)
class Draft:
    """A script without its header.

    Attributes:
        body: the source.
        aside: what the reader must be told of how it differs from the case; empty for nothing.
    """

    body: str
    aside: str = ""


@dataclass(frozen=True)
class Exported:
    """A script, and what came of running it.

    Attributes:
        printed: its output.
        reproduces: what it printed shows the failure.
    """

    text: str
    printed: str
    reproduces: bool


def with_header(file: CaseFile, draft: Draft, printed: str, reproduces: bool) -> str:
    """The whole script: what it shows, what it printed, and the source."""
    task = file.task
    here = f"torch {torch.__version__}"
    said = f"Run when it was written ({here}), it printed:"
    if not reproduces:
        said = f"Run when it was written ({here}), it did NOT show the failure by itself; it printed:"
    paragraphs = [
        f"{file.subject.spec}: {task.property} under {task.precision}",
        *([f"It was found that {file.message.rstrip('.')}."] if file.message else []),
        f"The property claims: {claim_of(task.kind, task.property)}",
        f"The case: {describe(file.case, task.property)}.",
        *([draft.aside] if draft.aside else []),
        *(
            [f"In the harness it fails only after {len(file.earlier)} other calls, which this script doesn't make."]
            if file.earlier
            else []
        ),
        said,
    ]
    lines = [line for paragraph in paragraphs for line in _comment(paragraph)]
    lines += [f"#     {one_line(line)}".rstrip() for line in printed.splitlines()]
    return "\n".join([*lines, "#", *_comment(_HOW), "", draft.body.rstrip(), ""])


_HOW = (
    "It needs torch and the subject alone. Run it where the subject's folder, as told below, is right; or name that "
    "folder as the first argument."
)


def _comment(text: str) -> list[str]:
    # One line: whatever the text is made of, nothing of it is code.
    return textwrap.wrap(one_line(text), 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def importing(subject: SubjectSpec) -> list[str]:
    """Lines that import the subject as ``Subject``, given ``importlib.util``, ``operator``, ``pathlib`` and ``sys``.

    Raises:
        HarnessError: it isn't there.
    """
    place = plain_import(subject.spec, subject.root)
    lines = [
        f"folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else {_from_here(place.folder)!r})",
        "sys.path.insert(0, str(folder))",
    ]
    if place.file is None:
        lines += [f"module = importlib.import_module({place.module!r})"]
    else:
        lines += _loading(place, place.file)
    return [*lines, f"Subject = operator.attrgetter({place.name!r})(module)"]


def _loading(place: PlainImport, file: Path) -> list[str]:
    within = os.path.relpath(file, place.folder)
    return [
        f"spec = importlib.util.spec_from_file_location({place.module!r}, folder / {within!r})",
        "module = importlib.util.module_from_spec(spec)",
        f"sys.modules[{place.module!r}] = module",
        "spec.loader.exec_module(module)",
    ]


def _from_here(folder: Path) -> str:
    here = Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else str(folder)


def autocast_source(precision: Precision, device: str) -> str:
    """The autocast of a precision, around a call on the device."""
    if precision.autocast_dtype is None:
        return f"torch.autocast({device!r}, enabled=False)"
    return f"torch.autocast({device!r}, {precision.autocast_dtype})"


def run_script(text: str, seconds: float) -> str:
    """What the script prints, run in a process of its own from the working folder."""
    with tempfile.TemporaryDirectory(prefix="harness-export-") as folder:
        path = Path(folder) / "case.py"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"still running after {seconds:g} s"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return "\n".join([done.stdout.strip(), ending(done.returncode), *last]).strip()[:_MOST_PRINTED]
    return done.stdout.strip()[:_MOST_PRINTED]
