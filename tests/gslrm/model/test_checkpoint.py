"""Checkpoints: round trips, files of others, damage, and interrupted writes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import gslrm.model.checkpoint as module
from gslrm.config import load_config
from gslrm.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from gslrm.model.gslrm import GSLRM

TINY = load_config("tiny").model


class Callers:
    """Unpickled with its code run, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def same(a: GSLRM, b: GSLRM) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_training_run_comes_back(tmp_path: Path) -> None:
    model = GSLRM(TINY, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    schedule.step()
    extra = {
        "scaler": {"scale": 1024.0, "_growth_tracker": 3},
        "rng": torch.get_rng_state(),
        "names": ["a", ("b", None)],
        "kinds": OrderedDict(dtype=torch.bfloat16, counts=Counter(x=2), raw=b"1"),
    }
    saved = Checkpoint(model.state_dict(), optimizer.state_dict(), schedule.state_dict(), 7, 5, extra)
    save_checkpoint(tmp_path / "a.pt", saved)
    read = read_checkpoint(tmp_path / "a.pt")
    fresh = GSLRM(TINY, seed=2)
    assert not same(model, fresh)
    load_weights(fresh, read.model)
    assert same(model, fresh)
    assert (read.fwdbwd_pass_step, read.param_update_step) == (7, 5)
    assert read.lr_scheduler == schedule.state_dict()
    assert read.optimizer is not None
    assert read.optimizer["param_groups"] == optimizer.state_dict()["param_groups"]
    torch.testing.assert_close(read.optimizer["state"], optimizer.state_dict()["state"], rtol=0, atol=0)
    assert torch.equal(read.extra.pop("rng"), extra.pop("rng"))  # type: ignore[attr-defined]
    assert read.extra == extra


def test_the_file_has_the_public_entries(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", Checkpoint({"w": torch.ones(1)}, extra={"scaler": {}}))
    entries = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(entries) == [
        "model",
        "optimizer",
        "lr_scheduler",
        "fwdbwd_pass_step",
        "param_update_step",
        "scaler",
    ]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_names_that_wrappers_give_are_understood(tmp_path: Path, prefix: str) -> None:
    model = GSLRM(TINY, seed=1)
    torch.save({"model": {prefix + k: v for k, v in model.state_dict().items()}}, tmp_path / "a.pt")
    fresh = GSLRM(TINY)
    load_weights(fresh, read_checkpoint(tmp_path / "a.pt").model)
    assert same(model, fresh)


def test_a_prefix_that_not_all_names_have_is_kept(tmp_path: Path) -> None:
    torch.save({"model": {"module.a": torch.ones(1), "b": torch.ones(1)}}, tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt").model) == ["module.a", "b"]


def test_bare_weights_and_safetensors_are_read(tmp_path: Path) -> None:
    model = GSLRM(TINY, seed=1)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        fresh, read = GSLRM(TINY), read_checkpoint(tmp_path / name)
        load_weights(fresh, read.model)
        assert same(model, fresh)
        assert (read.optimizer, read.param_update_step) == (None, 0)


def test_a_mismatch_lists_all_that_differs_and_changes_nothing() -> None:
    model, weights = GSLRM(TINY), GSLRM(TINY, seed=1).state_dict()
    weights["patch_embedder.0.weight"] = weights.pop("patch_embedder.1.weight")
    weights["gaussian_upsampler.linear.weight"] = torch.ones(14, 3)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, weights, "old.pt")
    assert str(caught.value) == (
        "old.pt: does not fit the model: 1 missing: patch_embedder.1.weight; 1 unexpected: patch_embedder.0.weight; "
        "1 of another shape: gaussian_upsampler.linear.weight (14, 3), expected (14, 64)"
    )
    assert same(model, GSLRM(TINY))


def test_long_lists_of_differences_are_cut() -> None:
    with pytest.raises(CheckpointError, match=r"19 missing: (\S+, ){7}\S+ and 11 more$"):
        load_weights(GSLRM(TINY), {})


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "a.pt"
    writers: list[Callable[[], Any]] = [
        lambda: torch.save({"model": Callers(made)}, path),
        lambda: torch.save(nn.Linear(2, 2), path),
    ]
    for write in writers:
        write()
        with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint .* and would run code$"):
            read_checkpoint(path)
    # What torch wrote before 1.6 is a pickle alone.
    path.write_bytes(pickle.dumps({"model": Callers(made)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint .*no zip archive"):
        read_checkpoint(path)
    assert not made.exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, Checkpoint({"w": torch.ones(50)}))
    whole = path.read_bytes()
    for length in [0, 1, *range(10, len(whole), 53), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint that can be read: \S"):
            read_checkpoint(path)
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            said = str(error)
            assert "a.pt" in said
            assert "\n" not in said
    (tmp_path / "a.safetensors").write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: not a checkpoint"):
        read_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint file"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list, expected a checkpoint's entries by name"),
        ({}, "has no entry 'model', only nothing"),
        ({"weights": {}}, "has no entry 'model', only weights"),
        ({"model": {}}, "model holds no weights"),
        ({"model": {"a": 1}}, "model entry 'a' is a int, no tensor"),
        ({"model": {"a": torch.ones(1)}, "optimizer": 3}, "optimizer is a int, expected a state dict"),
        ({"model": {"a": torch.ones(1)}, "param_update_step": -1}, "param_update_step is -1, expected a count"),
    ],
)
def test_files_of_other_things_are_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt: {message}"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"a": {"b": [1, lambda: 0]}}, r"a\.b\[1\] is a function"),
        ({"a": np.float32(1)}, "a is a float32"),
        ({"a": Path("x")}, "a is a PosixPath"),
        ({"model": 1}, "extra holds model"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, extra: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "a.pt", Checkpoint({"w": torch.ones(1)}, extra=extra))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, Checkpoint({"w": torch.ones(1)}, param_update_step=1))

    def full_disk(entries: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, Checkpoint({"w": torch.zeros(1)}, param_update_step=2))
    assert read_checkpoint(path).param_update_step == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_on_the_disk_before_it_replaces_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (done.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    save_checkpoint(tmp_path / "a.pt", Checkpoint({"w": torch.ones(1)}))
    assert done == ["fsync", "replace", "fsync"]


_WRITER = """
import sys, torch
from gslrm.model.checkpoint import Checkpoint, save_checkpoint
step = 0
while True:
    step += 1
    save_checkpoint(sys.argv[1], Checkpoint({"w": torch.full((500_000,), float(step))}, param_update_step=step))
    print(step, flush=True)
"""


def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for delay in (0.0, 0.003, 0.007):
        command = [sys.executable, "-c", _WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            written = int(process.stdout.readline())
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        read = read_checkpoint(path)
        assert read.param_update_step >= written
        assert (read.model["w"] == read.param_update_step).all()
    save_checkpoint(path, read)
    assert list(tmp_path.iterdir()) == [path]
