"""The readers of bundles: ``replay`` and ``shrink``."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import torch

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cli.main import main as harness
from harness.errors import UsageError
from harness.findings.bundles.bundle import read_bundle
from tests.harness.findings.bundles.test_bundles import bundle_of
from tests.mutated_files import mutations
from tests.mutated_files.reader import Reader, json_mutant, spoiling

_DOCUMENT, _TENSORS = "bundle/bundle.json", "bundle/tensors.safetensors"


def _write(folder: Path) -> None:
    """A call whose value is under a bound that no value reaches, so that it goes wrong as long as it can be run."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 12, 13, generator=generator)
    bundle_of(MaskedSsimLoss(), x, y, (x[:, :1] > 0.5).float(), low=9.0).write(folder / "bundle")


def _spoil(folder: Path, rng: random.Random) -> None:
    """The JSON, or the tensors, mostly under a checksum that is right."""
    if rng.random() < 0.6:
        spoiling(_DOCUMENT, json_mutant)(folder, rng)
        return
    spoiling(_TENSORS, mutations.mutated_safetensors)(folder, rng)
    document, tensors = folder / _DOCUMENT, folder / _TENSORS
    if rng.random() < 0.8 and tensors.is_file() and tensors.stat().st_size:
        checksum = hashlib.sha256(tensors.read_bytes()).hexdigest()
        document.write_text(json.dumps({**json.loads(document.read_text()), "tensors_sha256": checksum}))


def _replay(folder: Path) -> int:
    return harness(["replay", str(folder / "bundle")])


def _shrink(folder: Path) -> int:
    return harness(["shrink", str(folder / "bundle"), "--out", str(folder / "small")])


def _is_read(folder: Path) -> bool:
    """It is well formed, and so its loss may go wrong, as the good one does."""
    try:
        read_bundle(folder / "bundle")
    except UsageError:
        return False
    return True


def bundle_readers() -> list[Reader]:
    """Both."""
    return [
        Reader("bundle", 8, _write, _spoil, _replay, _is_read, good=1),
        Reader("bundle to shrink", 5, _write, _spoil, _shrink),
    ]
