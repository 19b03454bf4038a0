"""What a campaign is of: the subject, what is searched and how far, and the versions that its findings hold for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config import Settings
from harness.engine.plan import plan as tasks_of
from harness.errors import UsageError
from harness.files import json_value, read_json, shown, write_atomically
from harness.fuzzing.records import found_task
from harness.fuzzing.units import Group, Units
from harness.kinds.registry import kind_for
from harness.subject_spec import SubjectKind, SubjectSpec, subject_from_json

SCHEMA = "harness-campaign/1"
_MOST_TASKS = 10_000


@dataclass(frozen=True)
class Loaded:
    """What loading the subjects told.

    Attributes:
        kinds: that the subjects are of, as the engine names them.
        sources: by role, a digest of the file that the subject begins in; none where it can't be told.
        torch: the version that they run on.
    """

    kinds: tuple[str, ...]
    sources: Mapping[str, str]
    torch: str


@dataclass(frozen=True)
class Plan:
    """A campaign's plan.

    Attributes:
        subjects: by role.
        images: the user's folder of pictures; ``None`` for none.
        max_examples: per property and precision, in every round.
        units: all of them.
        sources, torch: as :class:`Loaded` has them.
        harness: the version that made the plan.
    """

    subjects: Mapping[SubjectKind, SubjectSpec]
    images: str | None
    max_examples: int
    units: Units
    sources: Mapping[str, str] = field(default_factory=dict)
    torch: str = ""
    harness: str = __version__

    @property
    def round_size(self) -> int:
        """Units in a round."""
        return len(self.units.groups)

    @property
    def title(self) -> str:
        """The subjects in a few words."""
        return " and ".join(f"{role.value} {subject.spec}" for role, subject in self.subjects.items())

    def settings(self) -> Settings:
        """As much of a check's settings as follows from the plan."""
        loss, step = (self.subjects.get(role) for role in SubjectKind)
        settings = Settings(images=self.images, max_examples=self.max_examples, seed=self.units.seed)
        if loss is not None:
            how = {
                name: getattr(loss, name) for name in ("similarity", "truth", "arguments", "call", "reduce", "scale")
            }
            settings = replace(settings, loss=loss.spec, subject_root=loss.root, **how)
        if step is not None:
            settings = replace(
                settings, step=step.spec, subject_root=step.root, promises=step.promises, without=step.without
            )
        return settings

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            "harness": self.harness,
            "torch": self.torch,
            "subjects": {role.value: subject.as_json() for role, subject in self.subjects.items()},
            "sources": dict(self.sources),
            "images": self.images,
            "max_examples": self.max_examples,
            "seed": self.units.seed,
            "groups": [
                {"kind": g[0].kind.value, "precision": g[0].precision, "properties": [task.property for task in g]}
                for g in self.units.groups
            ],
        }

    def write(self, path: Path) -> None:
        """Write it whole."""
        write_atomically(path, json.dumps(json_value(self.as_json()), indent=1) + "\n")


def make_plan(settings: Settings, loaded: Loaded) -> Plan:
    """The plan of a campaign with these settings.

    Raises:
        UsageError: an unknown property or precision, or nothing to run.
    """
    roles = [role for role in SubjectKind if settings.subject(role) is not None]
    subjects = {role: subject for role in roles if (subject := settings.subject(role)) is not None}
    groups: dict[tuple[str, ...], list[Any]] = {}
    for task in tasks_of(roles, settings.properties, settings.precisions):
        # What shares its runs is one piece of work: apart, each property would cost all of them.
        shared = kind_for(task.kind, task.property, loaded.kinds).shares_runs
        key = (task.kind.value, task.precision, "" if shared else task.property)
        groups.setdefault(key, []).append(task)
    units = Units(settings.seed, tuple(tuple(group) for group in groups.values()))
    return Plan(subjects, settings.images, settings.max_examples, units, dict(loaded.sources), loaded.torch)


def read_plan(path: Path) -> Plan:
    """A campaign's plan.

    Raises:
        UsageError: there is none, or none that this version understands.
    """
    return plan_from_json(read_json(path), str(path))


def plan_from_json(data: Any, where: str) -> Plan:
    """What :meth:`Plan.as_json` gave.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise UsageError(f"{where} is no campaign's plan: its schema is {shown(found)}, not {SCHEMA!r}.")
    try:
        subjects = {SubjectKind(role): subject_from_json(one, where) for role, one in data["subjects"].items()}
        groups = tuple(_group(one) for one in data["groups"])
        if not groups or sum(map(len, groups)) > _MOST_TASKS:
            raise ValueError("it has no groups of tasks, or too many")
        sources = {str(role): str(digest) for role, digest in data["sources"].items()}
        images, examples = data["images"], data["max_examples"]
        units = Units(int(data["seed"]), groups)
        return Plan(subjects, images, int(examples), units, sources, str(data["torch"]), str(data["harness"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where} is no whole plan of a campaign: {type(error).__name__} {error}.") from error


def _group(data: Mapping[str, Any]) -> Group:
    return tuple(found_task({**data, "property": name}) for name in data["properties"])


def difference(one: Plan, other: Plan) -> str | None:
    """In what the second plan is of another campaign than the first, in words; ``None`` where it is of the same.

    Where a checkout or a folder of pictures lies may differ: that is another machine's.
    """
    return next(_differences(one, other), None)


def _differences(one: Plan, other: Plan) -> Iterator[str]:
    if _subjects(one) != _subjects(other):
        yield f"of another subject: {_told(one)}, and not {_told(other)}"
    for role in one.sources:
        if one.sources[role] != other.sources.get(role):
            yield f"of another state of the {role}: its file has changed since"
    if one.harness != other.harness:
        yield f"of another version: harness {one.harness}, and not {other.harness}"
    if one.torch != other.torch:
        yield f"of another version: torch {one.torch}, and not {other.torch}"
    if one.units.seed != other.units.seed:
        yield f"of another seed: {one.units.seed}, and not {other.units.seed}"
    if one.max_examples != other.max_examples:
        yield f"of {one.max_examples} examples per property and precision, and not {other.max_examples}"
    if (one.images is None) != (other.images is None):
        yield "of other pictures"
    if one.units.groups != other.units.groups:
        yield f"of other properties or precisions: {_names(one, other)}"


def _subjects(plan: Plan) -> dict[SubjectKind, dict[str, Any]]:
    return {role: asdict(replace(subject, root=None)) for role, subject in plan.subjects.items()}


def _told(plan: Plan) -> str:
    told = plan.title
    for subject in plan.subjects.values():
        told += f" (truth {subject.truth})" if subject.truth != "auto" else ""
    return told


def _names(one: Plan, other: Plan) -> str:
    def tasks(plan: Plan) -> Sequence[str]:
        return [f"{task.property} under {task.precision}" for group in plan.units.groups for task in group]

    here, there = tasks(one), tasks(other)
    only = [name for name in here if name not in there] or [name for name in there if name not in here]
    return f"{only[0]} is in one alone" if only else "they are run together otherwise"
