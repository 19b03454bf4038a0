"""Which ops CUDA autocast casts, and how: read from the installed torch's own header.

The source is ``include/ATen/autocast_mode.h`` of the wheel: four ``AT_FORALL_*`` macros name the ops of four
policies and a fifth names the ops that are sent on to another overload. A few more ops are registered for
CUDA in the C++ source alone, which a wheel does not hold; they are written down here, and `cross_check`
holds them against the dispatcher.

An entry that is not understood is an error and never a guess: a list that is silently short would call a
loss safe that is not. An op that the dispatcher casts and neither header nor this file names is no error here:
`coverage` names it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from harness.errors import describe_exception
from harness.precision.cuda_policy.dispatcher import autocast_ops
from harness.precision.cuda_policy.errors import HeaderNotUnderstoodError

# Registered for AutocastCUDA in aten/src/ATen/autocast_mode.cpp, not in the header; not every torch has each.
APART = {
    "lower_precision": ("cudnn_convolution", "cudnn_convolution_transpose"),
    "float32": ("linalg_matrix_sqrth",),  # since 2.14; told from its kernel's casts of fake tensors
    "banned": ("binary_cross_entropy",),
}

_MACRO_OF_FIELD = {
    "lower_precision": "AT_FORALL_LOWER_PRECISION_FP",
    "float32": "AT_FORALL_FP32",
    "float32_unless_dtype": "AT_FORALL_FP32_SET_OPT_DTYPE",
    "widest": "AT_FORALL_PROMOTE",
}
_REDISPATCH_MACRO = "AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE"
# Older headers spell it wrongly.
_OTHER_MACROS = {"AT_FORALL_DEPRECATED_AUTOCAST_BACKENDS", "AT_FORALL_DEPRECATED_AUTOCAST_BAKCNEDS"}
_CAST_POLICIES = {"lower_precision_fp", "fp32", "fp32_set_opt_dtype", "fp32_append_dtype", "promote"}
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True)
class AutocastLists:
    """The ops of CUDA autocast by policy. Each is ``name`` or ``name.overload``, as in ``torch.ops.aten``.

    Attributes:
        lower_precision: all floating inputs are cast to the autocast dtype.
        float32: all floating inputs are cast to float32.
        float32_unless_dtype: the op's ``dtype`` argument becomes float32 where the caller gave none.
        float32_appended: sent on to the overload of the same op that takes a dtype, with float32.
        widest: inputs are cast to float32 if any is float32, else to the autocast dtype.
        banned: the op raises.
        source: where the lists were read.
    """

    lower_precision: tuple[str, ...]
    float32: tuple[str, ...]
    float32_unless_dtype: tuple[str, ...]
    float32_appended: tuple[str, ...]
    widest: tuple[str, ...]
    banned: tuple[str, ...]
    source: str

    def by_policy(self) -> dict[str, tuple[str, ...]]:
        """Policy name -> its ops."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "source"}

    def policy_of(self) -> dict[str, str]:
        """Op -> policy name."""
        return {op: policy for policy, ops in self.by_policy().items() for op in ops}


def installed_header() -> Path:
    """Path of the installed torch's autocast header.

    Raises:
        HeaderNotUnderstoodError: the installed torch came without it.
    """
    path = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    if not path.is_file():
        raise HeaderNotUnderstoodError(
            f"torch {torch.__version__} was installed without its header {path}, which names the ops of "
            "CUDA autocast: install torch from a wheel, which has it, or pass the path of the same "
            "version's header."
        )
    return path


def read_autocast_lists(header: Path | None = None) -> AutocastLists:
    """Reads the lists from ``header``, or from the installed torch's own, and adds what the running torch has apart.

    Raises:
        HeaderNotUnderstoodError: the header is missing, unreadable, or says something unknown.
    """
    path = header if header is not None else installed_header()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_understood(str(path), describe_exception(error)) from error
    return with_apart(parse_autocast_header(text, source=str(path)), autocast_ops("cuda"))


def parse_autocast_header(text: str, *, source: str = "header") -> AutocastLists:
    """Parses the text of ``autocast_mode.h``, and no more: what a torch has apart is added by `with_apart`.

    Raises:
        HeaderNotUnderstoodError: a macro is missing or new, an entry has an unknown form, a policy is new,
            or an op is listed twice.
    """
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    macros = {m[1]: m[2] for m in re.finditer(r"#define\s+(AT_FORALL_\w+)\(_\)((?:[^\n]*\\\n)*[^\n]*)", text)}
    _refuse_unknown_macros(macros, text, source)
    lists = {field: _entries(macros[macro], macro, source) for field, macro in _MACRO_OF_FIELD.items()}
    appended = (_redispatched(entry, source) for entry in _groups(macros[_REDISPATCH_MACRO], _REDISPATCH_MACRO, source))
    found = AutocastLists(**lists, float32_appended=tuple(appended), banned=(), source=source)
    _refuse_doubles(found)
    return found


