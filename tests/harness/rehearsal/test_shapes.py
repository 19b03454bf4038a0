"""Scripts in the shapes of public loops, for CUDA, unmodified: the table is right in every row, and so are the lines.

What each shape does was read in its public source, and is measured here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import rehearse

SHAPES = Path(__file__).parent / "shapes"
FAULTS = (Fault.NAN_OUTPUT, Fault.OVERFLOWING_GRADIENT, Fault.NAN_GRADIENT, Fault.HUGE_NORM, Fault.NO_GRADIENT)
LEFT = "the scaler skips the step"


@dataclass(frozen=True)
class Shape:
    """A script and what is to be found.

    Attributes:
        table: its answers that differ from those of the plainest loop; an empty one, for a row that is not there;
            ``@mark`` for a line.
        rules: that are broken, each with the mark of the line that is told.
        also: further pairs of a broken rule and a mark.
        needs: a package that may not be there.
    """

    file: str
    table: dict[str, str]
    rules: dict[str, str] = field(default_factory=dict)
    also: set[tuple[str, str]] = field(default_factory=set)
    needs: str = ""


PLAINEST = {
    "autocast": "float16",
    "a gradient scaler": "on",
    "backward passes in a window": "2",
    "optimizers": "1",
    "gradients": "are clipped to a norm of 1",
    "a NaN loss": LEFT,
    "gradients that overflow half precision": LEFT,
    "NaN in one group's gradients": LEFT,
    "a huge, finite norm": "steps",
    "no gradients at all": "raises AssertionError",
    "the schedule on a skipped step": "advances",
    "the scaler in a checkpoint": "saved",
}
GOES_ON = {"started again after a kill": "goes on as it was", "counters after a resume": "go on: index"}
BEGINS_ANEW = {"started again after a kill": "begins anew: --resume-with says how it resumes"}
ONE_ALONE = "one optimizer steps, another doesn't"
SHAPES_TRIED = [
    Shape(
        "plain_with_rates_by_hand.py",
        {
            "backward passes in a window": "3",
            "counters on a skipped step": "advance: iteration (@counts)",
            "the scaler in a checkpoint": "not saved",
        },
        {"never-raises": "updates", "schedule-follows-updates": "rates", "saves-the-scaler": "saves"},
    ),
    Shape(
        "native_scaler.py",
        {
            "backward passes in a window": "1",
            "gradients": "are clipped to a norm of 5",
            "counters on a skipped step": "advance: num_updates (@counts)",
            "running averages on a skipped step": "advances",
            "the model's buffers after a fault": "stay finite",
        },
        {"never-raises": "steps", "schedule-follows-updates": "rates", "nonfinite-moves-nothing": "follows"},
    ),
    Shape(
        "norm_counting_scaler.py",
        {
            "gradients": "are clipped to a norm of 5",
            "counters on a skipped step": "advance: index (@counts)",
            **GOES_ON,
        },
        {"never-raises": "steps", "schedule-follows-updates": "rates"},
    ),
    Shape(
        "gives_up_on_nan.py",
        {
            "gradients": "no clip was seen",
            "a NaN loss": "raises SystemExit",
            "counters on a skipped step": "advance: step (@counts)",
            **BEGINS_ANEW,
        },
        {"never-raises": "exits", "schedule-follows-updates": "rates"},
        also={("never-raises", "steps")},
    ),
    Shape(
        "two_optimizers.py",
        {
            "optimizers": "2",
            "gradients": "no clip was seen",
            "a NaN loss": ONE_ALONE,
            "gradients that overflow half precision": ONE_ALONE,
            "NaN in one group's gradients": ONE_ALONE,
            "the schedule on a skipped step": "none",
            "counters on a skipped step": "advance: step (@counts)",
        },
        {"never-raises": "steps"},
    ),
    Shape(
        "with_accelerate.py",
        {"the schedule on a skipped step": "holds", "counters on a skipped step": "advance: completed (@counts)"},
        {"never-raises": "steps"},
        needs="accelerate",
    ),
    Shape(
        "with_accelerate_twice.py",
        {
            "backward passes in a window": "1",
            "optimizers": "2",
            "gradients": "no clip was seen",
            "NaN in one group's gradients": ONE_ALONE,
            "the schedule on a skipped step": "none",
            "the scaler in a checkpoint": "",
        },
        {"never-raises": "steps", "scaler-protocol": "steps"},
        needs="accelerate",
    ),
    Shape(
        "trainer_with_accelerate.py",
        {
            "the schedule on a skipped step": "holds",
            "counters on a skipped step": "advance: self.global_step (@counts)",
            **BEGINS_ANEW,
        },
        {"never-raises": "steps"},
        needs="accelerate",
    ),
    Shape(
        "with_mmengine.py",
        {"counters on a skipped step": "advance: iteration (@counts)"},
        {"never-raises": "steps", "schedule-follows-updates": "advances"},
        needs="mmengine.optim",
    ),
    Shape(
        "with_mmengine_runner.py",
        {"backward passes in a window": "1", "counters on a skipped step": ""},
        {"never-raises": "steps", "schedule-follows-updates": "steps"},
        needs="mmengine.runner",
    ),
    Shape(
        "with_lightning.py",
        {"counters on a skipped step": "advance: index"},
        {"never-raises": "steps", "schedule-follows-updates": "advances"},
        needs="pytorch_lightning",
    ),
]


@pytest.mark.parametrize("shape", SHAPES_TRIED, ids=lambda shape: shape.file.removesuffix(".py"))
def test_shapes_of_public_loops(shape: Shape, processes: Processes, tmp_path: Path) -> None:
    if shape.needs:
        pytest.importorskip(shape.needs)
    file = SHAPES / shape.file
    script = Script(str(file), arguments=("--out", str(tmp_path)))
    resume_with = "" if "started again after a kill" in shape.table else None
    rehearsal = rehearse(script, FAULTS, pretend_cuda=True, budget=300.0, processes=processes, resume_with=resume_with)
    lines = file.read_text().splitlines()

    def line(mark: str) -> str:
        return f"{shape.file}:{next(n for n, line in enumerate(lines, 1) if mark in line.partition('  # ')[2])}"

    answers = {row: answer for row, answer in {**PLAINEST, **shape.table}.items() if answer}
    assert dict(rehearsal.table) == {
        row: re.sub(r"@(\w+)", lambda found: line(found[1]), answer) for row, answer in answers.items()
    }
    told = {(rule, line(mark)) for rule, mark in {*shape.rules.items(), *shape.also}}
    assert {(one.rule, one.where) for one in rehearsal.findings} == told
    assert rehearsal.refused == {}
