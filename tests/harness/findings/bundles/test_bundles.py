"""Bundles: whole or absent, read within limits, and losses that come back as they were."""

from __future__ import annotations

import enum
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.cli.main import main
from harness.errors import ExitCode, UsageError
from harness.findings.bundles import bundle as bundle_module
from harness.findings.bundles.bundle import Bundle, Conditions, RecordedLoss, read_bundle
from harness.findings.bundles.replay import Replayer
from harness.findings.bundles.shrink import shrink
from harness.findings.bundles.values import Decoder, Encoder, UnrecordableError
from harness.subjects.known_bad.losses import LossBeforeFix
from harness.watching.import_paths import ImportPaths

CPU = Conditions("cpu", None, False, True, 1, "highest", torch.__version__)
BFLOAT16 = Conditions("cpu", "bfloat16", True, True, 1, "highest", torch.__version__)


class Kind(enum.Enum):
    ONE = 1


@dataclass(frozen=True)
class Settings:
    weight: float
    kind: Kind


class Loss(nn.Module):
    """With a bit of everything that a loss may keep."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.settings = Settings(weight, Kind.ONE)
        self.inner = nn.Conv2d(3, 1, 3)
        self.register_buffer("scale", torch.tensor(0.1, dtype=torch.float64), persistent=False)
        self.names, self.of = ("a", None, True, {"b": [2.5, -3]}), torch.nn.functional.mse_loss

    def forward(self, x: torch.Tensor, y: torch.Tensor, *, factor: float = 1.0) -> torch.Tensor:
        assert self.names[3] == {"b": [2.5, -3]}
        value = self.of(self.inner(x), self.inner(y)) * self.settings.weight * factor
        return value * self.scale.to(value.dtype) - 0.75


def bundle_of(loss: Any, *inputs: Any, conditions: Conditions = CPU, low: float | None = 0.0, **named: Any) -> Bundle:
    """What a watch writes of a call."""
    paths = ImportPaths()
    encoder = Encoder(paths.of, 2**26)
    recorded = RecordedLoss(
        paths.of(type(loss)), None, encoder.value(loss, "loss"), [encoder.value(x, "x") for x in inputs],
        {name: encoder.value(x, name) for name, x in named.items()}, 0.0, low, None, conditions,
    )  # fmt: skip
    bundle = Bundle("loss-range", "train.py:3: it is negative", "train.py:3", loss=recorded, tensors=encoder.tensors)
    value = Replayer(bundle, "bundle", load=paths.known.__getitem__).run().value
    return Bundle(**{**vars(bundle), "loss": RecordedLoss(**{**vars(recorded), "value": value})})


def images(height: int = 12, width: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, height, width, generator=generator)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_(), x * 0.5


def test_a_loss_comes_back_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    loss, (x, y) = Loss(1.7), images()
    bundle_of(loss, x, y, factor=1.5).write(tmp_path / "b")
    read = read_bundle(tmp_path / "b")
    again = Replayer(read, "b").run()
    assert again.same
    assert again.value == loss(x, y, factor=1.5).item() < 0
    assert again.violation == "is under 0"
    node = read.loss.inputs[0] if read.loss else None
    back = Decoder(lambda path: None, read.tensors, "b").value(node)
    assert back.requires_grad
    assert (back.stride(), back.shape) == (x.stride(), x.shape)
    assert (read.rule, read.where) == ("loss-range", "train.py:3")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda loss: setattr(loss, "call", lambda: 0), "Loss.call: .* made inside a function"),
        (lambda loss: setattr(loss, "file", sys.stderr), r"Loss\.file is of _io\.|Loss\.file is of "),
        (lambda loss: loss.register_forward_hook(print), "Loss has hooks"),
        (lambda loss: setattr(loss, "number", 2**70), "beyond 64 bits"),
        (lambda loss: loss.register_buffer("large", torch.zeros(2**24 + 1)), "more bytes than a bundle may"),
        (lambda loss: loss.register_buffer("sparse", torch.eye(2).to_sparse()), "no plain dense tensor"),
    ],
)
def test_what_can_not_be_recorded_says_why(spoil: Any, said: str) -> None:
    loss = Loss(1.0)
    spoil(loss)
    with pytest.raises(UnrecordableError, match=said):
        Encoder(ImportPaths().of, 2**26).value(loss, "Loss")


def _edited(path: Path, **fields: Any) -> None:
    document = json.loads((path / "bundle.json").read_text())
    document.update(fields)
    (path / "bundle.json").write_text(json.dumps(document))


def _edited_loss(path: Path, **fields: Any) -> None:
    document = json.loads((path / "bundle.json").read_text())
    document["loss"].update(fields)
    (path / "bundle.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda p: (p / "bundle.json").write_text("{"), ExitCode.USAGE, "is not valid JSON"),
        (lambda p: _edited(p, schema="harness-bundle/9"), ExitCode.USAGE, "is no bundle: its schema is"),
        (lambda p: _edited(p, rank="one"), ExitCode.USAGE, "is no whole number"),
        (lambda p: _edited(p, windows=3), ExitCode.USAGE, "is no list"),
        (lambda p: _edited_loss(p, conditions={}), ExitCode.USAGE, "bundle.json is damaged"),
        (lambda p: _edited_loss(p, conditions={**vars(CPU), "gradients": "on"}), ExitCode.USAGE, "conditions are none"),
        (lambda p: _edited_loss(p, conditions={**vars(CPU), "torch": 2}), ExitCode.USAGE, "conditions are none"),
        (lambda p: _edited_loss(p, value=None), ExitCode.USAGE, "bundle.json is damaged"),
        (lambda p: _edited_loss(p, inputs=[{"pickle": "x"}]), ExitCode.USAGE, "is no value of a bundle"),
        (lambda p: _edited_loss(p, inputs=[{"tensor": "99", "gradient": True}]), ExitCode.USAGE, "is no value"),
        (lambda p: _edited_loss(p, subject={"module": "os:system"}), ExitCode.SUBJECT, "os:system is no class of"),
        (lambda p: _edited_loss(p, subject={"function": "no.such:x"}), ExitCode.SUBJECT, "'no' is missing"),
        (lambda p: _edited_loss(p, subject=3), ExitCode.USAGE, "its loss can't be called"),
        (lambda p: (p / "tensors.safetensors").write_bytes(b"12345678"), ExitCode.USAGE, "another checksum"),
        (lambda p: (p / "tensors.safetensors").unlink(), ExitCode.USAGE, "can't be read"),
    ],
)  # fmt: skip
def test_a_damaged_bundle_is_refused_in_one_sentence(
    damage: Any, code: ExitCode, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b"
    bundle_of(LossBeforeFix(), *images(), torch.ones(2, 1, 12, 13)).write(path)
    damage(path)
    for command in (["replay", str(path)], ["shrink", str(path)]):
        assert main(command) == code
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1


def test_tensors_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_of(LossBeforeFix(), *images(), torch.ones(2, 1, 12, 13)).write(tmp_path / "b")
    monkeypatch.setattr(bundle_module, "LARGEST_TENSORS", 100)
    with pytest.raises(UsageError, match="at most 100 are read"):
        read_bundle(tmp_path / "b")


def test_a_bundle_without_a_loss_is_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Bundle("scaler-protocol", "train.py:3: twice", unrecorded="it has hooks").write(tmp_path / "b")
    assert main(["replay", str(tmp_path / "b")]) == ExitCode.USAGE
    assert "holds no call of a loss that could be run again: it has hooks" in capsys.readouterr().err


class FirstRow(nn.Module):
    """NaN where the top left corner is over 0.9, or there is no corner for it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[..., 0, 0] > 0.9, torch.nan, 0.0).sum() if x.shape[-1] > 4 else x.sum() * 0


