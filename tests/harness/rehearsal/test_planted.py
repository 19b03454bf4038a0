"""Faults planted into a right loop are found, with the line; the right loop is acquitted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import SubjectError, UsageError
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.rehearsal import rehearse
from tests.harness.rehearsal.recipe import ADVANCE, CLIP, RIGHT, Rehearse, line_of


@dataclass(frozen=True)
class Planted:
    """A wrong edit of the right loop.

    Attributes:
        old, new: the text that is replaced; ``@`` ends the line that is to be told.
        rule: that it breaks.
        faults: that are enough to show it.
    """

    name: str
    old: str
    new: str
    rule: str
    faults: tuple[Fault, ...] = (Fault.NAN_OUTPUT,)

    def script(self) -> tuple[str, int | None]:
        """The script, and the number of the line that is to be told."""
        assert RIGHT.count(self.old) == 1
        text = RIGHT.replace(self.old, self.new)
        marked = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("@")]
        return "\n".join(line.removesuffix("@") for line in text.splitlines()) + "\n", marked[0] if marked else None


STEP = "    scaler.step(optimizer)\n    scaler.update()\n"
GUARD = "    if not gradients:\n        continue\n"
EACH = " slow, fast in zip(average.parameters(), model.parameters(), strict=True):\n"
PLANTED = [
    Planted(
        "schedule on a skip",
        ADVANCE,
        "    schedule.step()@\n    if torch.isfinite(norm):\n        for",
        "schedule-follows-updates",
    ),
    Planted(
        "average on a skip",
        ADVANCE + EACH + "            slow.lerp_(fast.detach(), 0.1)\n",
        "    if torch.isfinite(norm):\n        schedule.step()\n    if True:\n        for"
        + EACH
        + "            slow.lerp_(fast.detach(), 0.1)@\n",
        "nonfinite-moves-nothing",
    ),
    Planted(
        "average on a skip, behind autograd's back",
        ADVANCE + EACH + "            slow.lerp_(fast.detach(), 0.1)\n",
        "    if torch.isfinite(norm):\n        schedule.step()\n    if True:\n        for"
        + EACH
        + "            slow.data.mul_(0.9).add_(fast.data, alpha=0.1)@\n",
        "nonfinite-moves-nothing",
    ),
    Planted(
        "scaler not saved",
        ', "scaler": scaler.state_dict()}\n        torch.save(saved, Path(given.out) / "checkpoint.pt")',
        '}\n        torch.save(saved, Path(given.out) / "checkpoint.pt")@',
        "saves-the-scaler",
    ),
    Planted(
        "clip before unscale",
        "    scaler.unscale_(optimizer)\n" + CLIP,
        CLIP.rstrip("\n") + "@\n    scaler.unscale_(optimizer)\n",
        "scaler-protocol",
    ),
    Planted("never unscaled", "    scaler.unscale_(optimizer)\n" + CLIP, CLIP.rstrip("\n") + "@\n", "scaler-protocol"),
    Planted(
        "unscaled twice",
        CLIP,
        CLIP + "    if not torch.isfinite(norm):\n        scaler.unscale_(optimizer)@\n",
        "never-raises",
    ),
    Planted(
        "skips without update",
        STEP,
        "    if not torch.isfinite(norm):\n        optimizer.zero_grad()\n        continue\n" + STEP,
        "scaler-protocol",
    ),
    Planted(
        "stale gradients",
        "    optimizer.zero_grad(set_to_none=True)\n    if torch.isfinite(norm):\n",
        "    if torch.isfinite(norm):\n        optimizer.zero_grad(set_to_none=True)\n",
        "no-stale-gradients",
    ),
    Planted("clips to 0", CLIP, CLIP.replace("1.0)\n", "0)@\n"), "clip-leaves-gradients"),
    Planted("no guard", GUARD, "", "never-raises", (Fault.NO_GRADIENT,)),
    Planted(
        "steps around the scaler",
        STEP,
        "    optimizer.step()@\n    scaler.update()\n",
        "nonfinite-moves-nothing",
        (Fault.NAN_GRADIENT,),
    ),
    Planted(
        "looks at the loss",
        "        scaler.scale(loss).backward()\n",
        "        assert loss.isfinite(), 'the loss is not finite'@\n        scaler.scale(loss).backward()\n",
        "never-raises",
    ),
    Planted(
        "gives up",
        "    scaler.unscale_(optimizer)\n",
        "    scaler.unscale_(optimizer)\n    if not all(g.isfinite().all() for g in gradients):\n"
        "        raise SystemExit(1)@\n",
        "never-raises",
    ),
    Planted(
        "rate of zero for ever",
        CLIP,
        CLIP + "    if not torch.isfinite(norm):\n        schedule.base_lrs[:] = [0.0]\n",
        "training-goes-on",
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_fault_is_found(planted: Planted, rehearsed: Rehearse) -> None:
    text, line = planted.script()
    found = rehearsed(text, planted.faults).findings
    assert planted.rule in [one.rule for one in found], found
    (first,) = [one for one in found if one.rule == planted.rule][:1]
    if line is not None:
        assert first.where == f"train.py:{line}"
        assert first.sentence.startswith(f"train.py:{line}: ")
    assert {one.rule for one in found} == {planted.rule} | _ALSO.get(planted.name, set())


# What follows from the planted fault, too.
_ALSO = {
    "skips without update": {"never-raises"},
    "stale gradients": {"training-goes-on"},
}


@pytest.mark.parametrize("accumulate", ["1", "3"])
def test_the_right_loop_is_acquitted(accumulate: str, rehearsed: Rehearse) -> None:
    rehearsal = rehearsed(RIGHT, tuple(Fault), "--accumulate", accumulate)
    assert rehearsal.findings == []
    assert rehearsal.refused == {}
    assert all(run.ending.done for run in rehearsal.runs)
    # Of one backward pass the only one, of three the last, the first and the middle one.
    put_in = Counter(window.fault for run in rehearsal.runs for window in run.windows if window.fault)
    assert put_in == {fault.value: int(accumulate) for fault in Fault}
    assert dict(rehearsal.table) == {
        "autocast": "float16",
        "a gradient scaler": "on",
        "backward passes in a window": accumulate,
        "optimizers": "1",
        "gradients": "are clipped to a norm of 1",
        "a NaN loss": "the scaler skips the step",
        "an infinite loss": "the scaler skips the step",
        "gradients that overflow half precision": "the scaler skips the step",
        "NaN in one group's gradients": "the scaler skips the step",
        "infinity in one group's gradients": "the scaler skips the step",
        "a huge, finite norm": "steps",
        "no gradients at all": "drops the window",
        "an output that explodes": "the scaler skips the step",
        "a NaN in the batch": "the scaler skips the step",
        "the schedule on a skipped step": "holds",
        "counters on a skipped step": f"advance: step ({line_of(RIGHT, 'for step in')})",
        "running averages on a skipped step": "holds",
        "the scaler in a checkpoint": "saved",
    }


STEPS = "    for one in (optimizer, second):\n        scaler.step(one)\n"
TWO = (
    RIGHT.replace("AdamW(model.parameters(), lr=1e-2)", "AdamW(model[0].parameters(), lr=1e-2)")
    .replace("schedule = ", "second = torch.optim.SGD(model[2].parameters(), lr=1e-2)\nschedule = ")
    .replace("    scaler.unscale_(optimizer)\n", "    for one in (optimizer, second):\n        scaler.unscale_(one)\n")
    .replace("optimizer.zero_grad(set_to_none=True)", "model.zero_grad()")
    .replace("    scaler.step(optimizer)\n", STEPS)
)


def test_two_optimizers_without_the_guards(rehearsed: Rehearse) -> None:
    """A skip of its own that forgets the update, and steps without gradients.

    The skip is needed: clipping by the norm of all hands one optimizer's NaN to the other, behind the scaler's back.
    """
    drops = "    if not torch.isfinite(norm):\n        scaler.update()\n        model.zero_grad()\n        continue\n"
    text = TWO.replace(STEPS, drops + STEPS)
    right = rehearsed(text, (Fault.NAN_GRADIENT, Fault.NO_GRADIENT))
    assert right.findings == []
    assert dict(right.table)["no gradients at all"] == "drops the window"
    (clipped,) = rehearsed(TWO, (Fault.NAN_GRADIENT,)).findings
    assert (clipped.rule, clipped.where) == ("nonfinite-moves-nothing", line_of(TWO, "scaler.step(one)"))
    wrong = text.replace("        scaler.update()\n        model", "        model").replace(GUARD, "")
    found = rehearsed(wrong, (Fault.NAN_GRADIENT,)).findings
    line = line_of(wrong, "scaler.unscale_(one)")
    assert {(one.rule, one.where) for one in found} == {("scaler-protocol", line), ("never-raises", line)}
    (found_too,) = rehearsed(wrong, (Fault.NO_GRADIENT,)).findings
    assert (found_too.rule, found_too.where) == ("never-raises", line_of(wrong, "scaler.step(one)"))


def test_two_optimizers_with_an_update_each(rehearsed: Rehearse) -> None:
    """The second then gets gradients divided by the wrong scale, or steps over what made the first skip."""
    wrong = TWO.replace(STEPS + "    scaler.update()\n", STEPS + "        scaler.update()\n")
    found = rehearsed(wrong, (Fault.NAN_OUTPUT,)).findings
    line = next(n for n, text in enumerate(wrong.splitlines(), 1) if "scaler.update()" in text)
    assert {(one.rule, one.where) for one in found} == {
        ("scaler-protocol", f"train.py:{line - 1}"),  # a step after the first update
        ("scaler-protocol", f"train.py:{line}"),  # the second update
    }


_BY_HAND = """\
import torch
model = torch.nn.Linear(2, 1)
for _ in range(9):
    model.zero_grad()
    model(torch.ones(3, 2)).square().mean().backward()
    for parameter in model.parameters():
        parameter.data.add_(parameter.grad, alpha=-0.1)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import torch\nraise ValueError('no data')\n",
            "raises by itself, without a fault: train.py:2: ValueError: no data",
        ),
        ("print('nothing')\n", "without a backward pass of a module in training mode"),
        (RIGHT.replace("default=1000", "default=2"), "ended after 2 windows"),
        (_BY_HAND, "ended without a step of a torch.optim.Optimizer"),
    ],
)
def test_what_cannot_be_rehearsed(text: str, said: str, rehearsed: Rehearse) -> None:
    with pytest.raises(SubjectError, match=said):
        rehearsed(text)


