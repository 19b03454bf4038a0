"""The world of a fault program as source: parameters, optimizer, scaler, schedule, losses, a save and restore."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import ParameterKind, Saving
from harness.oracle.optimizer_model import BETAS, EPSILON, momentum_of
from harness.oracle.step_world import LEARNING_RATE, ParameterSpec, parameters_of
from harness.oracle.window import BACKOFF, GROWTH

_JOINS_LATER = "  # joins the optimizer when the first window has ended"


def late_ones(case: StepCase) -> tuple[ParameterSpec, ...]:
    """The parameters that join the optimizer later."""
    return tuple(spec for spec in parameters_of(case.world.parameters) if spec.late)


def building_world(case: StepCase, scaled: bool) -> list[str]:
    """Lines that make ``parameters``, ``every``, ``optimizer``, ``scaler`` and ``schedule``, given ``device``.

    Args:
        scaled: the scaler is on.
    """
    return [
        *_parameters(parameters_of(case.world.parameters)),
        f"optimizer = {optimizer_source(case, 'groups')}",
        "scaler = torch.amp.GradScaler(",
        f"    device, init_scale={2.0**case.scale_exponent!r}, growth_factor={GROWTH!r}, backoff_factor={BACKOFF!r},",
        f"    growth_interval={case.growth_interval}, enabled={scaled},",
        ")",
        "schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)"
        if case.world.scheduled
        else "schedule = None",
    ]


def _parameters(specs: Sequence[ParameterSpec]) -> Iterator[str]:
    yield "parameters = {"
    for spec in specs:
        off = ", requires_grad=False" if spec.frozen or spec.late else ""
        tensor = f"torch.full({spec.shape}, {spec.start!r}, device=device)"
        yield f"    {spec.name!r}: nn.Parameter({tensor}{off}),{_JOINS_LATER if spec.late else ''}"
    yield from ("}", "every = list(parameters.values())", "groups = [")
    present = [spec for spec in specs if not spec.late]
    for _, members in itertools.groupby(present, key=lambda spec: spec.group):
        yield f"    {_group(list(members))},"
    yield "]"


def _group(members: Sequence[ParameterSpec]) -> str:
    named = ", ".join(f"parameters[{spec.name!r}]" for spec in members)
    first = members[0]
    return f"{{'params': [{named}], 'weight_decay': {first.weight_decay!r}, 'lr': {_rate(first)!r}}}"


def _rate(spec: ParameterSpec) -> float:
    return LEARNING_RATE * spec.rate


def optimizer_source(case: StepCase, groups: str) -> str:
    """The world's optimizer of these groups, constructed."""
    kind = case.world.optimizer
    own = f"betas={BETAS!r}, eps={EPSILON!r}" if kind.adam else f"momentum={momentum_of(kind)!r}"
    name = "AdamW" if kind.adam else "SGD"
    how = f"foreach={kind.foreach}, fused={kind.fused}"
    return f"torch.optim.{name}({groups}, lr={LEARNING_RATE!r}, {own}, {how})"


def joining(case: StepCase) -> list[str]:
    """The function that hands ``optimizer`` and ``schedule`` the parameters that join later; none where none does."""
    lines = []
    for spec in late_ones(case):
        lines += [f"parameters[{spec.name!r}].requires_grad_()", f"group = {_group([spec])}"]
        if case.world.scheduled:
            lines += [
                "group |= {'initial_lr': group['lr'], 'lr': group['lr'] * factor(schedule.last_epoch)}",
                "schedule.base_lrs.append(group['initial_lr'])",
                "schedule.lr_lambdas.append(factor)",
            ]
        lines += ["optimizer.add_param_group(group)"]
    return ["def join():", *_indented(lines), "", ""] if lines else []


def losses(autocast: str) -> list[str]:
    """The function that makes a loss, given ``parameters``."""
    return [
        "def loss_with(**gradients):",
        "    '''A loss whose gradient by every element of a parameter is the one named.'''",
        "    losses = []",
        "    for name, gradient in gradients.items():",
        "        matrix = torch.atleast_2d(parameters[name])",
        f"        with {autocast}:",
        "            output = nn.functional.linear(torch.ones(1, matrix.shape[1], device=device), matrix)",
        "        losses.append((output.float() * (1.0 if isnan(gradient) else gradient)).sum())",
        "        if isnan(gradient):  # the loss itself is finite",
        "            losses[-1].register_hook(lambda arriving: arriving * nan)",
        "    return torch.stack(losses).sum()",
        "",
        "",
    ]


def loss_source(action: Action, gradients: Mapping[str, float]) -> str:
    """The loss of an action's micro-step."""
    if action is Action.FROZEN:
        return "torch.ones(1, 3, device=device, requires_grad=True).sum()"
    made = f"loss_with({', '.join(f'{name}={gradient!r}' for name, gradient in gradients.items())})"
    return made + {Action.NAN_LOSS: " * nan", Action.INF_LOSS: " + inf"}.get(action, "")


def loss_words(action: Action, kind: ParameterKind) -> str:
    """What a reader can't see in :func:`loss_source`; empty for nothing."""
    if action is Action.NAN_BACKWARD:
        return "a finite loss whose gradients are NaN" + (", one's alone" if kind is ParameterKind.ONE_BAD else "")
    return {
        Action.FROZEN: "a loss that reaches no parameter",
        Action.INF_LOSS: "an infinite loss with finite gradients",
    }.get(action, "")


def restoring(case: StepCase, good: str, inside_window: bool) -> list[str]:
    """The function that saves all, builds it anew and restores it, given ``build``, ``feed``, ``step`` and ``passes``.

    Args:
        good: the loss of a micro-step that is lost in between, where the world says so.
        inside_window: the step promised to be restored there too; else nothing is done there.
    """
    saved = "{'parameters': {name: p.detach().clone() for name, p in parameters.items()}, 'passes': passes,"
    if case.world.saving is Saving.COPY:
        through = ["saved = copy.deepcopy(saved)"]
    else:
        through = [
            "file = io.BytesIO()",
            "torch.save(saved, file)",
            "for _ in range(accumulation):  # one more window, which is lost",
            f"    feed({good})",
            "file.seek(0)",
            "saved = torch.load(file, map_location=device, weights_only=True)",
        ]
    return [
        "def restore():",
        "    global passes",
        *([] if inside_window else ["    if passes % accumulation:", "        return"]),
        f"    saved = {saved}",
        "             'step': step.state_dict()}",
        *_indented(through),
        "    build()",
        "    with torch.no_grad():",
        "        for name, parameter in parameters.items():",
        "            parameter.copy_(saved['parameters'][name])",
        "    step.load_state_dict(saved['step'])",
        "    passes = saved['passes']",
        "",
        "",
    ]


def _indented(lines: Sequence[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)
