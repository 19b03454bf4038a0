"""Small suites of goldens in a folder of their own, for the goldens' tests."""

from __future__ import annotations

from pathlib import Path

from harness.goldens.folder import GoldenFolder
from harness.goldens.recording import update

# Reads what it returns from a file beside it, so that a test can move it.
SUBJECT = """
from pathlib import Path

import torch


def measured(device, name):
    shift = float((Path(__file__).parent / "shift.txt").read_text())
    return {
        "value": 1.0 + shift,
        "gradient": torch.arange(12.0).reshape(3, 4) + shift,
        "large": torch.arange(4000.0) + shift,
        "series": [0.5, float("nan"), float("inf"), shift],
        "count": 3,
        "reason": ["none", None],
    }
"""

GROUP = """
[group.{name}]
kind = "function"
subject = "{subject}:measured"
arguments = {{ name = "{name}" }}
precisions = {precisions}
tolerances.value = {{ relative = 1e-3 }}
tolerances.gradient = {{ relative = 1e-3 }}
tolerances.large = {{ relative = 1e-3 }}
tolerances.series = {{ absolute = 1e-3 }}
"""


def make_suite(folder: Path, names: tuple[str, ...] = ("a", "b"), precisions: str = '["float32"]') -> Path:
    """``folder/golden/suite.toml`` and its subject, at shift 0; nothing is recorded."""
    (folder / "golden").mkdir(exist_ok=True)
    subject = folder / "golden_subject.py"
    subject.write_text(SUBJECT)
    move(folder, 0.0)
    text = "".join(GROUP.format(name=name, subject=subject, precisions=precisions) for name in names)
    (folder / "golden" / "suite.toml").write_text(text)
    return folder / "golden"


def move(folder: Path, shift: float) -> None:
    """Shift what the subject returns."""
    (folder / "shift.txt").write_text(repr(shift))


def recorded_goldens(folder: Path, **suite: object) -> GoldenFolder:
    """A suite at shift 0, recorded."""
    goldens = GoldenFolder(make_suite(folder, **suite))  # type: ignore[arg-type]
    update(goldens, "the first")
    return goldens
