"""A bundle: a folder with ``bundle.json`` and, where a loss was recorded, ``tensors.safetensors``. Whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from harness import __version__
from harness.errors import UsageError
from harness.files import is_name, json_value, one_line, read_bytes, read_json, shown
from harness.findings.bundles.values import MOST_TENSORS

SCHEMA = "harness-bundle/1"
LARGEST_TENSORS = 2**28
"""Bytes of a bundle's tensors that are read."""
LARGEST_JSON = 2**22
_LARGEST_HEADER = 2**20
_DOCUMENT, _TENSORS = "bundle.json", "tensors.safetensors"


@dataclass(frozen=True)
class Conditions:
    """What surrounded a call of a loss.

    Attributes:
        device: ``cpu`` or ``cuda``.
        autocast: the dtype of the autocast that was on, without ``torch.``; ``None`` where it was off.
        emulated: it was CUDA's, emulated on CPU tensors.
        gradients: they were on.
        threads: that torch computed with.
        matmul: torch's float32 matmul precision.
        torch: its version.
    """

    device: str
    autocast: str | None
    emulated: bool
    gradients: bool
    threads: int
    matmul: str
    torch: str

    @property
    def precision(self) -> str:
        """The harness' name for it; inputs in half precision have no say in it."""
        if self.emulated and self.autocast:
            return f"cuda-policy-{self.autocast}"
        if self.autocast:
            return f"{self.device}-autocast-{self.autocast}"
        return "float32" if self.device == "cpu" else "cuda-float32"


@dataclass(frozen=True)
class RecordedLoss:
    """A call of a loss, as JSON (see :mod:`harness.findings.bundles.values`).

    Attributes:
        name: its import path.
        root: the folder that its module was imported from; ``None`` where that is installed.
        subject: the module or function.
        inputs, named: its arguments.
        value: what it gave, without loss.
        low, high: the range that it left; ``None`` for no bound.
    """

    name: str
    root: str | None
    subject: Any
    inputs: Sequence[Any]
    named: Mapping[str, Any]
    value: float
    low: float | None
    high: float | None
    conditions: Conditions

    def violation(self, value: float) -> str | None:
        """What is wrong with a value, in words; ``None`` for nothing."""
        if not math.isfinite(value):
            return "is not finite"
        if self.low is not None and value < self.low:
            return f"is under {self.low:g}"
        if self.high is not None and value > self.high:
            return f"is over {self.high:g}"
        return None


