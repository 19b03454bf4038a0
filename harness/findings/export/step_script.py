"""A step's fault program as a script: the tiny model, each micro-step written out, and what came of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

import torch

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import World, describe_world
from harness.engine.plan import Task
from harness.engine.session import Session
from harness.errors import UsageError
from harness.findings.export.script import Draft, autocast_source, importing
from harness.oracle.optimizer_model import MOMENTUM
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR
from harness.oracle.step_world import BIAS_START, GRADIENT, LEARNING_RATE, MATRIX_START, NEAR, WEIGHT_DECAY
from harness.oracle.window import BACKOFF, GROWTH
from harness.precision import Precision
from harness.subjects.called_steps import CallingShape, shape_of
from harness.subjects.door import load_object
from harness.subjects.facelift import learn_calling_convention
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import Observation, observe_program

_LOSSES = {
    Action.FROZEN: ("torch.ones(3, device=device, requires_grad=True).sum()", "a loss that reaches no parameter"),
    Action.NAN_LOSS: ("loss_with(1.0) * nan", "a loss of NaN, and so NaN gradients"),
    Action.NAN_BACKWARD: ("loss_with(1.0, nan)", "a finite loss whose gradients are NaN"),
    Action.INF_LOSS: (f"loss_with({GRADIENT[Action.INF_LOSS]!r}) + inf", "an infinite loss with finite gradients"),
}
_DICT = """\
class Dict(dict):
    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


