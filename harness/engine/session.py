"""The loaded subjects, each on its bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from harness.cases.image_folder import ImageFolder
from harness.config import Settings
from harness.engine.events import SubjectLoaded
from harness.engine.plan import Task
from harness.errors import UsageError
from harness.kinds.kind import Bench
from harness.kinds.registry import AnyKind, adapted, kind_for, kinds_of
from harness.oracle.definitions import definition_named
from harness.precision import import_guard
from harness.subject_spec import AUTO_TRUTH, SubjectKind
from harness.subjects.door import load_object
from harness.subjects.source import source_of


def subject_kinds(settings: Settings) -> tuple[SubjectKind, ...]:
    """Which subjects the settings name.

    Raises:
        UsageError: none, or a truth that there isn't.
    """
    if settings.truth != AUTO_TRUTH:
        definition_named(settings.truth)
    named = tuple(kind for kind in SubjectKind if settings.subject(kind) is not None)
    if not named:
        raise UsageError(
            "nothing to check: name a subject with --loss or --step, or in pyproject.toml under [tool.harness]."
        )
    return named


class Session:
    """The subjects that the settings name, loaded, and the user's pictures.

    Raises:
        UsageError: the settings name no subject, or a folder of pictures that can't be read.
        SubjectError: a subject can't be loaded, or doesn't fit.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = ImageFolder(settings.images) if settings.images else None
        self._names = {role: settings.subject(role) for role in subject_kinds(settings)}
        with import_guard():
            names = {role: name for role, name in self._names.items() if name is not None}
            found = {role: load_object(name.spec, name.root) for role, name in names.items()}
            self._subjects = {role: adapted(role, found[role], name) for role, name in names.items()}
        self._sources = {role: source_of(object_) for role, object_ in found.items()}
        self._benches: dict[str, Bench[Any, Any]] = {}

    def subject(self, role: SubjectKind) -> Any:
        """The loaded subject."""
        return self._subjects[role]

    def loaded(self) -> tuple[SubjectLoaded, ...]:
        """What is to be said of what the subjects are held to."""
        found = []
        for role, subject in self._subjects.items():
            source = self._sources[role]
            if (held := getattr(subject, "held_to", None)) is not None:
                loaded = SubjectLoaded(role, held.definition.name, held.sentence, held.another, source=source)
                if (ranged := getattr(subject, "data_range", None)) is not None:
                    loaded = replace(loaded, data_range=ranged.value, data_range_words=ranged.words)
                found.append(loaded)
            else:
                found.append(SubjectLoaded(role, table=getattr(subject, "table", ()), source=source))
        return tuple(found)

    def spec(self, role: SubjectKind) -> str:
        """The import path that it was named by."""
        name = self._names[role]
        assert name is not None
        return name.spec

    def kind_names(self) -> tuple[str, ...]:
        """Of what kinds the subjects are."""
        return tuple(kind.name for role, subject in self._subjects.items() for kind in kinds_of(role, subject))

    def kind(self, task: Task) -> AnyKind:
        """As which kind the task's subject is tried: one that has the property.

        Raises:
            UsageError: no kind has.
        """
        return kind_for(task.kind, task.property, self.kind_names())

    def bench(self, kind: AnyKind) -> Bench[Any, Any]:
        """The subject of the kind's role on its bench, made when first needed."""
        if kind.name not in self._benches:
            self._benches[kind.name] = kind.bench(self._subjects[kind.role], self.folder)
        return self._benches[kind.name]

    def fork_ahead(self, closing: Sequence[Connection] = ()) -> None:
        """Nothing of the subjects has been run yet, and this process may be forked: see
        :meth:`harness.kinds.kind.Bench.fork_ahead`.
        """
        for role, subject in self._subjects.items():
            for kind in kinds_of(role, subject):
                self.bench(kind).fork_ahead(closing)

    def close(self) -> None:
        """End the processes that were started for the subjects."""
        for bench in self._benches.values():
            bench.close()
