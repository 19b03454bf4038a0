from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import stack_views
from gslrm.testing.batch_faults import Fault, FaultInjector
from gslrm.testing.train_with_faults import main


def test_the_log_names_each_spoilt_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A training sets it for the whole process; this puts it back.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    scene = tmp_path / "scene"
    views = synthetic_scene(6, 16, folder=scene)
    size, warmup = "model.image_tokenizer.image_size=16", "training.schedule.warmup=1"
    arguments = ["--scene", str(scene), "--steps", "8", "--set", size, "--set", warmup, "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path), "--fault-rate", "0.5", "--fault-seed", "3"]) == 0
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    inject, batch = FaultInjector(0.5, 3), stack_views([views])
    faults = [inject(batch, pass_step)[1] for pass_step in range(8)]
    assert [entry.get("fault") for entry in entries] == faults
    assert 0 < sum(fault is not None for fault in faults) < 8
    unusable = {Fault.NAN_PIXELS.value, Fault.OVERFLOW.value}
    assert unusable & set(faults)
    assert not any(entry["stepped"] for entry in entries if entry.get("fault") in unusable)


def test_a_share_beyond_1_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scene", ".", "--fault-rate", "1.5"]) == 2
    assert "the fault rate is 1.5; it must lie in [0, 1]" in capsys.readouterr().err