def test_shrinking_keeps_what_goes_wrong() -> None:
    x = torch.zeros(3, 3, 64, 48)
    x[2, 1, 37, 22] = 1.0
    bundle = bundle_of(FirstRow(), x)
    with pytest.raises(UsageError, match="which is right: nothing to shrink"):
        shrink(bundle, Replayer(bundle, "b"), "b")
    x[2, 1, 0, 0] = 1.0
    bundle = bundle_of(FirstRow(), x)
    found = shrink(bundle, Replayer(bundle, "b"), "b")
    assert (found.piece.image, found.piece.top, found.piece.left) == (2, 0, 0)
    assert (found.piece.height, found.piece.width) == (2, 5)
    assert found.is_small
    assert found.bundle.tensors["0"].shape == (1, 3, 2, 5)
    assert Replayer(found.bundle, "small").run().violation == "is not finite"


_WRITER = """
import os, signal, sys
from pathlib import Path
import torch
from harness.findings.bundles.bundle import Bundle, Conditions, RecordedLoss
where, folder = sys.argv[1], Path(sys.argv[2])
conditions = Conditions("cpu", None, False, True, 1, "highest", "")
loss = RecordedLoss("a:b", None, None, [], {}, 0.0, None, None, conditions)
bundle = Bundle("r", "s", loss=loss, tensors={"0": torch.rand(500_000)})
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if where == "tensors": Path.write_bytes = kill
if where == "document": Path.write_text = kill
if where == "move": os.rename = kill
print("ready", flush=True)
number = 0
while True:
    bundle.write(folder / f"b{number:06d}")
    number += 1
"""


@pytest.mark.parametrize("where", ["tensors", "document", "move", "anywhere"])
def test_a_bundle_survives_a_kill_whole_or_is_absent(where: str, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, where, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if where == "anywhere":
        while not (tmp_path / "b000003").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()
    paths = bundle_module.bundles_in(tmp_path)
    assert len(paths) > 3 if where == "anywhere" else not paths
    for path in paths:
        assert read_bundle(path).tensors["0"].shape == (500_000,)
    unfinished = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert where == "anywhere" or len(unfinished) == 1
    # Who writes next clears up.
    Bundle("r", "s").write(tmp_path / "next")
    assert sorted(tmp_path.iterdir()) == sorted([*paths, tmp_path / "next"])


def test_what_is_being_written_by_another_process_is_left(tmp_path: Path) -> None:
    (tmp_path / f".b.{os.getppid()}.tmp").mkdir()
    Bundle("r", "s").write(tmp_path / "next")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_document_drops_the_oldest_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "LARGEST_JSON", 2000)
    Bundle("r", "s", windows=[{"number": n, "text": "x" * 300} for n in range(9)]).write(tmp_path / "b")
    assert read_bundle(tmp_path / "b").windows[-1]["number"] == 8
    assert 0 < len(read_bundle(tmp_path / "b").windows) < 9


def test_another_precision_and_gpu_less_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = images()
    bundle = bundle_of(LossBeforeFix(), x, x + 0.001, torch.ones(2, 1, 12, 13), conditions=BFLOAT16)
    own = Replayer(bundle, "b").run()
    assert (own.precision, own.same) == ("cuda-policy-bfloat16", True)
    assert Replayer(bundle, "b", "float32").run().value != own.value
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bundle.loss is not None
    on_gpu = Conditions(**{**vars(BFLOAT16), "device": "cuda", "emulated": False})
    moved = Bundle(**{**vars(bundle), "loss": RecordedLoss(**{**vars(bundle.loss), "conditions": on_gpu})})
    assert Replayer(moved, "b").run().precision == "cuda-policy-bfloat16"
