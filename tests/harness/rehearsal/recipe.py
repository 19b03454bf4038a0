"""The right loop that faults are planted into, what of it they replace, and how it is rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.rehearsal.faults import Fault
from harness.rehearsal.rehearsal import Rehearsal

RIGHT = Path(__file__).with_name("right_recipe.py").read_text()
LOOP = "for step in range(given.steps):\n"
CLIP = "    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
ADVANCE = "    if torch.isfinite(norm):\n        schedule.step()\n        for"


class Rehearse(Protocol):
    """Rehearses a script of this text, with these faults and further arguments."""

    def __call__(self, text: str, faults: tuple[Fault, ...] = ..., *more: str) -> Rehearsal: ...


def line_of(text: str, words: str) -> str:
    """The first line of the script that has these words in it, as findings tell it."""
    return f"train.py:{next(n for n, line in enumerate(text.splitlines(), 1) if words in line)}"
