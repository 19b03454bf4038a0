"""Damaged files are one clear sentence; an update is all or nothing, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from harness.cli.main import main
from harness.errors import ExitCode, UsageError
from harness.goldens.checking import check
from harness.goldens.folder import GoldenFolder
from harness.goldens.golden_file import arrays_path
from harness.goldens.recording import update
from harness.goldens.store import GoldenStore
from tests.harness.goldens.suites import make_suite, move, recorded_goldens

ROOT = Path(__file__).resolve().parents[3]


def _edit(path: Path, change: Callable[[dict], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _resave(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Other arrays under a checksum that fits them."""
    import hashlib

    arrays = safetensors.torch.load_file(arrays_path(path))
    change(arrays)
    data = safetensors.torch.save(arrays)
    arrays_path(path).write_bytes(data)
    _edit(path, lambda d: d.update(arrays_sha256=hashlib.sha256(data).hexdigest()))


def _terms(document: dict) -> dict:
    return document["recorded"]["float32"]["terms"]


def _flip_a_byte(path: Path) -> None:
    data = bytearray(arrays_path(path).read_bytes())
    data[-1] ^= 1
    arrays_path(path).write_bytes(bytes(data))


KEY = "recorded/float32/gradient"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "bad JSON": (lambda p: p.write_text(p.read_text()[:-20]), "not valid JSON"),
    "bad text": (lambda p: p.write_bytes(b"\xff\xfe\x00"), "not UTF-8 text"),
    "no object": (lambda p: p.write_text("[]"), "schema must be text"),
    "other schema": (lambda p: _edit(p, lambda d: d.update(schema="harness-golden/9")), "schema 'harness-golden/9'"),
    "wrong checksum": (_flip_a_byte, "another checksum"),
    "no arrays": (lambda p: arrays_path(p).unlink(), "is missing"),
    "missing tensor": (lambda p: _resave(p, lambda a: a.pop(KEY)), "lacks"),
    "other shape": (lambda p: _resave(p, lambda a: a.update({KEY: torch.zeros(2, 2)})), "of shape .2, 2., not .3, 4."),
    "no safetensors": (
        lambda p: (
            arrays_path(p).write_bytes(b"x"),
            _edit(
                p,
                lambda d: d.update(arrays_sha256="2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
            ),
        ),
        "no safetensors file",
    ),
    "malformed hex": (lambda p: _edit(p, lambda d: _terms(d)["value"].update(hex="0xzz")), "malformed number"),
    "hex against decimal": (lambda p: _edit(p, lambda d: _terms(d)["value"].update(decimal=2.0)), "in hex but 2.0"),
    "lists of two lengths": (lambda p: _edit(p, lambda d: _terms(d)["series"]["hex"].pop()), "as many hex numbers"),
    "no provenance": (
        lambda p: _edit(p, lambda d: d["recorded"]["float32"].pop("provenance")),
        "provenance must be an object",
    ),
    "another's name": (lambda p: _edit(p, lambda d: d.update(name="z")), "holds the golden 'z'"),
    "malformed tolerance": (
        lambda p: _edit(p, lambda d: d["recorded"]["float32"]["tolerances"]["value"].update(x=1)),
        "tolerance of value is malformed",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_sentence_and_exit_code_2(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = recorded_goldens(tmp_path)
    change, message = DAMAGES[damage]
    change(goldens.store.path("a"))
    with pytest.raises(UsageError, match=message):
        list(check(goldens))
    assert main(["golden", "check", "--golden-dir", str(tmp_path / "golden")]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1, "one sentence"
    assert "Traceback" not in error


def test_an_update_writes_over_damage(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    _flip_a_byte(goldens.store.path("a"))
    assert update(goldens, "the file was damaged").written == ("a",)
    assert {outcome.status.value for outcome in check(goldens)} == {"passed"}


def _values(store: GoldenStore) -> list[float]:
    goldens = [store.read(name) for name in store.names()]
    return [g.recorded["float32"].terms["value"].values[0] for g in goldens if g is not None]  # type: ignore[union-attr]


@pytest.fixture
def generations(tmp_path: Path) -> tuple[Path, Path]:
    """A folder recorded at shift 0, and the recorded folder at shift 1."""
    folder = make_suite(tmp_path)
    goldens = GoldenFolder(folder)
    update(goldens, "old")
    old = shutil.copytree(folder / "recorded", tmp_path / "old")
    move(tmp_path, 1.0)
    update(goldens, "new")
    new = (folder / "recorded").rename(tmp_path / "new")
    shutil.move(old, folder / "recorded")
    return folder, new


def test_killed_while_writing_leaves_all_old(generations: tuple[Path, Path]) -> None:
    folder, new = generations
    (folder / "recorded.next").mkdir()
    shutil.copy(new / "a.json", folder / "recorded.next")
    assert _values(GoldenStore(folder)) == [1.0, 1.0]
    assert not (folder / "recorded.next").exists()


def test_killed_between_the_moves_leaves_all_new(generations: tuple[Path, Path]) -> None:
    folder, new = generations
    shutil.copytree(new, folder / "recorded.next")
    os.rename(folder / "recorded", folder / "recorded.past")
    assert _values(GoldenStore(folder)) == [2.0, 2.0]
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "recorded", "suite.toml"]


def test_killed_after_the_moves_leaves_all_new(generations: tuple[Path, Path]) -> None:
    folder, new = generations
    os.rename(folder / "recorded", folder / "recorded.past")
    shutil.copytree(new, folder / "recorded")
    assert _values(GoldenStore(folder)) == [2.0, 2.0]
    assert not (folder / "recorded.past").exists()


def test_an_update_that_raises_leaves_all_old(generations: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = generations

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.goldens.store._flush", full)
    with pytest.raises(OSError, match="No space"):
        update(GoldenFolder(folder), "new")
    assert _values(GoldenStore(folder)) == [1.0, 1.0]


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from harness.goldens.folder import GoldenFolder
from harness.goldens.recording import update
from harness.goldens.store import GoldenStore

folder, names = Path(sys.argv[1]), set(sys.argv[2].split(","))
random.seed(0)
generation, states = 0, {}
update(GoldenFolder(folder), "first")
for trial in range(50):
    child = os.fork()
    if child == 0:
        goldens = GoldenFolder(folder)
        while True:
            generation += 1
            (folder.parent / "shift.txt").write_text(str(generation))
            update(goldens, f"generation {generation}")
    # Half of the kills at any moment, half once an update has begun to write, however busy the machine is.
    time.sleep(0.01 + 0.08 * random.random())
    deadline = time.monotonic() + 5.0
    while trial % 2 and not (folder / "recorded.next").exists() and time.monotonic() < deadline:
        time.sleep(0.0002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left = tuple(sorted(p.name for p in folder.glob("recorded*")))
    states[left] = states.get(left, 0) + 1
    store = GoldenStore(folder)
    goldens = [store.read(name) for name in store.names()]
    assert {g.name for g in goldens} == names, [g.name for g in goldens]
    found = {g.recorded["float32"].terms["value"].values for g in goldens}
    reasons = {g.recorded["float32"].provenance["reason"] for g in goldens}
    assert len(found) == 1 and len(reasons) == 1, (trial, found, reasons)
    assert not list(folder.glob("recorded.*")), "nothing is left lying about"
    generation = int(next(iter(found))[0]) + 1000
print(states)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_fifty_kills_never_leave_a_mixed_state(tmp_path: Path) -> None:
    names = tuple(f"golden-{k}" for k in range(12))
    folder = make_suite(tmp_path, names)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), ",".join(names)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "recorded.next" in done.stdout, f"no kill fell into an update: {done.stdout}"
