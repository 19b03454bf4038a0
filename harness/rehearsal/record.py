"""What is seen of a training script: its calls, window by window, as plain values that a file can hold."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


class Did(str, enum.Enum):
    """A call that matters to a training step."""

    FORWARD = "forward"  # of the outermost module, in training mode, with gradients
    BACKWARD = "backward"
    SCALE = "scaler.scale"
    UNSCALE = "scaler.unscale_"
    CLIP = "clip"
    SCALER_STEP = "scaler.step"
    OPTIMIZER_STEP = "optimizer.step"
    UPDATE = "scaler.update"
    ZERO_GRAD = "zero_grad"
    SCHEDULE = "scheduler.step"
    SAVE = "torch.save"


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        did: what was called.
        where: the script's line that led to it, as ``train.py:313``; empty where none did.
        optimizer: which one it concerns, by the order in which they first stepped; −1 for none.
        value: of a backward pass, what was differentiated, the scale divided out; of a clip, the norm that was found;
            of an optimizer's step, that of its gradients; of an update, the new scale; of a schedule, the new rate.
        limit: of a clip, the largest norm or value; else ``None``.
        finite: of an optimizer's or a scaler's step and of a clip: whether the gradients were.
        notes: what else is to be said, by name.
    """

    did: Did
    where: str
    optimizer: int = -1
    value: float | None = None
    limit: float | None = None
    finite: bool | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Window:
    """All calls from one update of the parameters to the next, and what had changed by its end.

    Attributes:
        fault: what was put into it, by name; empty for nothing.
        refused: why the fault could not be put in; empty where it was.
        calls: in order.
        forwards, backwards: how many there were.
        moved: for each optimizer that has stepped, whether its parameters changed.
        finite: whether all parameters are, and the optimizers' states.
        averages: whether the running averages of the parameters changed; ``None`` where there are none.
        averages_finite: whether those are finite.
        buffers_finite: whether the model's buffers are; ``None`` where it has no floating ones.
        rates: of each optimizer's groups, when the last step was asked for; where none was, at the end.
        scale: of the scaler at the end; ``None`` without one that is on.
        stale: gradients of an earlier window were there when its first backward pass began.
        counted: the whole numbers that the script keeps and that changed, each with by how much.
        counted_at: for some of those, the line that changed it; only of windows with a fault.
        rates_at: the line that changed a learning rate, likewise; empty for none, or several.
        averages_at: the first line that changed a running average, likewise.
        halves: the half precisions that the script opened autocast with in it.
        state: where the training stood when it began, if that was asked for: ``numbers``, the script's own, ``scaler``,
            ``averages``, those that then moved, ``optimizers``, each with ``parameters``, ``state`` and ``rates`` as
            its first step met them; ``saved``, the optimizers when a checkpoint was saved in it; ``end``, digests of
            all parameters at its end.
        over: by an exception, and not by the next window.
    """

    fault: str = ""
    refused: str = ""
    calls: list[Call] = field(default_factory=list)
    forwards: int = 0
    backwards: int = 0
    moved: list[bool] = field(default_factory=list)
    finite: bool = True
    averages: bool | None = None
    averages_finite: bool = True
    buffers_finite: bool | None = None
    rates: list[list[float]] = field(default_factory=list)
    scale: float | None = None
    stale: bool = False
    counted: dict[str, int] = field(default_factory=dict)
    counted_at: dict[str, str] = field(default_factory=dict)
    rates_at: str = ""
    averages_at: str = ""
    halves: list[str] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    def of(self, *kinds: Did) -> list[Call]:
        """Its calls of these kinds."""
        return [call for call in self.calls if call.did in kinds]

    @property
    def losses(self) -> list[float]:
        """What was differentiated, in order."""
        return [call.value for call in self.of(Did.BACKWARD) if call.value is not None]

    @property
    def met_bad_gradients(self) -> bool:
        """An update was asked for while gradients were not finite."""
        return any(call.finite is False for call in self.of(Did.SCALER_STEP, Did.OPTIMIZER_STEP))

    def as_json(self) -> dict[str, Any]:
        """Plain values; the names are the fields'."""
        # Not dataclasses.asdict, which copies all that is inside, at every step of someone else's training.
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["calls"] = [{**vars(call), "did": call.did.value, "notes": dict(call.notes)} for call in self.calls]
        return found

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Window:
        """The inverse of :meth:`as_json`.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        known = {f.name for f in fields(Window)}
        values = {name: value for name, value in found.items() if name in known}
        values["calls"] = [
            Call(**{**call, "did": Did(call["did"]), "value": _number(call["value"]), "limit": _number(call["limit"])})
            for call in found["calls"]
        ]
        values["scale"] = _number(found["scale"])
        values["rates"] = [[float(rate) for rate in rates] for rates in found["rates"]]
        return Window(**values)


def _number(value: Any) -> float | None:
    """JSON holds NaN and inf as text."""
    return None if value is None else float(value)


@dataclass(frozen=True)
class Ending:
    """How a run of the script ended.

    Attributes:
        done: the program of faults was through.
        raised: the exception's type and message; empty for none.
        where: the script's line that raised it.
        refusal: what can't be pretended, or isn't understood, and ends the rehearsal; empty for nothing.
        stuck: the script's line at which it waited for another rank that didn't come; empty where it didn't wait.
    """

    done: bool = False
    raised: str = ""
    where: str = ""
    refusal: str = ""
    stuck: str = ""


@dataclass
class Run:
    """One run of the script: its windows, and how it ended.

    Attributes:
        scaler: a gradient scaler that is on was there.
        folder: where the script's own files are, which its lines are told from.
        rank: its number among the processes that train together; ``None`` where it trains alone.
        loads: the files that it loaded, each with the script's line that did.
        begun: how many faults were put in, or were about to be.
        forked: from a process that had seen its first windows already, and shares them with other runs.
        afresh: why it was not, in a few words; empty where it was, or nobody asked.
    """

    windows: list[Window] = field(default_factory=list)
    ending: Ending = Ending()
    scaler: bool = False
    folder: str = ""
    rank: int | None = None
    loads: list[tuple[str, str]] = field(default_factory=list)
    begun: int = 0
    forked: bool = False
    afresh: str = ""

    def saves(self) -> Iterator[tuple[Call, bool]]:
        """Every ``torch.save`` of an optimizer's state, and whether a scaler's is saved in the same window."""
        for window in self.windows:
            saves = window.of(Did.SAVE)
            whole = any(call.notes.get("saved_scaler") for call in saves)
            yield from ((call, whole) for call in saves if call.notes.get("saved_optimizer"))