""".splitlines()
_LINE = re.compile(r"^(\d+) .*?: (?:raises (\w+)|parameters (\w+), .*?scale (\S+), rate (\S+))", re.MULTILINE)


class StepScript:
    """Writes scripts of one fault program, and tells whether what they print shows the failure."""

    def __init__(self, session: Session, task: Task, precision: Precision, case: StepCase) -> None:
        factory = session.subject(task.kind)
        if case.world != World() or set(case.actions) & set(NEAR):
            raise UsageError(
                f"the case needs a world of its own ({describe_world(case.world) or 'a norm near the limit'}), which "
                f"export doesn't write out: send the case file, for harness replay."
            )
        if set(getattr(shape_of(load_object(factory.name.spec, factory.name.root)), "begins", ())):
            raise UsageError("export doesn't write out steps of harness.adapters.Step: send the case file.")
        self._name, self._precision, self._case = factory.name, precision, case
        with precision.installed(), warnings.catch_warnings():
            # A step that is being convicted of it needs no warning for it.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self._seen = observe_program(FedStepTrial(factory, precision, case).act, case.actions)

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
            f"{said} The CPU's autocast to the same dtype stands in for it around the one linear layer.",
        )

    def is_shown(self, printed: str) -> bool:
        """Whether every micro-step did what the harness saw."""
        found = _LINE.findall(printed)
        return len(found) == len(self._seen) and all(map(_is_alike, self._seen, found))

    def _body(self, device: str, autocast: str) -> str:
        case, scaled = self._case, self._precision.needs_scaler
        building, feeding, restoring = self._shape()
        lines = [
            "import importlib.util",
            "import operator",
            "import pathlib",
            "import sys",
            "from math import inf, isfinite, nan",
            "",
            "import torch",
            "from torch import nn",
            "",
            *importing(self._name),
            "",
            f"device, accumulation = {device!r}, {case.accumulation}",
            f"weight = nn.Parameter(torch.full((2, 3), {MATRIX_START!r}, device=device))",
            f"bias = nn.Parameter(torch.full((2,), {BIAS_START!r}, device=device))",
            "",
            "",
            *(_DICT if any("Dict(" in line for line in building) else ()),
            "def build():",
            "    groups = [",
            f"        {{'params': [weight], 'weight_decay': {WEIGHT_DECAY!r}}},",
            "        {'params': [bias], 'weight_decay': 0.0},",
            "    ]",
            f"    optimizer = torch.optim.SGD(groups, lr={LEARNING_RATE!r}, momentum={MOMENTUM!r})",
            "    scaler = torch.amp.GradScaler(",
            f"        device, init_scale={2.0**case.scale_exponent!r}, growth_factor={GROWTH!r}, "
            f"backoff_factor={BACKOFF!r},",
            f"        growth_interval={case.growth_interval}, enabled={scaled},",
            "    )",
            "    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda updates: 1 / (1 + updates))",
            *(f"    {line}" for line in building),
            "    return step, optimizer, scaler, schedule",
            "",
            "",
            "def loss_with(gradient, spoil=1.0):",
            "    '''A loss whose gradient by every element of the parameters is this.'''",
            f"    with {autocast}:",
            "        output = nn.functional.linear(torch.ones(1, 3, device=device), weight, bias)",
            "    output = output.float()",
            "    if spoil != 1.0:",
            "        output.register_hook(lambda arriving: arriving * spoil)",
            "    return (output * gradient).sum()",
            "",
            "",
            "step, optimizer, scaler, schedule = build()",
            "passes = 0",
            "program = [",
            *(f"    {line}" for line in self._program()),
            "]",
            "for number, (what, make, right) in enumerate(program, 1):",
            "    before = weight.detach().clone(), bias.detach().clone()",
            "    try:",
            *(("        if make is None:", *(f"            {line}" for line in restoring), "        else:"))
            * (Action.RESTORE in case.actions),
            *(
                f"{'            ' if Action.RESTORE in case.actions else '        '}{line}"
                for line in ("passes += 1", "last = passes % accumulation == 0", "loss = make()", *feeding)
            ),
            "    except Exception as error:",
            "        print(f'{number} {what}: raises {type(error).__name__}: {error} (right: {right})')",
            "        break",
            "    now = weight.detach(), bias.detach()",
            "    pairs = [(old.nan_to_num(7.5), new.nan_to_num(7.5)) for old, new in zip(before, now)]",
            "    moved = not all(torch.equal(old, new) for old, new in pairs)",
            "    finite = all(isfinite(value) for one in now for value in one.flatten().tolist())",
            "    print(f\"{number} {what}: parameters {'moved' if moved else 'stayed'}, \"",
            "          f\"{'finite' if finite else 'NOT finite'}, scale {scaler.get_scale():g}, \"",
            "          f\"rate {optimizer.param_groups[0]['lr']:.6g} (right: {right})\")",
        ]
        return "\n".join(lines)

    def _program(self) -> list[str]:
        lines = []
        for action, seen in zip(self._case.actions, [*self._seen, *[None] * len(self._case.actions)], strict=False):
            right = "not run" if seen is None else _right(seen)
            if action is Action.RESTORE:
                lines.append(f"({action.value!r}, None, {right!r}),")
                continue
            plain = f"loss_with({GRADIENT.get(action, 1.0)!r})"
            loss, words = _LOSSES.get(action, (plain, f"gradient elements of {GRADIENT.get(action, 1.0):g}"))
            lines += [f"# {words}", f"({action.value!r}, lambda: {loss}, {right!r}),"]
        return lines

    def _shape(self) -> tuple[list[str], list[str], list[str]]:
        """Lines that build the step, that feed it a loss, and that save and restore it."""
        found = load_object(self._name.spec, self._name.root)
        if (shape := shape_of(found)) is not None:
            building, feeding = _called(found, shape)
            return building, feeding, []
        if callable(getattr(found, "optimizer_step", None)):
            return *_facelift(found, self._name.spec), []
        building = [
            f"step = Subject(optimizer, scaler, schedule, grad_accum_steps=accumulation, grad_clip_norm={CLIP_NORM!r},",
            f"               allowed_gradnorm_factor={NORM_FACTOR!r})",
        ]
        restoring = [
            "saved = step.state_dict()",
            "step, optimizer, scaler, schedule = build()",
            "step.load_state_dict(saved)",
        ]
        return building, ["step.backward(loss)", "step.step()"], restoring


def _called(found: object, shape: CallingShape) -> tuple[list[str], list[str]]:
    sources = {
        "loss": "loss / accumulation",
        "optimizer": "optimizer",
        "scaler": "scaler",
        "scheduler": "schedule",
        "parameters": "[weight, bias]",
        "last": "last",
    }
    if shape.native:
        sources |= {"need_update": "last", "update_grad": "last", "clip_grad": repr(CLIP_NORM)}
    call = ", ".join(f"{name}={sources[name]}" for name in shape.takes if name in sources)
    if not isinstance(found, type):
        return ["step = Subject"], [f"step({call})"]
    if not shape.native:
        return ["step = Subject().step"], [f"step({call})"]
    building = [
        "step = Subject()",
        "for name, value in list(vars(step).items()):",
        "    if isinstance(value, torch.amp.GradScaler):",
        "        setattr(step, name, scaler)  # its own would be off without a GPU",
    ]
    return building, [f"step({call})", "if last:", "    optimizer.zero_grad()"]


def _facelift(found: object, spec: str) -> tuple[list[str], list[str]]:
    convention = learn_calling_convention(found, spec)
    building = [
        f"runtime = Dict(grad_accum_steps=accumulation, grad_clip_norm={CLIP_NORM!r}, "
        f"allowed_gradnorm_factor={NORM_FACTOR!r})",
        "step = Subject.__new__(Subject)  # without __init__: only optimizer_step is run",
        *(["nn.Module.__init__(step)"] if isinstance(found, type) and issubclass(found, torch.nn.Module) else []),
        "vars(step).update(",
        "    optimizer=optimizer, scaler=scaler, lr_scheduler=schedule, ddp_rank=0,",
        "    optim_param_dict={'weight': weight, 'bias': bias}, optim_param_list=[weight, bias],",
        "    config=Dict(training=Dict(runtime=runtime)), fwdbwd_pass_step=0, param_update_step=0,",
        ")",
    ]
    feeding = [
        "if loss.requires_grad:",
        "    scaler.scale(loss / accumulation).backward()",
        f"step.fwdbwd_pass_step = passes{'' if convention.counted_before else ' - 1'}",
        "value = loss.detach()",
    ]
    call = "step.optimizer_step(Dict(loss=value, loss_metrics=Dict(loss=value)))"
    feeding += [call] if convention.every_pass else ["if last:", f"    {call}"]
    return building, feeding


def _right(seen: Observation) -> str:
    """What a right step does."""
    expected = seen.expected
    if seen.restored or not expected.window_ended:
        return f"parameters stay, {expected.why}"
    scales = " or ".join(dict.fromkeys(f"{state.scale:g}" for state in expected.scaler))
    moves = "move" if expected.moved else "stay"
    return f"parameters {moves}, scale {scales}, rate {expected.learning_rate:.6g}: {expected.why}"


def _is_alike(seen: Observation, found: Sequence[str]) -> bool:
    _, raised, moved, scale, rate = found
    if seen.raised is not None or raised:
        return seen.raised is not None and type(seen.raised).__name__ == raised
    return (
        (moved == "moved") == bool(seen.before.changed(seen.after))
        and float(scale) == float(f"{seen.after.scaler.scale:g}")
        and rate == f"{seen.after.learning_rate:.6g}"
    )
