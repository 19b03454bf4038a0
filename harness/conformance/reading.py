"""The subjects of the table and what is expected of them, read from their files or refused.

``docs/how-to/conformance.md`` has the keys. A subject's ``file.py:name`` is told from the file's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.conformance.table import Expected, Listed
from harness.errors import UsageError
from harness.files import one_line, shown
from harness.kinds.registry import property_names
from harness.oracle.levels import Level
from harness.precision import PRECISIONS
from harness.subject_spec import AUTO_TRUTH, SubjectKind, subject_from_json
from harness.toml_tables import one_of, only_keys, read_document, rows, text, texts

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_LINK = re.compile(r"https?://[^\s<>\"'()]+")
_OF = {
    "loss": {"truth", "similarity", "arguments", "call", "reduce", "scale"},
    "step": {"promises", "without"},
}
_OF_ALL = {"name", "about", "packages", "needs", "cuda"}


def read_subjects(path: Path) -> tuple[Listed, ...]:
    """The subjects in a file, in its order.

    Raises:
        UsageError: the file is missing or malformed, naming the place.
    """
    where = one_line(str(path))
    document = read_document(path, "file of subjects")
    only_keys(document, {"subject"}, where)
    listed = tuple(_listed(row, path.absolute().parent, at) for row, at in rows(document, "subject", where))
    if not listed:
        raise UsageError(f"{where} has no entries: it needs a [[subject]].")
    _no_name_twice([one.name for one in listed], where)
    return listed


def _no_name_twice(names: Sequence[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{where} names {shown(name)} twice: rename one.")


def _listed(row: Mapping[str, Any], folder: Path, where: str) -> Listed:
    named = [kind for kind in SubjectKind if kind.value in row]
    if len(named) != 1:
        raise UsageError(f"{where} must name one subject: loss or step.")
    (role,) = named
    only_keys(row, {role.value, *_OF_ALL, *_OF[role.value]}, where)
    name = text(row, "name", where)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{where}: name must be of letters, digits, dots, dashes and underscores, not {shown(name)}: it names a "
            "folder, too."
        )
    cuda = row.get("cuda", False)
    if not isinstance(cuda, bool):
        raise UsageError(f"{where}: cuda must be true or false, not {shown(cuda)}.")
    data = {key: row[key] for key in _OF[role.value] if key in row} | {"spec": row[role.value]}
    if role is SubjectKind.LOSS:
        data.setdefault("truth", AUTO_TRUTH)
    spec = subject_from_json(data, where)
    location, colon, name_in_it = spec.spec.rpartition(":")
    if location.endswith(".py"):
        spec = subject_from_json({**data, "spec": f"{_from_here(folder / location)}{colon}{name_in_it}"}, where)
    packages = texts(row, "packages", where)
    if not packages:
        raise UsageError(f"{where}: packages must name at least one, as pip has it.")
    return Listed(name, text(row, "about", where), role, spec, packages, texts(row, "needs", where), cuda)


def _from_here(path: Path) -> str:
    """From the working folder where it lies beneath, so that case files mean the same in another clone."""
    here = os.path.relpath(path)
    return str(path) if here.startswith(os.pardir) else here


def read_expected(path: Path, listed: Sequence[Listed]) -> tuple[Expected, ...]:
    """What is expected of these subjects.

    Raises:
        UsageError: the file is missing or malformed, naming the place.
    """
    where = one_line(str(path))
    document = read_document(path, "file of expected violations")
    only_keys(document, {"reason", "expected"}, where)
    reasons = {}
    for row, at in rows(document, "reason", where):
        only_keys(row, {"name", "reason", "link"}, at)
        if (name := text(row, "name", at)) in reasons:
            raise UsageError(f"{where} names {shown(name)} twice: rename one.")
        link = text(row, "link", at)
        if not _LINK.fullmatch(link):
            raise UsageError(f"{at}: link must be an address that begins with https://, not {shown(link)}.")
        reasons[name] = (text(row, "reason", at), link)
    roles = {one.name: one.role for one in listed}
    found = [one for row, at in rows(document, "expected", where) for one in _expected(row, roles, reasons, at)]
    seen = set()
    for one in found:
        key = (one.subject, one.property, one.precision)
        if key in seen:
            raise UsageError(f"{where} expects {one.property} of {one.subject} under {one.precision} twice.")
        seen.add(key)
    return tuple(found)


def _expected(
    row: Mapping[str, Any], roles: Mapping[str, SubjectKind], reasons: Mapping[str, tuple[str, str]], where: str
) -> list[Expected]:
    only_keys(row, {"subject", "property", "precisions", "level", "because", "not_everywhere"}, where)
    subject = one_of("subject", text(row, "subject", where), list(roles), where)
    property_ = one_of("property", text(row, "property", where), property_names(roles[subject]), where)
    level = Level(one_of("level", row.get("level", "fault"), [level.value for level in Level], where))
    reason, link = reasons[one_of("reason", text(row, "because", where), list(reasons), where)]
    not_everywhere = row.get("not_everywhere", False)
    if not isinstance(not_everywhere, bool):
        raise UsageError(f"{where}: not_everywhere must be true or false, not {not_everywhere!r}.")
    names = texts(row, "precisions", where)
    if not names:
        raise UsageError(f"{where}: precisions must name at least one.")
    known = [precision.name for precision in PRECISIONS]
    precisions = [one_of("precision", name, known, where) for name in names]
    return [Expected(subject, property_, precision, level, reason, link, not_everywhere) for precision in precisions]
