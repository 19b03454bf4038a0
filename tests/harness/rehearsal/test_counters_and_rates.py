"""What a script counts, and a rate that it sets itself, on a step that was skipped: told with the line."""

from __future__ import annotations

import pytest

from harness.rehearsal.faults import Fault
from tests.harness.rehearsal.recipe import ADVANCE, LOOP, RIGHT, Rehearse, line_of

COUNTER = """\
class Meter:
    def __init__(self):
        self.count, self.total = 0, 0.0

    def update(self, value):
        self.count += 1
        self.total += value


def count():
    global updates
    updates += 1


meter, updates = Meter(), 0
"""
COUNTED = {
    "in place": ("updates = 0\n", "    updates += 1@\n", "updates"),
    "by a function": (COUNTER, "    count()\n", "updates"),
    "by what a function gives": (
        "def more(n):\n    return n + 1\n\nupdates = 0\n",
        "    updates = more(updates)@\n",
        "updates",
    ),
    "by a meter": (COUNTER, "    meter.update(loss.item())@\n", "meter.count"),
    "by two lines": ("updates = 0\n", "    updates += 2\n    updates -= 1\n", "updates"),
    "on a line of each branch": (
        "updates = 0\n",
        "    if torch.isfinite(norm):\n        updates += 1\n    else:\n        updates += 1@\n",
        "updates",
    ),
}


@pytest.mark.parametrize("how", COUNTED)
def test_a_counter_that_counts_attempts_is_told_with_itsline_of(how: str, rehearsed: Rehearse) -> None:
    before, statement, name = COUNTED[how]
    marked = RIGHT.replace(LOOP, before + LOOP).replace(ADVANCE, statement + ADVANCE)
    text = marked.replace("@\n", "\n")
    lines = marked.splitlines()
    # Of a function that the loop calls, its own line; of a meter, the line that calls it.
    told = [n for n, line in enumerate(lines, 1) if line.endswith("@")]
    if how == "by a function":
        told = [lines.index("    updates += 1") + 1]
    loop = line_of(text, "for step in")
    counter = f"{name} (train.py:{told[0]})" if told else name
    counters = [f"step ({loop})", counter]
    answer = dict(rehearsed(text, (Fault.NAN_OUTPUT,)).table)["counters on a skipped step"]
    assert answer == f"advance: {', '.join(sorted(counters))}"


def test_a_counter_of_updates_holds(rehearsed: Rehearse) -> None:
    """Which of the two a counter counts is the script's affair: the table tells it by its name."""
    counted = RIGHT.replace(LOOP, "updates = 0\n" + LOOP).replace(
        ADVANCE, ADVANCE.replace("        for", "        updates += 1\n        for")
    )
    assert dict(rehearsed(counted, (Fault.NAN_OUTPUT,)).table)["counters on a skipped step"] == (
        f"advance: step ({line_of(counted, 'for step in')}); hold: updates"
    )


RATE = "        group['lr'] = 1e-2 * 0.99**step\n"


@pytest.mark.parametrize("where", ["in the loop", "in a function", "at the end"])
def test_a_rate_set_by_hand_on_a_skip_is_told_with_itsline_of(where: str, rehearsed: Rehearse) -> None:
    by_hand = RIGHT.replace("        schedule.step()\n", "        pass\n")
    groups = "    for group in optimizer.param_groups:\n"
    texts = {
        "in the loop": by_hand.replace(LOOP, LOOP + groups + RATE),
        "in a function": by_hand.replace(LOOP, "def adjust(step):\n" + groups + RATE + LOOP + "    adjust(step)\n"),
        "at the end": by_hand + groups + RATE,
    }
    (found,) = rehearsed(texts[where], (Fault.NAN_OUTPUT,)).findings
    line, step = line_of(texts[where], "group['lr']"), line_of(texts[where], "scaler.step(")
    assert (found.rule, found.where) == ("schedule-follows-updates", line)
    assert found.sentence == (
        f"{line}: the learning rate is set here, and went on although the step at {step} was skipped"
    )


def test_of_a_rate_that_several_lines_set_none_is_told(rehearsed: Rehearse) -> None:
    by_hand = RIGHT.replace("        schedule.step()\n", "        pass\n")
    groups = "    for group in optimizer.param_groups:\n"
    (found,) = rehearsed(
        by_hand.replace(LOOP, LOOP + groups + RATE + RATE.replace(" = ", " *= ")), (Fault.NAN_OUTPUT,)
    ).findings
    assert found.where == line_of(by_hand.replace(LOOP, LOOP + groups + RATE + RATE), "scaler.step(")
    assert found.sentence.startswith("the learning rate, which the script sets itself, went on although the step at ")