def with_apart(lists: AutocastLists, registered: frozenset[str]) -> AutocastLists:
    """The lists and the ops of `APART` that this torch has registered, but for those that the header names itself."""
    named = set(lists.policy_of())
    added = {
        policy: (*getattr(lists, policy), *(op for op in ops if op in registered and op not in named))
        for policy, ops in APART.items()
    }
    return AutocastLists(**{**lists.by_policy(), **added}, source=lists.source)


def _refuse_unknown_macros(macros: dict[str, str], text: str, source: str) -> None:
    known = {*_MACRO_OF_FIELD.values(), _REDISPATCH_MACRO}
    if missing := sorted(known - set(macros)):
        raise _not_understood(source, f"the macros {', '.join(missing)} are missing")
    if unknown := sorted(set(re.findall(r"\bAT_FORALL_\w+", text)) - known - _OTHER_MACROS):
        raise _not_understood(source, f"the macros {', '.join(unknown)} are new")
    enum = re.search(r"enum\s+class\s+CastPolicy[^{]*\{([^}]*)\}", text)
    if enum is None:
        raise _not_understood(source, "the enum CastPolicy is missing")
    policies = {p.split("=")[0].strip() for p in enum[1].split(",")} - {""}
    if policies != _CAST_POLICIES:
        odd = ", ".join(sorted(policies ^ _CAST_POLICIES))
        raise _not_understood(source, f"the cast policies differ from the known five by {odd}")


def _refuse_doubles(lists: AutocastLists) -> None:
    seen: dict[str, str] = {}
    for policy, ops in lists.by_policy().items():
        for op in ops:
            if op in seen:
                raise _not_understood(lists.source, f"{op} is listed under {seen[op]} and again under {policy}")
            seen[op] = policy


def _entries(body: str, macro: str, source: str) -> tuple[str, ...]:
    ops = []
    for parts in _groups(body, macro, source):
        if len(parts) not in (1, 2) or not all(_IDENTIFIER.match(p) for p in parts):
            raise _not_understood(source, f"{macro} has the entry _({', '.join(parts)})")
        ops.append(".".join(parts))
    return tuple(ops)


def _redispatched(parts: list[str], source: str) -> str:
    """The registered op of one entry: function, registered name, its signature, the signature sent on to,
    policy.
    """
    entry = f"{_REDISPATCH_MACRO} has the entry _({', '.join(parts)})"
    if len(parts) != 5 or parts[4] != "fp32_append_dtype":
        raise _not_understood(source, entry)
    function = re.fullmatch(r"ADD_NS\((\w+)\)", parts[0])
    name = re.fullmatch(r'"(\w+)(\.\w+)?"', parts[1])
    taken, sent = (re.fullmatch(r"Tensor\s*\((.*)\)", p, flags=re.S) for p in parts[2:4])
    if not (function and name and taken and sent) or function[1] != name[1]:
        raise _not_understood(source, entry)
    before, after = (_split_top(m[1]) for m in (taken, sent))
    if len(after) != len(before) + 1 or after[-1] != "ScalarType":
        raise _not_understood(source, entry)
    return parts[1].strip('"')


def _groups(body: str, macro: str, source: str) -> list[list[str]]:
    """Splits ``_(a) _(b, c)`` into ``[[a], [b, c]]``."""
    body = body.replace("\\\n", "\n").strip()
    groups = []
    while body:
        start = re.match(r"_\s*\(", body)
        end = _closing(body, start.end() - 1) if start else -1
        if start is None or end < 0:
            raise _not_understood(source, f"{macro} holds {body[:60]!r}, which is no entry")
        groups.append(_split_top(body[start.end() : end]))
        body = body[end + 1 :].strip()
    if not groups:
        raise _not_understood(source, f"{macro} names no op")
    return groups


def _closing(text: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


def _split_top(text: str) -> list[str]:
    """Splits at the commas that stand outside all brackets, and squeezes white space."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += {"(": 1, "<": 1, ")": -1, ">": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    return [" ".join(p.split()) for p in [*parts, part]]


def _not_understood(source: str, what: str) -> HeaderNotUnderstoodError:
    return HeaderNotUnderstoodError(
        f"Cannot read the CUDA autocast lists from {source}: {what}. Teach autocast_lists.py this form, or "
        "run with a torch whose header it reads (2.6, 2.9, 2.13 and 2.14 are tested)."
    )


if __name__ == "__main__":
    for read in [Path(a) for a in sys.argv[1:]] or [installed_header()]:
        found = read_autocast_lists(read)
        print(f"{read}: " + ", ".join(f"{policy} {len(ops)}" for policy, ops in found.by_policy().items()))
