"""Faults planted into a right loop are found, with the line; the right loop is acquitted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from harness.errors import SubjectError, UsageError
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import Rehearsal, rehearse

RIGHT = Path(__file__).with_name("right_recipe.py").read_text()


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


CLIP = "    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
STEP = "    scaler.step(optimizer)\n    scaler.update()\n"
GUARD = "    if not gradients:\n        continue\n"
ADVANCE = "    if torch.isfinite(norm):\n        schedule.step()\n        for"
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


class Rehearse(Protocol):
    def __call__(self, text: str, faults: tuple[Fault, ...] = ..., *more: str) -> Rehearsal: ...


@pytest.fixture
def rehearsed(processes: Processes, tmp_path: Path) -> Rehearse:
    """Rehearses a script of this text."""

    def rehearsed(text: str, faults: tuple[Fault, ...] = tuple(Fault), *more: str) -> Rehearsal:
        path = tmp_path / "train.py"
        path.write_text(text)
        script = Script(str(path), arguments=("--out", str(tmp_path), *more))
        return rehearse(script, faults, pretend_cuda=False, budget=300.0, processes=processes)

    return rehearsed


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
        "counters on a skipped step": f"advance: step ({_line(RIGHT, 'for step in')})",
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


def _line(text: str, words: str) -> str:
    return f"train.py:{next(n for n, line in enumerate(text.splitlines(), 1) if words in line)}"


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
    assert (clipped.rule, clipped.where) == ("nonfinite-moves-nothing", _line(TWO, "scaler.step(one)"))
    wrong = text.replace("        scaler.update()\n        model", "        model").replace(GUARD, "")
    found = rehearsed(wrong, (Fault.NAN_GRADIENT,)).findings
    line = _line(wrong, "scaler.unscale_(one)")
    assert {(one.rule, one.where) for one in found} == {("scaler-protocol", line), ("never-raises", line)}
    (found_too,) = rehearsed(wrong, (Fault.NO_GRADIENT,)).findings
    assert (found_too.rule, found_too.where) == ("never-raises", _line(wrong, "scaler.step(one)"))


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


_LARGE = """\
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode as mode

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 600, 1), torch.nn.Conv2d(600, 600, 1))
        self.register_full_backward_hook(lambda *_: self.look())

    def look(self):
        assert type(mode()).__name__ == "HalfProducts"

    def forward(self, x):
        self.look()
        return self.layers(x)

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu")
for _ in range(100):
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(torch.ones(2, 3, 4, 4)).square().mean()
    optimizer.zero_grad()
    assert mode() is None
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""


def test_a_large_model_in_float16_is_computed_by_quicker_kernels(rehearsed: Rehearse) -> None:
    found = rehearsed(_LARGE, (Fault.NAN_OUTPUT,))
    assert found.findings == []
    assert dict(found.table)["a NaN loss"] == "the scaler skips the step"


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


LOOP = "for step in range(given.steps):\n"
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
def test_a_counter_that_counts_attempts_is_told_with_its_line(how: str, rehearsed: Rehearse) -> None:
    before, statement, name = COUNTED[how]
    marked = RIGHT.replace(LOOP, before + LOOP).replace(ADVANCE, statement + ADVANCE)
    text = marked.replace("@\n", "\n")
    lines = marked.splitlines()
    # Of a function that the loop calls, its own line; of a meter, the line that calls it.
    told = [n for n, line in enumerate(lines, 1) if line.endswith("@")]
    if how == "by a function":
        told = [lines.index("    updates += 1") + 1]
    loop = _line(text, "for step in")
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
        f"advance: step ({_line(counted, 'for step in')}); hold: updates"
    )


RATE = "        group['lr'] = 1e-2 * 0.99**step\n"


@pytest.mark.parametrize("where", ["in the loop", "in a function", "at the end"])
def test_a_rate_set_by_hand_on_a_skip_is_told_with_its_line(where: str, rehearsed: Rehearse) -> None:
    by_hand = RIGHT.replace("        schedule.step()\n", "        pass\n")
    groups = "    for group in optimizer.param_groups:\n"
    texts = {
        "in the loop": by_hand.replace(LOOP, LOOP + groups + RATE),
        "in a function": by_hand.replace(LOOP, "def adjust(step):\n" + groups + RATE + LOOP + "    adjust(step)\n"),
        "at the end": by_hand + groups + RATE,
    }
    (found,) = rehearsed(texts[where], (Fault.NAN_OUTPUT,)).findings
    line, step = _line(texts[where], "group['lr']"), _line(texts[where], "scaler.step(")
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
    assert found.where == _line(by_hand.replace(LOOP, LOOP + groups + RATE + RATE), "scaler.step(")
    assert found.sentence.startswith("the learning rate, which the script sets itself, went on although the step at ")


def test_another_half_precision(processes: Processes, tmp_path: Path) -> None:
    """With bfloat16 a scaler is off, and a right loop that looks at the norm alone is not right any more."""
    path = tmp_path / "train.py"
    path.write_text(RIGHT)
    faults = (Fault.NAN_GRADIENT, Fault.INF_GRADIENT)
    script = Script(str(path))
    found = rehearse(script, faults, pretend_cuda=False, budget=300.0, processes=processes, half="bfloat16")
    table = dict(found.table)
    assert table["autocast"] == "bfloat16, where the script asks for float16"
    assert table["a gradient scaler"] == "none, or off"
    assert {(one.rule, one.where) for one in found.findings} == {
        ("nonfinite-moves-nothing", _line(RIGHT, "scaler.step(optimizer)"))
    }
    # And back: a script for bfloat16, its scaler off, as float16 would have it.
    path.write_text(RIGHT.replace("torch.float16", "torch.bfloat16").replace("1024.0)", "1024.0, enabled=False)"))
    found = rehearse(script, faults, pretend_cuda=True, budget=300.0, processes=processes, half="float16")
    table = dict(found.table)
    assert table["autocast"] == "float16, where the script asks for bfloat16"
    assert (table["a gradient scaler"], table["NaN in one group's gradients"]) == ("on", "the scaler skips the step")
    assert found.findings == []


def test_another_half_precision_leaves_what_the_script_casts_itself(processes: Processes, tmp_path: Path) -> None:
    """As the guide and ``--help`` say."""
    cast = "            assert (x @ x.t()).dtype == torch.bfloat16\n"
    cast += "            assert (x.half().dtype, x.to(torch.float16).dtype) == (torch.float16, torch.float16)\n"
    cast += "            assert nn.Linear(1, 1).half().weight.dtype == torch.float16\n"
    path = tmp_path / "train.py"
    path.write_text(RIGHT.replace("            prediction = ", cast + "            prediction = "))
    script = Script(str(path))
    found = rehearse(script, (Fault.HUGE_NORM,), pretend_cuda=True, budget=300.0, processes=processes, half="bfloat16")
    assert found.findings == []
    assert dict(found.table)["autocast"] == "bfloat16, where the script asks for float16"
