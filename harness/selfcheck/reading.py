"""A catalogue read from its file, or refused.

It is a TOML file of tables ``[[fault]]`` and ``[[right]]``, and of ``[defaults]`` for them;
``docs/reference/selfcheck.md`` has their keys. Paths in it are told from its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import one_line, shown
from harness.kinds.registry import property_names
from harness.oracle.levels import Level
from harness.precision import precisions_named
from harness.rehearsal.faults import faults_named
from harness.rehearsal.rulebook import rule_names
from harness.selfcheck.catalogue import KINDS, Catalogue, Fault, Right, Script, Subject
from harness.subject_spec import SubjectKind, subject_from_json
from harness.toml_tables import one_of, only_keys, read_document, rows, text, texts

MOST_EXAMPLES = 100_000
_FAULT_EXAMPLES, _RIGHT_EXAMPLES = 100, 20
_PRECISION = {SubjectKind.LOSS: "float32", SubjectKind.STEP: "cpu-autocast-float16"}
_SUBJECT = ("loss", "step", "script")
_MOST_RANKS = 4
_OF_A_SUBJECT = {"root", "examples"}
_OF = {
    "loss": {"loss", "truth", "similarity", "arguments", "call", "reduce", "scale", *_OF_A_SUBJECT},
    "step": {"step", "promises", "without", *_OF_A_SUBJECT},
    "script": {"script", "arguments", "edits", "faults", "pretend-cuda", "ranks", "resume-with"},
}


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file, in its order.

    Raises:
        UsageError: the file is missing or malformed, naming the place.
    """
    where = one_line(str(path))
    document = read_document(path, "catalogue")
    only_keys(document, {"defaults", "fault", "right"}, where)
    defaults = document.get("defaults", {})
    if not isinstance(defaults, dict):
        raise UsageError(f"{where}: defaults must be a table, not {shown(defaults)}.")
    only_keys(defaults, {"truth", "root"}, f"{where}: defaults")
    folder = path.absolute().parent
    faults = [_fault({**row}, defaults, folder, at) for row, at in rows(document, "fault", where)]
    rights = [_right({**row}, defaults, folder, at) for row, at in rows(document, "right", where)]
    names = [fault.name for fault in faults] + [right.name for right in rights]
    if not names:
        raise UsageError(f"{where} has no entries: it needs a [[fault]] or a [[right]].")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{where} names {shown(name)} twice: rename one.")
    return Catalogue(tuple(faults), tuple(rights))


def _fault(row: dict[str, Any], defaults: Mapping[str, Any], folder: Path, where: str) -> Fault:
    which = _which(row, where)
    expects = {"rule"} if which == "script" else {"property", "precision", "level"}
    only_keys(row, {"name", "kind", "about", "source", *_OF[which], *expects}, where)
    name, about, source = (text(row, key, where) for key in ("name", "about", "source"))
    kind = one_of("kind", text(row, "kind", where), KINDS, where)
    subject = _subject(which, row, defaults, folder, _FAULT_EXAMPLES, where)
    if isinstance(subject, Script):
        rule = one_of("rule", text(row, "rule", where), rule_names(), where)
        return Fault(name, kind, about, source, subject, rule, "", Level.FAULT)
    expected = one_of("property", text(row, "property", where), property_names(subject.role), where)
    (precision,) = _precisions([row.get("precision", _PRECISION[subject.role])], where)
    level = one_of("level", row.get("level", "fault"), [level.value for level in Level], where)
    return Fault(name, kind, about, source, subject, expected, precision, Level(level))


def _right(row: dict[str, Any], defaults: Mapping[str, Any], folder: Path, where: str) -> Right:
    which = _which(row, where)
    only_keys(row, {"name", "about", *_OF[which], *(() if which == "script" else ("precisions",))}, where)
    name, about = (text(row, key, where) for key in ("name", "about"))
    subject = _subject(which, row, defaults, folder, _RIGHT_EXAMPLES, where)
    if isinstance(subject, Script):
        return Right(name, about, subject, ())
    given = row.get("precisions", [_PRECISION[subject.role]])
    if not isinstance(given, list) or not given:
        raise UsageError(f"{where}: precisions must be a list of names, not {shown(given)}.")
    return Right(name, about, subject, _precisions(given, where))


def _which(row: Mapping[str, Any], where: str) -> str:
    named = [key for key in _SUBJECT if key in row]
    if len(named) != 1:
        raise UsageError(f"{where} must name one subject: loss, step or script.")
    return named[0]


def _subject(
    which: str, row: dict[str, Any], defaults: Mapping[str, Any], folder: Path, examples: int, where: str
) -> Subject | Script:
    if which == "script":
        return _script(row, folder, where)
    count = row.get("examples", examples)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_EXAMPLES:
        raise UsageError(f"{where}: examples must be a whole number from 1 to {MOST_EXAMPLES}, not {shown(count)}.")
    data = {key: row[key] for key in _OF[which] - {which, "examples"} if key in row}
    data["spec"] = row[which]
    for key in ("root", "truth") if which == "loss" else ("root",):
        if key in defaults:
            data.setdefault(key, defaults[key])
    spec = subject_from_json(data, where)
    location, colon, name = spec.spec.rpartition(":")
    if location.endswith(".py"):
        data["spec"] = f"{folder / location}{colon}{name}"
    if spec.root is not None:
        data["root"] = str(folder / spec.root)
    return Subject(SubjectKind(which), subject_from_json(data, where), count)


def _script(row: Mapping[str, Any], folder: Path, where: str) -> Script:
    name = text(row, "script", where)
    arguments, faults = (texts(row, key, where) for key in ("arguments", "faults"))
    pretends, edits = row.get("pretend-cuda", False), row.get("edits", [])
    if not isinstance(pretends, bool):
        raise UsageError(f"{where}: pretend-cuda must be true or false, not {shown(pretends)}.")
    ranks, resume_with = row.get("ranks", 1), row.get("resume-with")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or not 1 <= ranks <= _MOST_RANKS:
        raise UsageError(f"{where}: ranks must be a whole number from 1 to {_MOST_RANKS}, not {shown(ranks)}.")
    if resume_with is not None and not isinstance(resume_with, str):
        raise UsageError(f"{where}: resume-with must be text, not {shown(resume_with)}.")
    if resume_with is not None and ranks > 1:
        raise UsageError(f"{where}: resume-with is for one rank alone.")
    if not isinstance(edits, list):
        raise UsageError(f"{where}: edits must be a list of tables of old and new, not {shown(edits)}.")
    for edit in edits:
        fits = isinstance(edit, dict) and set(edit) == {"old", "new"} and edit["old"]
        if not fits or not all(isinstance(text, str) for text in edit.values()):
            raise UsageError(f"{where}: an edit must be a table of two texts, old and new, not {shown(edit)}.")
    pairs = tuple((edit["old"], edit["new"]) for edit in edits)
    try:
        chosen = faults_named(faults)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Script(folder / name, arguments, pairs, chosen, pretends, ranks, resume_with)


def _precisions(names: list[Any], where: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{where}: a precision must be text, not {shown(name)}.")
    try:
        return tuple(precision.name for precision in precisions_named(names))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
