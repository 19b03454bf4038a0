"""A catalogue: what is known to be wrong, each with the property that must notice, and what is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.files import one_line, read_text, shown
from harness.oracle.levels import Level
from harness.rehearsal.faults import Fault as ScriptFault
from harness.subject_spec import SubjectKind, SubjectSpec

KINDS = ("loss", "mask", "step", "training", "script")
"""What a fault is a fault of."""
FOLDER = "{folder}"
"""In an argument of a script: a folder that it may write into, and that is gone afterwards."""
PLANTED = "planted"
"""The source of a fault that nobody met, and that was made to see it noticed."""


@dataclass(frozen=True)
class Script:
    """A training script, for a rehearsal.

    Attributes:
        path: of the file.
        arguments: of its command line; :data:`FOLDER` in one of them stands for a folder of its own.
        edits: texts that are replaced in a copy of it, each with what comes in its place.
        faults: that are put into it; all by default.
        pretend_cuda: whether CUDA is pretended.
        ranks: how many processes train together.
        resume_with: arguments with which it takes up its checkpoint after a kill; ``None`` to try none.
    """

    path: Path
    arguments: tuple[str, ...] = ()
    edits: tuple[tuple[str, str], ...] = ()
    faults: tuple[ScriptFault, ...] = tuple(ScriptFault)
    pretend_cuda: bool = False
    ranks: int = 1
    resume_with: str | None = None

    def text(self) -> str:
        """Of the script, edited.

        Raises:
            UsageError: it can't be read, or an edit doesn't fit.
        """
        text = read_text(self.path)
        for old, new in self.edits:
            if text.count(old) != 1:
                raise UsageError(
                    f"{one_line(str(self.path))} has the text {shown(old)} {text.count(old)} times, and an edit's old "
                    f"text must stand there once."
                )
            text = text.replace(old, new)
        return text


@dataclass(frozen=True)
class Subject:
    """A loss or a step, for a search.

    Attributes:
        role: which of them.
        spec: as settings have it.
        examples: for each property under a precision.
    """

    role: SubjectKind
    spec: SubjectSpec
    examples: int


@dataclass(frozen=True)
class Fault:
    """What is known to be wrong.

    Attributes:
        name: of its own.
        kind: what it is a fault of: one of :data:`KINDS`.
        about: what is wrong, in a sentence.
        source: where it was met, or :data:`PLANTED`.
        subject: what has it.
        expected: the property that must notice; of a script, the rule.
        precision: in which; empty for a script.
        level: at which, or at a graver one.
    """

    name: str
    kind: str
    about: str
    source: str
    subject: Subject | Script
    expected: str
    precision: str
    level: Level


@dataclass(frozen=True)
class Right:
    """What is right, so that no fault may be found in it.

    Attributes:
        name: of its own.
        about: what it is, in a sentence.
        subject: what is right.
        precisions: in which it is; none for a script.
    """

    name: str
    about: str
    subject: Subject | Script
    precisions: tuple[str, ...]


Entry = Fault | Right


@dataclass(frozen=True)
class Catalogue:
    """Faults and right implementations; no two have one name."""

    faults: tuple[Fault, ...]
    rights: tuple[Right, ...]

    def only(self, word: str) -> Catalogue:
        """Those with the word in their names.

        Raises:
            UsageError: none has it.
        """
        found = Catalogue(
            tuple(fault for fault in self.faults if word in fault.name),
            tuple(right for right in self.rights if word in right.name),
        )
        if not found.faults and not found.rights:
            raise UsageError(f"the catalogue has no name with {shown(word)} in it.")
        return found
