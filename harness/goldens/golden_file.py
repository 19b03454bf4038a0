"""A golden's two files: JSON for a person to review, safetensors beside it for the arrays. Reading executes nothing."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.errors import UsageError
from harness.files import json_value, one_line, read_bytes, read_json, shown
from harness.goldens.terms import SKETCH_SIZE, Array, Numbers, Term, Terms, Tolerance, Words

SCHEMA = "harness-golden/1"
LARGEST_ARRAYS = 2**26
"""Bytes of a golden's arrays; each is a sketch, or small."""
LARGEST_HEADER = 2**20
"""Bytes of the safetensors header, which is JSON."""


@dataclass(frozen=True)
class Entry:
    """What was recorded of one layer under one precision (of the truth: for one kind of inputs).

    Attributes:
        provenance: torch, CPU capability, threads, device, date and reason.
        tolerances: by term; for the reader, since those of the suite are what is applied.
    """

    terms: Terms
    tolerances: Mapping[str, Tolerance]
    provenance: Mapping[str, str | int]


@dataclass(frozen=True)
class GoldenFile:
    """One golden: what it is of, the truth by kind of inputs, and what the subject gave by precision."""

    name: str
    kind: str
    subject: Mapping[str, Any]
    case: Mapping[str, Any]
    truth: Mapping[str, Entry] = field(default_factory=dict)
    recorded: Mapping[str, Entry] = field(default_factory=dict)

    def encode(self) -> tuple[str, bytes]:
        """The JSON text, and the safetensors file's bytes (empty for a golden without arrays)."""
        arrays: dict[str, Tensor] = {}
        layers = {
            layer: {key: _entry_to_json(entry, f"{layer}/{key}", arrays) for key, entry in sorted(entries.items())}
            for layer, entries in (("truth", self.truth), ("recorded", self.recorded))
        }
        data = safetensors.torch.save(arrays) if arrays else b""
        document = {
            "schema": SCHEMA,
            "name": self.name,
            "kind": self.kind,
            "subject": self.subject,
            "case": self.case,
            "arrays_sha256": hashlib.sha256(data).hexdigest() if arrays else None,
            **layers,
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n", data


def arrays_path(path: Path) -> Path:
    """The safetensors file beside a golden's JSON."""
    return path.with_suffix(".safetensors")


def read_golden(path: Path) -> GoldenFile:
    """The golden in this JSON file and the arrays beside it.

    Raises:
        UsageError: anything is missing, malformed, of another shape, or not what the checksum says.
    """
    document = read_json(path)
    reader = _Reader(path)
    if reader.text(document, "schema") != SCHEMA:
        raise UsageError(f"{path} has the schema {shown(document['schema'])}, not {SCHEMA!r}: record it anew.")
    arrays = _read_arrays(arrays_path(path), document.get("arrays_sha256"))
    golden = GoldenFile(
        reader.text(document, "name"),
        reader.text(document, "kind"),
        reader.mapping(document, "subject"),
        reader.mapping(document, "case"),
        {key: reader.entry(value, f"truth/{key}", arrays) for key, value in reader.mapping(document, "truth").items()},
        {
            key: reader.entry(value, f"recorded/{key}", arrays)
            for key, value in reader.mapping(document, "recorded").items()
        },
    )
    if golden.name != path.stem:
        raise UsageError(f"{path} holds the golden {shown(golden.name)}: a golden's file has its name.")
    return golden


def _read_arrays(path: Path, checksum: Any) -> dict[str, Tensor]:
    if checksum is None:
        return {}
    if not os.path.lexists(path):
        raise UsageError(f"{path} is missing: restore it, or record the golden anew.")
    data = read_bytes(path, LARGEST_ARRAYS)
    if hashlib.sha256(data).hexdigest() != checksum:
        raise UsageError(f"{path} has another checksum than the golden states: restore both, or record them anew.")
    if int.from_bytes(data[:8], "little") > LARGEST_HEADER:
        raise UsageError(f"{path} is no safetensors file (its header is too long): restore it, or record it anew.")
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        said = one_line(str(error), 200)
        raise UsageError(f"{path} is no safetensors file ({said}): restore it, or record it anew.") from error


def _entry_to_json(entry: Entry, prefix: str, arrays: dict[str, Tensor]) -> dict[str, Any]:
    terms = {}
    for name, term in entry.terms.items():
        key = f"{prefix}/{name}"
        if isinstance(term, Array):
            arrays[key] = term.data.clone()  # safetensors refuses shared memory
            terms[name] = {
                "array": key,
                "shape": list(term.shape),
                "sketched": term.sketched,
                "norm": _hex_and_decimal((term.norm,), single=True),
            }
        elif isinstance(term, Numbers):
            terms[name] = _hex_and_decimal(term.values, term.single)
        else:
            terms[name] = {"words": list(term.values)}
    tolerances = {
        name: {key: value for key, value in vars(tolerance).items() if value}
        for name, tolerance in entry.tolerances.items()
        if name in entry.terms
    }
    return {"provenance": dict(entry.provenance), "tolerances": tolerances, "terms": terms}


def _hex_and_decimal(values: tuple[float, ...], single: bool) -> dict[str, Any]:
    exact = [value.hex() for value in values]
    readable = [json_value(float(f"{value:.6g}")) for value in values]
    return {"hex": exact[0], "decimal": readable[0]} if single else {"hex": exact, "decimal": readable}


class _Reader:
    """Checks every field, and names the file and the field in what it raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, where: str, what: str) -> UsageError:
        return UsageError(f"{self._path}: {one_line(where, 200)} {what}: restore the file, or record the golden anew.")

    def mapping(self, data: Any, key: str) -> dict[str, Any]:
        value = data.get(key) if isinstance(data, dict) else None
        if not isinstance(value, dict):
            raise self.fail(key, "must be an object")
        return value

    def text(self, data: Any, key: str) -> str:
        value = data.get(key) if isinstance(data, dict) else None
        if not isinstance(value, str):
            raise self.fail(key, "must be text")
        return value

    def entry(self, data: Any, where: str, arrays: Mapping[str, Tensor]) -> Entry:
        terms = {
            name: self._term(value, f"{where}/{name}", arrays) for name, value in self.mapping(data, "terms").items()
        }
        tolerances = {}
        for name, value in self.mapping(data, "tolerances").items():
            try:
                tolerances[name] = Tolerance(**{key: float(number) for key, number in value.items()})
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                raise self.fail(f"{where}: the tolerance of {name}", "is malformed") from error
        return Entry(terms, tolerances, self.mapping(data, "provenance"))

    def _term(self, data: Any, where: str, arrays: Mapping[str, Tensor]) -> Term:
        if not isinstance(data, dict):
            raise self.fail(where, "must be an object")
        if "words" in data:
            values = data["words"]
            if not isinstance(values, list) or any(isinstance(v, (float, list, dict)) for v in values):
                raise self.fail(where, "must be a list of words and integers")
            return Words(tuple(values))
        if "array" in data:
            return self._array(data, where, arrays)
        return self._numbers(data, where)

    def _numbers(self, data: dict[str, Any], where: str) -> Numbers:
        single = isinstance(data.get("hex"), str)
        exact, readable = data.get("hex"), data.get("decimal")
        exact, readable = ([exact], [readable]) if single else (exact, readable)
        if not isinstance(exact, list) or not isinstance(readable, list) or len(exact) != len(readable):
            raise self.fail(where, "must have as many hex numbers as decimals")
        try:
            values = tuple(float.fromhex(text) for text in exact)
            decimals = [float(number) for number in readable]
        except (TypeError, ValueError, OverflowError) as error:
            raise self.fail(where, "has a malformed number") from error
        for value, decimal in zip(values, decimals, strict=True):
            agree = abs(value - decimal) <= 1e-5 * abs(value) if math.isfinite(value) else str(value) == str(decimal)
            if not agree:
                raise self.fail(where, f"has {value!r} in hex but {decimal!r} in decimal")
        return Numbers(values, single)

    def _array(self, data: dict[str, Any], where: str, arrays: Mapping[str, Tensor]) -> Array:
        key, shape, sketched = data["array"], data.get("shape"), data.get("sketched")
        if not isinstance(shape, list) or not all(type(side) is int for side in shape) or type(sketched) is not bool:
            raise self.fail(where, "must have a shape and say whether it is sketched")
        if not isinstance(key, str) or key not in arrays:
            raise self.fail(where, f"names the array {shown(key)}, which {arrays_path(self._path).name} lacks")
        stored, expected = list(arrays[key].shape), [SKETCH_SIZE] if sketched else shape
        if stored != expected:
            raise self.fail(where, f"has an array of shape {shown(stored)}, not {shown(expected)}")
        if arrays[key].dtype != torch.float32:
            raise self.fail(where, f"has an array of {arrays[key].dtype}, not of torch.float32")
        norm = self._numbers(self.mapping(data, "norm"), f"{where}/norm")
        if not norm.single:
            raise self.fail(f"{where}/norm", "must be one number")
        return Array(arrays[key], tuple(shape), norm.values[0], sketched)
