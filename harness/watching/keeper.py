"""Tells of each kind of violation once, and keeps a bundle of it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed
from torch import Tensor

from harness.errors import printable
from harness.files import one_line
from harness.findings.bundles.bundle import Bundle, RecordedLoss
from harness.watching.options import WatchOptions


class Keeper:
    """Of one process.

    Attributes:
        told: the kinds that were told of.
        bundles: what was written.
    """

    def __init__(self, options: WatchOptions) -> None:
        self.told: set[str] = set()
        self.bundles: list[Path] = []
        # The script may change its folder.
        self._folder = Path(options.folder).absolute()
        self._options = options
        self._began = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"

    def is_new(self, kind: str) -> bool:
        """Whether nobody was told of this kind yet."""
        return kind not in self.told

    def tell(
        self,
        kind: str,
        rule: str,
        sentence: str,
        where: str,
        windows: Sequence[Mapping[str, Any]],
        scaler: Mapping[str, Any] | None,
        norms: Sequence[float],
        loss: RecordedLoss | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        unrecorded: str = "",
    ) -> None:
        """Say it on the screen, and write the bundle where there may be one more."""
        self.told.add(kind)
        sentence = one_line(sentence, 900)
        if len(self.bundles) >= self._options.most:
            say(f"{sentence} (no bundle: there are {self._options.most} already)")
            return
        rank = rank_here()
        name = f"{self._began}.rank{rank}.{len(self.bundles) + 1:03d}.{re.sub('[^a-z0-9-]+', '-', rule.lower())}"
        path = self._folder / name
        bundle = Bundle(
            rule, sentence, one_line(where, 900), rank, windows, scaler, norms, loss, one_line(unrecorded, 900),
            tensors or {},
        )  # fmt: skip
        try:
            bundle.write(path)
        except OSError as error:
            say(f"{sentence} (no bundle: {path} {error.strerror or error})")
            return
        self.bundles.append(path)
        aside = f"; the loss could not be recorded: {unrecorded}" if unrecorded else ""
        say(f"{sentence}{aside}; bundle: {_from_here(path)}")


def say(message: str) -> None:
    """One line on the screen, wherever that is now."""
    text = f"harness watch: {printable(message)}"
    try:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=sys.stderr, flush=True)
    except (OSError, ValueError, LookupError, AttributeError):
        return  # there is no screen


def rank_here() -> int:
    """Of this process among those that train together."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0


def _from_here(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except (OSError, ValueError):
        return path
