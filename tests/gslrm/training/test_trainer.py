"""Training for real: on a made-up scene, under AMP, with faults, killed, and in two processes."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gslrm.config import Config, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.model.checkpoint import CheckpointError, read_checkpoint
from gslrm.testing.batch_faults import Fault, FaultInjector
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer, make_schedule

ROOT = Path(__file__).resolve().parents[3]
HEAD = ROOT.parent / "shared" / "data" / "facelift_head"


def _config(amp: str = "bf16", **more: Any) -> Config:
    small = {
        "model.image_tokenizer.image_size": 16,
        "training.runtime.use_amp": amp != "fp32",
        "training.runtime.amp_dtype": None if amp == "fp32" else amp,
        "training.schedule.max_fwdbwd_passes": 60,
        "training.schedule.warmup": 5,
    }
    return load_config("tiny", {**small, **more})


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler([synthetic_scene(6, 16)], _config().training.dataset)


@pytest.mark.parametrize("amp", ["fp32", "bf16", "fp16"])
def test_it_learns(sampler: Sampler, amp: str) -> None:
    trainer = Trainer(_config(amp))
    losses = []
    for k in range(60):
        result = trainer.train_step(sampler.batch(k))
        losses.append(float(result.losses.total.detach()))
        assert 0.0 <= float(result.losses.terms["ssim"].detach()) <= 2.0
        trainer.optimizer_step()
    assert sum(losses[-5:]) <= 0.5 * sum(losses[:5])
    assert trainer.step.param_update_step >= 58


def test_faults_never_raise_and_counters_are_exact(sampler: Sampler) -> None:
    trainer = Trainer(_config("fp16"))
    faults = FaultInjector(0.2, seed=1)
    stepped, seen, losses = 0, [], []
    for k in range(60):
        batch, fault = faults(sampler.batch(k), k)
        result = trainer.train_step(batch)
        outcome = trainer.optimizer_step()
        assert outcome is not None
        stepped += outcome.stepped
        seen.append(fault)
        if fault is None:
            losses.append(float(result.losses.total.detach()))
        if fault in (Fault.NAN_PIXELS, Fault.OVERFLOW):
            assert not outcome.stepped
    assert {Fault.NAN_PIXELS, Fault.OVERFLOW} <= set(seen)
    assert trainer.step.param_update_step == stepped == trainer.step.lr_scheduler.last_epoch
    assert trainer.step.fwdbwd_pass_step == 60
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_only_matrices_decay_and_the_schedule_rises_and_falls() -> None:
    trainer = Trainer(_config())
    for group in trainer.step.optimizer.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = make_schedule(optimizer, warmup=5, updates=60)
    factors = [schedule.lr_lambdas[0](k) for k in range(61)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in itertools.pairwise(factors[5:]))
    assert factors[60] == pytest.approx(0.0, abs=1e-12)


def test_batches_depend_on_seed_pass_and_process_alone() -> None:
    scenes = [synthetic_scene(6, 16)]
    config = _config().training.dataset
    one = [Sampler(scenes, config, 1, 0).batch(k).c2w for k in range(6)]
    again = [Sampler(scenes, config, 1, 0).batch(k).c2w for k in reversed(range(6))][::-1]
    other = [Sampler(scenes, config, 1, 1).batch(k).c2w for k in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_files_that_can_not_be_resumed_are_named(tmp_path: Path) -> None:
    trainer = Trainer(_config())
    trainer.save(tmp_path / "whole.pt")
    weights = tmp_path / "weights.pt"
    torch.save({"model": trainer.model.state_dict()}, weights)
    with pytest.raises(CheckpointError, match="no whole training state"):
        trainer.resume(weights)
    with pytest.raises(CheckpointError, match="does not fit"):
        Trainer(_config(**{"model.transformer.n_layer": 1})).resume(tmp_path / "whole.pt")


def _command(out: Path, *more: str) -> list[str]:
    scene = out.parent / "scene"
    if not scene.is_dir():
        synthetic_scene(6, 16, folder=scene)
    return [
        *(sys.executable, "-m", "gslrm.testing.train_with_faults", "--scene", str(scene)),
        *("--steps", "14", "--amp", "fp16"),
        *("--set", "model.image_tokenizer.image_size=16", "--set", "training.runtime.grad_accum_steps=2"),
        *("--set", "training.schedule.warmup=3", "--checkpoint-every", "1", "--out", str(out), "--device", "cpu"),
        *("--fault-rate", "0.2", *more),
    ]


def _one_thread() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_killed_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(_command(whole), check=True, capture_output=True, timeout=150, env=_one_thread())
    moments = random.Random(0)
    log = killed / "log.jsonl"
    for _ in range(3):
        process = subprocess.Popen(
            _command(killed, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_one_thread()
        )
        lines = len(log.read_text().splitlines()) if log.is_file() else 0
        target = lines + moments.randint(2, 9)
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(log.read_text().splitlines()) >= target:
                time.sleep(moments.random() * 0.1)
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        process.wait(timeout=10)
    subprocess.run(_command(killed, "--resume"), check=True, capture_output=True, timeout=150, env=_one_thread())
    one, other = (read_checkpoint(folder / "checkpoint.pt") for folder in (whole, killed))
    assert one.fwdbwd_pass_step == other.fwdbwd_pass_step == 28
    assert one.param_update_step == other.param_update_step
    assert one.extra["scaler"] == other.extra["scaler"]
    assert all(torch.equal(weight, other.model[name]) for name, weight in one.model.items())


_TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch, torch.distributed as dist
from tests.gslrm.training.test_trainer import _config
from gslrm.data.synthetic import synthetic_scene
from gslrm.testing.batch_faults import Fault, spoil
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
trainer = Trainer(_config(sys.argv[3], **{"training.runtime.grad_accum_steps": 2}))
sampler = Sampler([synthetic_scene(6, 16)], trainer.config.training.dataset, 0, rank)
bad = {3: (0, Fault.NAN_PIXELS), 6: (1, Fault.OVERFLOW), 9: (1, Fault.EXPLODING_VIEW)}
seen = []
for k in range(12):
    batch = sampler.batch(k)
    if k in bad and bad[k][0] == rank:
        batch = spoil(batch, bad[k][1])
    trainer.train_step(batch)
    outcome = trainer.optimizer_step()
    if outcome is not None:
        seen.append([outcome.stepped, outcome.reason and outcome.reason.value, outcome.scale])
torch.save([p.detach() for p in trainer.model.parameters()], folder / f"{rank}.pt")
(folder / f"{rank}.json").write_text(json.dumps(seen))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_two_processes_decide_alike_and_none_hangs(tmp_path: Path, amp: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TWO_PROCESSES, str(rank), str(tmp_path), amp],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=_one_thread(),
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    decisions = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert decisions[0] == decisions[1]
    assert [stepped for stepped, _, _ in decisions[0]][:5] == [True, False, True, False, False]
    weights = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scene", "nowhere"], "nowhere"),
        (["--scene", ".", "--steps", "0"], "at least 1"),
        (["--scene", ".", "--set", "training.runtime.sead=1"], "sead"),
        (["--scene", ".", "--preset", "giant"], "giant"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gslrm.train import main

    assert main([*arguments, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom gslrm.train import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_real_head(tmp_path: Path) -> None:
    if not HEAD.is_dir():
        pytest.skip("the real head scene is not beside this checkout (../shared/data/facelift_head)")
    command = [
        sys.executable,
        "-m",
        "gslrm.train",
        "--scene",
        str(HEAD),
        "--steps",
        "60",
        "--amp",
        "bf16",
    ]
    subprocess.run(
        [*command, "--out", str(tmp_path), "--device", "cpu"],
        check=True,
        capture_output=True,
        timeout=200,
        env=_one_thread(),
    )
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(e["l2"] for e in entries[-10:]) <= 0.5 * sum(e["l2"] for e in entries[:10])
    assert all(0.0 <= e["ssim"] <= 2.0 for e in entries)