@dataclass(frozen=True)
class Bundle:
    """What is kept of a violation.

    Attributes:
        rule: that was broken: of ``harness rehearse``'s, or ``loss-finite`` or ``loss-range``.
        sentence: what was seen, with the script's line.
        where: that line.
        rank: of the process, 0 where it trained alone.
        windows: the last ones, as :meth:`harness.rehearsal.record.Window.as_json`.
        scaler: its state; ``None`` without one that is on.
        norms: of the gradients, in those windows.
        loss: the call; ``None`` where it isn't about a loss, or could not be recorded.
        unrecorded: why that was not.
        tensors: of the loss, by key.
        from_bundle: the bundle that it was shrunk from.
    """

    rule: str
    sentence: str
    where: str = ""
    rank: int = 0
    windows: Sequence[Mapping[str, Any]] = ()
    scaler: Mapping[str, Any] | None = None
    norms: Sequence[float] = ()
    loss: RecordedLoss | None = None
    unrecorded: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    from_bundle: str | None = None

    def write(self, path: Path) -> None:
        """Write it as a folder that appears whole, by one rename.

        Raises:
            OSError: it can't be written, or there is something of that name.
        """
        data = safetensors.torch.save(dict(self.tensors)) if self.loss is not None else b""
        document = self._document(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        forget_unfinished(path.parent)
        unfinished = path.parent / f".{path.name}.{os.getpid()}.tmp"
        unfinished.mkdir()
        try:
            if data:
                (unfinished / _TENSORS).write_bytes(data)
            (unfinished / _DOCUMENT).write_text(document, encoding="utf-8")
            os.rename(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _document(self, data: bytes) -> str:
        """The JSON, of as many of the last windows as its limit allows."""
        fields = self._as_json(data)
        while True:
            document = json.dumps(fields, indent=1, allow_nan=False) + "\n"
            if len(document) <= LARGEST_JSON or not fields["windows"]:
                return document
            fields["windows"] = fields["windows"][len(fields["windows"]) // 2 + 1 :]

    def _as_json(self, data: bytes) -> dict[str, Any]:
        loss = None
        if self.loss is not None:
            loss = {**vars(self.loss), "inputs": list(self.loss.inputs), "conditions": vars(self.loss.conditions)}
            for name in ("value", "low", "high"):
                bound = loss[name]
                loss[name] = None if bound is None else {"hex": float(bound).hex(), "decimal": str(bound)}
        return {
            "schema": SCHEMA,
            "harness": __version__,
            "rule": self.rule,
            "sentence": self.sentence,
            "where": self.where,
            "rank": self.rank,
            "from": self.from_bundle,
            "loss": loss,
            "unrecorded": self.unrecorded,
            "tensors_sha256": hashlib.sha256(data).hexdigest() if data else None,
            "scaler": json_value(self.scaler),
            "norms": json_value(list(self.norms)),
            "windows": json_value(list(self.windows)),
        }


def forget_unfinished(folder: Path) -> None:
    """Remove what processes that are no more had not finished."""
    for unfinished in folder.glob(".*.tmp"):
        process = unfinished.name.split(".")[-2]
        if unfinished.is_dir() and process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def is_bundle(path: Path) -> bool:
    """Whether the path is a folder that holds one."""
    return (path / _DOCUMENT).is_file()


def bundles_in(folder: Path) -> list[Path]:
    """The folder itself where it is a bundle, else those that are in it."""
    if is_bundle(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_bundle(path))


def read_bundle(path: Path) -> Bundle:
    """The bundle in this folder; nothing in it is executed.

    Raises:
        UsageError: there is none, or it is damaged, beyond the limits, or of another version.
    """
    where = one_line(str(path))
    document = read_json(path / _DOCUMENT, LARGEST_JSON)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise UsageError(f"{where} is no bundle: its schema is {shown(found)}, not {SCHEMA!r}.")
    try:
        bundle = Bundle(
            rule=_text(document["rule"]),
            sentence=_text(document["sentence"]),
            where=_text(document["where"]),
            rank=_whole(document["rank"]),
            windows=_list(document["windows"], dict),
            scaler=document["scaler"],
            norms=[float(norm) for norm in document["norms"]],
            loss=_loss(document["loss"]),
            unrecorded=_text(document["unrecorded"]),
            from_bundle=None if document["from"] is None else _text(document["from"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else one_line(str(error), 200)
        raise UsageError(f"{where}: {_DOCUMENT} is damaged: {what}.") from error
    tensors = _tensors(path / _TENSORS, document.get("tensors_sha256")) if bundle.loss is not None else {}
    return Bundle(**{**vars(bundle), "tensors": tensors})


def _loss(found: Any) -> RecordedLoss | None:
    if found is None:
        return None
    conditions = Conditions(**found["conditions"])
    if conditions.device not in ("cpu", "cuda") or conditions.matmul not in ("highest", "high", "medium"):
        raise ValueError("its conditions are none")
    if conditions.autocast not in (None, "float16", "bfloat16") or not 1 <= _whole(conditions.threads) <= 4096:
        raise ValueError("its conditions are none")
    if not (type(conditions.emulated) is type(conditions.gradients) is bool and isinstance(conditions.torch, str)):
        raise ValueError("its conditions are none")
    if not (isinstance(found["named"], dict) and all(type(name) is str for name in found["named"])):
        raise ValueError("the arguments' names are none")
    root = found["root"]
    return RecordedLoss(
        name=_text(found["name"]),
        root=None if root is None else _text(root),
        subject=found["subject"],
        inputs=_list(found["inputs"], object),
        named=found["named"],
        value=_number(found["value"]),
        low=None if found["low"] is None else _number(found["low"]),
        high=None if found["high"] is None else _number(found["high"]),
        conditions=conditions,
    )


def _number(found: Any) -> float:
    return float.fromhex(found["hex"])


def _text(found: Any) -> str:
    if not isinstance(found, str) or not is_name(found):
        raise ValueError(f"{shown(found)} is no text of one line")
    return found


def _whole(found: Any) -> int:
    if type(found) is not int or found < 0:
        raise ValueError(f"{shown(found)} is no whole number from 0 up")
    return found


def _list(found: Any, kind: type) -> list[Any]:
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise ValueError(f"{shown(found)} is no list of such values")
    return found


def _tensors(path: Path, checksum: Any) -> dict[str, Tensor]:
    where = one_line(str(path))
    if checksum is None:
        return {}
    data = read_bytes(path, LARGEST_TENSORS)
    if hashlib.sha256(data).hexdigest() != checksum:
        raise UsageError(f"{where} has another checksum than {_DOCUMENT} states: the bundle is damaged.")
    if int.from_bytes(data[:8], "little") > _LARGEST_HEADER:
        raise UsageError(f"{where} is no safetensors file: its header is too long.")
    try:
        with contextlib.suppress(RecursionError):
            tensors = safetensors.torch.load(data)
            if len(tensors) <= MOST_TENSORS:
                return tensors
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{where} is no safetensors file: {one_line(str(error), 200)}.") from error
    raise UsageError(f"{where} has more than {MOST_TENSORS} tensors, which is the most that is read.")