def test_there_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no script"):
        rehearse(Script(str(tmp_path / "nothing.py")), tuple(Fault), pretend_cuda=False, budget=10.0)


AS_MODULE = "average = copy.deepcopy(model).requires_grad_(False)\n"
KEPT = {
    "list": ("average = [p.detach().clone() for p in model.parameters()]\n", "average"),
    "dictionary": (
        "average = {name: p.detach().clone() for name, p in model.named_parameters()}\n",
        "average.values()",
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_running_averages_in_collections_are_found(kind: str, rehearsed: Rehearse) -> None:
    made, values = KEPT[kind]
    right = RIGHT.replace(AS_MODULE, made).replace("zip(average.parameters(),", f"zip({values},")
    found = rehearsed(right, (Fault.NAN_OUTPUT,))
    assert found.findings == []
    assert dict(found.table)["running averages on a skipped step"] == "holds"
    wrong = right.replace(ADVANCE, "    if torch.isfinite(norm):\n        schedule.step()\n    if True:\n        for")
    found = rehearsed(wrong, (Fault.NAN_OUTPUT,))
    assert [one.rule for one in found.findings] == ["nonfinite-moves-nothing"]
    assert dict(found.table)["running averages on a skipped step"] == "advances"


def test_a_frozen_copy_is_no_running_average(rehearsed: Rehearse) -> None:
    """A teacher, say, that never moves: whether it holds on a skip is no question."""
    teacher = RIGHT.replace("            slow.lerp_(fast.detach(), 0.1)\n", "            pass\n")
    assert "running averages on a skipped step" not in dict(rehearsed(teacher, (Fault.NAN_OUTPUT,)).table)


def test_other_tensors_of_the_same_shapes_are_no_running_average(rehearsed: Rehearse) -> None:
    """Moments kept by hand, say, which move on a skip too."""
    memory = "memory = [torch.full_like(p, 9.0) for p in model.parameters()]\n"
    loop = "for step in range(given.steps):\n"
    text = RIGHT.replace(loop, memory + loop + "    for kept in memory:\n        kept.add_(1.0)\n")
    found = rehearsed(text, (Fault.NAN_OUTPUT,))
    assert found.findings == []
    assert dict(found.table)["running averages on a skipped step"] == "holds"


WITHOUT_SCALER = (
    RIGHT.replace("torch.float16", "torch.bfloat16")
    .replace("scaler = torch.amp.GradScaler(device, init_scale=1024.0)\n", "")
    .replace("scaler.scale(loss).backward()", "loss.backward()")
    .replace("    scaler.unscale_(optimizer)\n", "")
    .replace(STEP, "    if torch.isfinite(norm):\n        optimizer.step()\n")
    .replace(', "scaler": scaler.state_dict()', "")
)


def test_without_a_scaler(rehearsed: Rehearse) -> None:
    found = rehearsed(WITHOUT_SCALER)
    assert found.findings == []
    table = dict(found.table)
    assert (table["a gradient scaler"], table["a NaN loss"]) == ("none, or off", "drops the window")
    assert "the scaler in a checkpoint" not in table
    unguarded = WITHOUT_SCALER.replace(
        "    if torch.isfinite(norm):\n        optimizer.step()\n", "    optimizer.step()\n"
    )
    line = next(n for n, text in enumerate(unguarded.splitlines(), 1) if "optimizer.step()" in text)
    found = rehearsed(unguarded, (Fault.INF_OUTPUT, Fault.NAN_GRADIENT))
    assert {(one.rule, one.where) for one in found.findings} == {("nonfinite-moves-nothing", f"train.py:{line}")}
    assert dict(found.table)["an infinite loss"] == "poisons the parameters"
    found = rehearsed(unguarded.replace(GUARD, ""), (Fault.NO_GRADIENT,))
    assert found.findings == []
    assert dict(found.table)["no gradients at all"] == "takes a step that moves nothing"


def test_a_schedule_that_steps_now_and_then_is_held_to_nothing(rehearsed: Rehearse) -> None:
    # The epochs end just where a step was skipped.
    epochs = "    if step == 2 or not torch.isfinite(norm):\n        schedule.step()\n"
    by_epochs = RIGHT.replace(ADVANCE, epochs + ADVANCE.replace("        schedule.step()\n", ""))
    found = rehearsed(by_epochs, (Fault.NAN_OUTPUT, Fault.NAN_GRADIENT))
    assert found.findings == []
    assert dict(found.table)["the schedule on a skipped step"] == "steps now and then, not with each update"


def test_a_clip_by_hand_and_one_to_nothing(rehearsed: Rehearse) -> None:
    by_hand = RIGHT.replace(
        CLIP,
        "    norm = torch.stack([g.norm() for g in gradients]).norm()\n"
        "    for g in gradients:\n        g.mul_((0.01 / norm).clamp(max=1.0))\n",
    )
    assert dict(rehearsed(by_hand, (Fault.NAN_OUTPUT,)).table)["gradients"] == "are scaled to a norm of at most 0.01"
    zeroing = RIGHT.replace("model.parameters(), 1.0)", "parameters=model.parameters(), max_norm=0)")
    assert dict(rehearsed(zeroing, (Fault.NAN_OUTPUT,)).table)["gradients"].endswith("a norm of 0: all are zeroed")


def test_a_script_that_ends_with_the_fault_shows_nothing_of_it(rehearsed: Rehearse) -> None:
    found = rehearsed(RIGHT.replace("default=1000", "default=5"), (Fault.NAN_OUTPUT,), "--accumulate", "1")
    assert found.refused == {"nan-output": "the script ended with it: let it train longer"}
    assert "a NaN loss" not in dict(found.table)
