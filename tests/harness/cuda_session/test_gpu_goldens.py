"""Recording what only a GPU gives, with a made-up GPU and a subject that doesn't care."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.cuda_session import gpu_goldens
from harness.cuda_session.gpu_goldens import Recording, record_all
from harness.goldens.checking import check
from harness.goldens.folder import GoldenFolder
from harness.goldens.golden_file import GoldenFile
from harness.goldens.outcome import Outcome, Status
from harness.goldens.suite import GoldenSpec
from tests.harness.goldens.suites import make_suite, move, recorded_goldens

BOTH = '["float32", "cuda-float32"]'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite whose entries of the CPU are recorded, on a machine that now gets a GPU and other numbers."""
    # As torch has them: a training in this process may have set them.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recorded_goldens(tmp_path, precisions=BOTH)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "A GPU")
    move(tmp_path, 0.5)
    return tmp_path / "golden"


def test_what_the_gpu_gives_is_recorded_and_what_the_cpu_gave_stays(folder: Path) -> None:
    assert record_all(folder, "on a GPU") == [Recording(name, "cuda-float32", "recorded") for name in "ab"]
    document = json.loads((folder / "recorded" / "a.json").read_text())
    values = {name: entry["terms"]["value"]["decimal"] for name, entry in document["recorded"].items()}
    assert values == {"float32": 1.0, "cuda-float32": 1.5}
    provenance = document["recorded"]["cuda-float32"]["provenance"]
    assert provenance["device"] == "A GPU"
    assert provenance["reason"] == "on a GPU"
    assert provenance["tf32"] == "convolutions"
    assert "cuda" in provenance
    assert "tf32" not in document["recorded"]["float32"]["provenance"]
    assert [r.status for r in record_all(folder, "again")] == ["unchanged", "unchanged"]
    by_precision = {(o.golden, o.precision): o.status for o in check(GoldenFolder(folder))}
    assert by_precision["a", "cuda-float32"] is Status.PASSED
    assert by_precision["a", "float32"] is Status.FAILED  # the subject has moved since


def test_one_that_can_not_be_recorded_costs_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gpu_goldens.record

    def record(goldens: GoldenFolder, spec: GoldenSpec, reason: str) -> tuple[GoldenFile | None, list[Outcome]]:
        golden, refused = whole(goldens, spec, reason)
        if spec.name == "a":
            refused = [Outcome("a", "cuda-float32", Status.FAILED, "1 of 2 terms outside the truth's budget")]
        if spec.name == "b":
            raise RuntimeError("CUDA error: out of memory\nand more")
        return golden, refused

    monkeypatch.setattr(gpu_goldens, "record", record)
    assert record_all(folder, "on a GPU") == [
        Recording("a", "cuda-float32", "refused", "1 of 2 terms outside the truth's budget"),
        Recording("b", "cuda-float32", "raised", "RuntimeError: CUDA error: out of memory"),
    ]
    assert "cuda-float32" not in json.loads((folder / "recorded" / "a.json").read_text())["recorded"]


def test_the_command_records_in_a_copy(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "recorded").iterdir()}
    into, report = tmp_path / "out" / "golden", tmp_path / "out" / "goldens.json"
    arguments = ["--golden-dir", str(folder), "--into", str(into), "--json", str(report)]
    assert gpu_goldens.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in (folder / "recorded").iterdir()} == before
    assert [row["status"] for row in json.loads(report.read_text())] == ["recorded"] * 2
    assert "recorded   a [cuda-float32]" in capsys.readouterr().out
    assert len(list(check(GoldenFolder(into), "a"))) == 2
    assert gpu_goldens.main(["--golden-dir", str(tmp_path / "nowhere"), "--into", str(into)]) == 2


def test_without_a_gpu_nothing_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    golden = make_suite(tmp_path)
    assert gpu_goldens.main(["--golden-dir", str(golden), "--into", str(tmp_path / "out")]) == 6
    assert not (tmp_path / "out").exists()
