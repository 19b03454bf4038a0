"""A step as source, by its shape: how it is built of a world's objects, how it is fed a loss, and what it counts."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import torch

from harness.adapters import Step
from harness.cases.descriptors import StepCase
from harness.errors import UsageError
from harness.findings.export.step_world_script import optimizer_source
from harness.oracle.policies import NORM_FACTOR
from harness.subject_spec import SubjectSpec
from harness.subjects.called_steps import CallingShape, shape_of
from harness.subjects.facelift import learn_calling_convention
from harness.subjects.handed import EMA_DECAY

_STAND_IN = """\
# Of harness.adapters the subject needs the class Step alone: this one stands in for it.
adapters = types.ModuleType('harness.adapters')
adapters.Step = type('Step', (), {'promises': (), 'updates': None, 'begin': lambda self: None})
sys.modules['harness'] = types.ModuleType('harness')
sys.modules['harness'].adapters = sys.modules['harness.adapters'] = adapters
""".splitlines()
_DICT = """\
class Dict(dict):
    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


""".splitlines()
# What a step may be handed, as the script names it.
_NAMES = {
    "optimizer": "optimizer",
    "scaler": "scaler",
    "scheduler": "schedule",
    "parameters": "every",
    "clip_norm": "clip_norm",
    "model": "model",
    "ema": "ema",
    "optimizers": "optimizers",
    "schedulers": "schedules",
}


@dataclass(frozen=True)
class StepSource:
    """Lines of a script that build one step and feed it.

    Attributes:
        building: make ``step``, given the world's objects.
        feeding: one micro-step, given ``loss``, ``passes`` and ``last``.
        before: stand before everything else, above the subject's import.
        helpers: stand at the script's top level.
        made: the names that ``building`` makes.
        passes, updates: expressions of what it counts; empty where it doesn't.
        tells: ``feeding`` leaves what it says of itself in ``outcome``.
    """

    building: list[str]
    feeding: list[str]
    before: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    made: tuple[str, ...] = ("step",)
    passes: str = ""
    updates: str = ""
    tells: bool = False


def step_source(found: Any, name: SubjectSpec, case: StepCase, asked: bool) -> StepSource:
    """The lines for a step of any shape that is fed losses.

    Args:
        asked: what it says of itself is wanted, where its shape says anything.
    """
    if (shape := shape_of(found)) is not None:
        return _native(shape, found) if shape.native else _called(shape, found, name, case)
    if callable(getattr(found, "optimizer_step", None)):
        return _facelift(found, name.spec)
    return StepSource(
        [
            "step = Subject(optimizer, scaler, schedule, grad_accum_steps=accumulation, grad_clip_norm=clip_norm,",
            f"               allowed_gradnorm_factor={NORM_FACTOR!r})",
        ],
        ["step.backward(loss)", "outcome = step.step()" if asked else "step.step()"],
        passes="step.fwdbwd_pass_step",
        updates="step.param_update_step",
        tells=asked,
    )


def _called(shape: CallingShape, found: Any, name: SubjectSpec, case: StepCase) -> StepSource:
    wanted = {*shape.takes, *shape.begins}
    building, made = [], ["step"]
    if wanted & {"model", "ema"}:
        building += [
            "model = nn.Module()",
            "for name, parameter in parameters.items():",
            "    model.register_parameter(name, parameter)",
        ]
        made += ["model"]
    if "ema" in wanted:
        building += [
            f"ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn({EMA_DECAY!r}))",
            "ema.update = ema.step = lambda *_, **__: ema.update_parameters(model)  # as timm and diffusers name it",
        ]
        made += ["ema"]
    if wanted & {"optimizers", "schedulers"}:
        each = optimizer_source(case, "[group]")
        building += ["optimizers = [", f"    {each}", "    for group in optimizer.param_groups", "]"]
        made += ["optimizers"]
    if "schedulers" in wanted:
        each = "[torch.optim.lr_scheduler.LambdaLR(each, factor) for each in optimizers]"
        building += [f"schedules = {each if case.world.scheduled else None}"]
        made += ["schedules"]
    building += ["step = Subject()" if isinstance(found, type) else "step = Subject"]
    if _is_kit(found):
        building += [f"step.begin({_arguments(shape.begins)})"] * bool(shape.begins)
    call = "step.step" if isinstance(found, type) else "step"
    return StepSource(
        building,
        [f"{call}({_arguments(shape.takes)})"],
        before=_stand_in(found, name),
        made=tuple(made),
        updates="step.updates" if shape.counts else "",
    )


def _arguments(names: tuple[str, ...]) -> str:
    sources = {**_NAMES, "loss": "loss / accumulation", "last": "last"}
    return ", ".join(f"{name}={sources[name]}" for name in names if name in sources)


def _is_kit(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Step)


def _stand_in(found: Any, name: SubjectSpec) -> tuple[str, ...]:
    """Lines that take the place of ``harness.adapters``, where the subject's module imports it.

    Raises:
        UsageError: it imports more of the harness.
    """
    module = sys.modules.get(getattr(found, "__module__", ""))
    named = [value for value in vars(module).values() if inspect.isclass(value) or inspect.isfunction(value)]
    imported = {value.__module__ for value in named if str(value.__module__).partition(".")[0] == "harness"}
    if name.spec.startswith("harness.") or not (imported or _is_kit(found)):
        return ()
    if more := imported - {Step.__module__}:
        raise UsageError(
            f"{name.spec} imports {', '.join(sorted(more))}, and a script has a stand-in for {Step.__module__}.Step "
            f"alone: send the case file, for harness replay."
        )
    return (*_STAND_IN, "")


def _native(shape: CallingShape, found: Any) -> StepSource:
    sources = {
        **_NAMES,
        "loss": "loss / accumulation",
        "last": "last",
        "need_update": "last",
        "update_grad": "last",
        "clip_grad": "clip_norm",
    }
    call = ", ".join(f"{name}={sources[name]}" for name in shape.takes if name in sources)
    return StepSource(
        [
            "step = Subject()",
            "for name, value in list(vars(step).items()):",
            "    if isinstance(value, torch.amp.GradScaler):",
            "        setattr(step, name, scaler)  # its own would be off without a GPU",
        ],
        [f"step({call})", "if last:", "    optimizer.zero_grad()"],
    )


def _facelift(found: Any, spec: str) -> StepSource:
    convention = learn_calling_convention(found, spec)
    building = [
        "runtime = Dict(grad_accum_steps=accumulation, grad_clip_norm=clip_norm, "
        f"allowed_gradnorm_factor={NORM_FACTOR!r})",
        "step = Subject.__new__(Subject)  # without __init__: only optimizer_step is run",
        *(["nn.Module.__init__(step)"] if isinstance(found, type) and issubclass(found, torch.nn.Module) else []),
        "vars(step).update(",
        "    optimizer=optimizer, scaler=scaler, lr_scheduler=schedule, ddp_rank=0,",
        "    optim_param_dict=dict(parameters), optim_param_list=every,",
        "    config=Dict(training=Dict(runtime=runtime)), fwdbwd_pass_step=0, param_update_step=0,",
        ")",
    ]
    call = "step.optimizer_step(Dict(loss=value, loss_metrics=Dict(loss=value)))"
    feeding = [
        "if loss.requires_grad:",
        "    scaler.scale(loss / accumulation).backward()",
        f"step.fwdbwd_pass_step = passes{'' if convention.counted_before else ' - 1'}",
        "value = loss.detach()",
        *([call] if convention.every_pass else ["if last:", f"    {call}"]),
    ]
    return StepSource(building, feeding, helpers=tuple(_DICT), updates="step.param_update_step")
