"""A step's fault program as a script: its world, each micro-step written out, and what came of it."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from harness.cases.descriptors import Action, StepCase
from harness.engine.plan import Task
from harness.engine.session import Session
from harness.findings.export.script import Draft, autocast_source, importing
from harness.findings.export.step_call_script import StepSource, step_source
from harness.findings.export.step_world_script import (
    building_world,
    joining,
    late_ones,
    loss_source,
    loss_words,
    losses,
    restoring,
)
from harness.oracle.step_model import StepModel
from harness.precision import Precision
from harness.subjects.door import load_object
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import Observation, Snapshot, observe_program

# Of a number that the script prints with seven digits.
_ERROR = 1e-5
_LINE = re.compile(r"^\d+ [a-z ]+: (?:raises (\w+): .*|(parameters (?:moved|stayed), .*))$", re.MULTILINE)
_TELLING = [
    "    if make and outcome is not None:",
    "        print(f\"    it says: stepped {getattr(outcome, 'stepped', None)}; {outcome}\")",
]
_SAYS = re.compile(r"^    it says: stepped (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class _Figure:
    """What the script prints beside the parameters.

    Attributes:
        source: as the script has it.
        seen: as the harness saw it.
    """

    name: str
    source: str
    seen: Callable[[Snapshot], Any]


class StepScript:
    """Writes scripts of one fault program, and tells whether what they print shows the failure."""

    def __init__(self, session: Session, task: Task, precision: Precision, case: StepCase) -> None:
        self._factory, self._precision, self._case = session.subject(task.kind), precision, case
        name = self._factory.name
        self._step = step_source(load_object(name.spec, name.root), name, case, task.property == "truthful")
        with precision.installed(), warnings.catch_warnings():
            # A step that is being convicted of it needs no warning for it.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self._seen = observe_program(FedStepTrial(self._factory, precision, case).act, case.actions)
        self._figures = list(self._all_figures())

    def drafts(self) -> Iterator[Draft]:
        """The script; where the precision is an emulation, stand-ins for it."""
        precision = self._precision
        if not precision.cuda_policy:
            yield Draft(self._body(precision.device, autocast_source(precision, precision.device)))
            return
        said = "The harness emulates CUDA's autocast, which a script can't."
        if torch.cuda.is_available():
            yield Draft(self._body("cuda", autocast_source(precision, "cuda")), f"{said} This one runs CUDA's own.")
        yield Draft(
            self._body("cpu", autocast_source(precision, "cpu")),
            f"{said} The CPU's autocast to the same dtype stands in for it around the linear layers.",
        )

    def is_shown(self, printed: str) -> bool:
        """Whether every micro-step did what the harness saw."""
        found = _LINE.findall(printed)
        if len(found) != len(self._seen) or not all(map(self._is_alike, self._seen, *zip(*found, strict=True))):
            return False
        said = [str(seen.report.stepped) for seen in self._seen if seen.report is not None]
        return not self._step.tells or _SAYS.findall(printed) == said

    def _body(self, device: str, autocast: str) -> str:
        case, step = self._case, self._step
        restores, late = Action.RESTORE in case.actions, bool(late_ones(case))
        model = StepModel(
            case,
            self._precision.needs_scaler,
            self._factory.policies.handed(case.world.clip_norm, self._factory.promises),
            self._precision.autocast_dtype,
        )
        good = loss_source(Action.GOOD, model.gradients(Action.GOOD))
        running = ["restore() if make is None else feed(make())" if restores else "feed(make())"]
        if late:
            condition = "passes >= accumulation and not late_is_in" + (" and make is not None" if restores else "")
            running = [f"if {condition}:", "    late_is_in = True", "    join()", *running]
        building = [
            *building_world(case, self._precision.needs_scaler),
            *step.building,
            *(["if late_is_in:", "    join()"] if late else []),
        ]
        lines = [
            *_imports(case, step),
            *step.before,
            *importing(self._factory.name),
            "",
            f"device, accumulation, clip_norm = {device!r}, {case.accumulation}, {case.world.clip_norm!r}",
            f"passes{', late_is_in' if late else ''} = 0{', False' if late else ''}",
            "",
            "",
            *step.helpers,
            *(
                ["def factor(updates):", "    '''The schedule's.'''", "    return 1 / (1 + updates)", "", ""]
                if case.world.scheduled
                else []
            ),
            "def build():",
            f"    global parameters, every, optimizer, scaler, schedule, {', '.join(step.made)}",
            *(f"    {line}" for line in building),
            "",
            "",
            *joining(case),
            *losses(autocast),
            "def feed(loss):",
            f"    global passes{', outcome' if step.tells else ''}",
            "    passes += 1",
            *(["    last = passes % accumulation == 0"] if any("last" in line for line in step.feeding) else []),
            *(f"    {line}" for line in step.feeding),
            "",
            "",
            *(restoring(case, good, self._factory.promises) if restores else []),
            *self._state(),
            "build()",
            "program = [",
            *(f"    {line}" for line in self._program(model)),
            "]",
            "for number, (what, make, right) in enumerate(program, 1):",
            "    before = [p.detach().clone() for p in every]",
            *(["    outcome = None"] if step.tells else []),
            "    try:",
            *(f"        {line}" for line in running),
            "    except Exception as error:",
            "        print(f'{number} {what}: raises {type(error).__name__}: {error}\\n    right: {right}')",
            "        break",
            "    print(f'{number} {what}: {state(before)}\\n    right: {right}')",
            *(_TELLING if step.tells else []),
        ]
        return "\n".join(lines)

    def _state(self) -> list[str]:
        """The function that says how everything stands."""
        return [
            "def state(before):",
            "    pairs = zip(before, every)",
            "    moved = not all(torch.equal(old.nan_to_num(7.5), new.nan_to_num(7.5)) for old, new in pairs)",
            "    figures = {",
            "        'parameters': 'moved' if moved else 'stayed',",
            "        **{name: '/'.join(dict.fromkeys(f'{x:.7g}' for x in p.flatten().tolist()))",
            "           for name, p in parameters.items()},",
            *(f"        {figure.name!r}: {figure.source}," for figure in self._figures),
            "    }",
            "    return ', '.join(f'{name} {figure}' for name, figure in figures.items())",
            "",
            "",
        ]

    def _program(self, model: StepModel) -> Iterator[str]:
        """Each action with its loss, as the model of a right step goes through them, and what is right."""
        seen = [*self._seen, *[None] * len(self._case.actions)]
        for action, observed in zip(self._case.actions, seen, strict=False):
            right = "not run" if observed is None else self._right(observed)
            if action is Action.RESTORE:
                yield f"({action.value!r}, None, {right!r}),"
                continue
            if words := loss_words(action, self._case.world.parameters):
                yield f"# {words}"
            yield f"({action.value!r}, lambda: {loss_source(action, model.gradients(action))},"
            yield f" {right!r}),"
            model.after(action)

    def _right(self, seen: Observation) -> str:
        """What a right step does."""
        expected = seen.expected
        if seen.restored:
            return "all is as it was"
        if not expected.window_ended:
            return f"parameters stay, {expected.why}"
        figures = {
            f"parameters {'move' if expected.moved else 'stay'}": "",
            **{name: f"{value:.7g}" for name, value in expected.parameters.items()},
            "scale": " or ".join(dict.fromkeys(f"{state.scale:g}" for state in expected.scaler)),
            "tracker": " or ".join(dict.fromkeys(str(state.growth_tracker) for state in expected.scaler)),
            "rate": f"{expected.learning_rate:.7g}",
            "schedule": str(expected.updates),
            "averaged": f"{(seen.before.averagings or 0) + expected.stepped} times",
            "updates": str(expected.updates if expected.counted is None else expected.counted),
            "passes": str(expected.passes),
            "gradients": "cleared",
        }
        printed = {figure.name for figure in self._figures} | set(expected.parameters)
        kept = [f"{name} {figure}".strip() for name, figure in figures.items() if not figure or name in printed]
        return f"{', '.join(kept)}; {expected.why}"

    def _all_figures(self) -> Iterator[_Figure]:
        step, world = self._step, self._case.world
        if self._precision.needs_scaler:
            yield _Figure("scale", "f'{scaler.get_scale():.7g}'", lambda s: s.scaler.scale)
            yield _Figure("tracker", "scaler._get_growth_tracker()", lambda s: s.scaler.growth_tracker)
        first = "optimizers[0]" if "optimizers" in step.made else "optimizer"
        yield _Figure("rate", f"f\"{{{first}.param_groups[0]['lr']:.7g}}\"", lambda s: s.learning_rate)
        if world.scheduled and self._factory.schedules:
            several = "'/'.join(str(each.last_epoch) for each in schedules)"
            source = several if "schedules" in step.made else "schedule.last_epoch"
            yield _Figure("schedule", source, lambda s: s.schedule_steps)
        if "ema" in step.made:
            yield _Figure("averaged", "f'{ema.n_averaged.item()} times'", lambda s: f"{s.averagings} times")
        if step.updates:
            yield _Figure("updates", step.updates, lambda s: s.updates)
        if step.passes:
            yield _Figure("passes", step.passes, lambda s: s.passes)
        # Of a step that promised nothing nobody knows what is left of them when it was restored.
        if self._factory.promises or Action.RESTORE not in self._case.actions:
            left = "'left' if any(p.grad is not None and p.grad.any() for p in every) else 'cleared'"
            yield _Figure("gradients", left, lambda s: "cleared" if s.gradients_cleared else "left")

    def _is_alike(self, seen: Observation, raised: str, state: str) -> bool:
        if seen.raised is not None or raised:
            return seen.raised is not None and type(seen.raised).__name__ == raised
        after = seen.after
        figures: dict[str, Any] = {
            "parameters": "moved" if seen.before.changed(after) else "stayed",
            **{
                name: "/".join(dict.fromkeys(f"{x:.7g}" for x in p.flatten().tolist()))
                for name, p in after.parameters.items()
            },
            **{figure.name: figure.seen(after) for figure in self._figures},
        }
        printed = dict(part.split(" ", 1) for part in state.split(", "))
        return printed.keys() == figures.keys() and all(_is_same(printed[name], str(figures[name])) for name in figures)


def _imports(case: StepCase, step: StepSource) -> list[str]:
    restores = Action.RESTORE in case.actions
    return [
        *(["import copy"] if restores else []),
        "import importlib.util",
        *(["import io"] if restores else []),
        "import operator",
        "import pathlib",
        "import sys",
        *(["import types"] if step.before else []),
        "from math import inf, isnan, nan",
        "",
        "import torch",
        "from torch import nn",
        *(["from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn"] if "ema" in step.made else []),
        "",
    ]


def _is_same(printed: str, seen: str) -> bool:
    """The same word, or numbers within what is printed of them. Of several schedules the harness looks at one."""
    if printed == seen:
        return True
    found, known = printed.split("/"), seen.split("/")
    if len(found) == len(known):
        return all(map(_close, found, known))
    return len(known) == 1 and any(_close(each, seen) for each in found)


def _close(printed: str, seen: str) -> bool:
    try:
        return math.isclose(float(printed), float(seen), rel_tol=_ERROR)
    except ValueError:
        return printed == seen
