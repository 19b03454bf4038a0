"""This project's own training, rehearsed as it is, and with faults planted into a copy of its step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gslrm.data.synthetic import synthetic_scene
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import Rehearsal, rehearse

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "model.image_tokenizer.image_size": 8,
    "model.image_tokenizer.patch_size": 8,
    "model.transformer.d": 32,
    "model.transformer.d_head": 16,
    "model.transformer.n_layer": 1,
    "model.gaussians.n_gaussians": 1,
    "training.losses.ssim_loss_weight": 0,
    "training.dataset.num_views": 2,
    "training.dataset.num_input_views": 1,
    "training.schedule.warmup": 3,
}

Train = Callable[..., Rehearsal]


@pytest.fixture
def train(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Rehearses ``python -m gslrm.train``, that of the folder ``root``."""

    def train(root: Path, *faults: Fault, resume_with: str | None = None) -> Rehearsal:
        monkeypatch.chdir(root)
        synthetic_scene(2, 8, folder=tmp_path / "scene")
        arguments = ["--scene", str(tmp_path / "scene"), "--out", str(tmp_path / "out"), "--amp", "fp16"]
        arguments += ["--steps", "1000", "--checkpoint-every", "5", "--device", "cpu"]
        for name, value in SETTINGS.items():
            arguments += ["--set", f"{name}={value}"]
        script = Script(module="gslrm.train", arguments=tuple(arguments))
        return rehearse(
            script,
            faults or tuple(Fault),
            pretend_cuda=False,
            budget=300.0,
            processes=processes,
            resume_with=resume_with,
        )

    return train


def _line(file: str, words: str) -> str:
    lines = (ROOT / "gslrm" / file).read_text().splitlines()
    return f"{file}:{next(n for n, line in enumerate(lines, 1) if words in line)}"


def test_it_is_acquitted(train: Train) -> None:
    rehearsal = train(ROOT)
    assert rehearsal.findings == []
    assert rehearsal.refused == {}
    table = dict(rehearsal.table)
    passes = _line("training/amp_step.py", "self.fwdbwd_pass_step += 1")
    windows = _line("train.py", "window = step.fwdbwd_pass_step")
    assert table.pop("gradients")  # whether any norm reaches the limit is the training's matter
    assert table == {
        "autocast": "float16",
        "a gradient scaler": "on",
        "backward passes in a window": "1",
        "optimizers": "1",
        "a NaN loss": "drops the window",
        "an infinite loss": "drops the window",
        "gradients that overflow half precision": "drops the window",
        "NaN in one group's gradients": "drops the window",
        "infinity in one group's gradients": "drops the window",
        "a huge, finite norm": "drops the window",
        "no gradients at all": "drops the window",
        "an output that explodes": "steps",
        "a NaN in the batch": "drops the window",
        "the schedule on a skipped step": "holds",
        "counters on a skipped step": f"advance: self.step.fwdbwd_pass_step ({passes}), window ({windows}); "
        "hold: self.step.param_update_step, update",
        "the scaler in a checkpoint": "saved",
    }


def test_a_killed_one_goes_on(train: Train) -> None:
    rehearsal = train(ROOT, Fault.NAN_GRADIENT, resume_with="--resume")
    assert rehearsal.findings == []
    table = dict(rehearsal.table)
    assert table["started again after a kill"] == "goes on as it was"
    assert "begin elsewhere" not in table["counters after a resume"]


def test_a_resume_that_forgets_the_scaler(train: Train, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gslrm", tmp_path / "gslrm", ignore=shutil.ignore_patterns("__pycache__"))
    step = tmp_path / "gslrm" / "training" / "amp_step.py"
    text = step.read_text()
    taken_up = 'self.scaler.load_state_dict(state["scaler"])'
    assert text.count(taken_up) == 1
    step.write_text(text.replace(taken_up, "pass"))
    (found,) = train(tmp_path, Fault.NAN_GRADIENT, resume_with="--resume").findings
    assert found.rule == "resume-goes-on"
    assert "the scaler's scale is 65536 after a resume, and was " in found.sentence


NO_UPDATE = (
    "            self.scaler.update()\n            return self._skipped(SkipReason.NONFINITE_GRADIENTS, norm)\n",
    "            return self._skipped(SkipReason.NONFINITE_GRADIENTS, norm)\n",
)
NO_GUARD = ("        if nothing_to_do:\n", "        if nothing_to_do and not gradients and False:\n")
NO_NORM = ("norm = _total_norm(gradients)", "norm = _total_norm(gradients) if gradients else 0.0")


@pytest.mark.parametrize(
    ("edits", "fault", "line", "said"),
    [
        pytest.param(
            [NO_UPDATE],
            Fault.NAN_GRADIENT,
            "self.scaler.unscale_(self.optimizer)",
            "RuntimeError: unscale_() has already been called on this optimizer since the last update().",
            id="skips without an update",
        ),
        pytest.param(
            [NO_GUARD, NO_NORM],
            Fault.NO_GRADIENT,
            "self.scaler.step(self.optimizer)",
            "AssertionError: No inf checks were recorded for this optimizer.",
            id="steps without gradients",
        ),
    ],
)
def test_planted_into_its_step(
    edits: list[tuple[str, str]], fault: Fault, line: str, said: str, train: Train, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "gslrm", tmp_path / "gslrm", ignore=shutil.ignore_patterns("__pycache__"))
    step = tmp_path / "gslrm" / "training" / "amp_step.py"
    text = step.read_text()
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    step.write_text(text)
    number = next(n for n, words in enumerate(text.splitlines(), 1) if words.strip() == line)
    (raised,) = [one for one in train(tmp_path, fault).findings if one.rule == "never-raises"]
    assert (raised.where, raised.fault) == (f"training/amp_step.py:{number}", fault.value)
    assert raised.sentence == f"training/amp_step.py:{number}: {said}"
