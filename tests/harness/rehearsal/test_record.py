"""What a run's process writes, and what is read of it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.files import json_value
from harness.rehearsal.processes import read_run
from harness.rehearsal.record import Call, Did, Window


def _line(window: Window) -> str:
    return json.dumps({"window": json_value(window.as_json())}, allow_nan=False) + "\n"


def test_a_window_comes_back_as_it_was() -> None:
    calls = [
        Call(Did.BACKWARD, "train.py:3", value=float("inf")),
        Call(Did.CLIP, "train.py:4", 0, float("-inf"), 1.0, False, {"scaled": True, "by": "norm"}),
        Call(Did.UPDATE, "train.py:6", value=512.0),
    ]
    window = Window("nan-output", calls=calls, forwards=2, backwards=1, moved=[True, False], rates=[[0.1], [0.2, 0.3]])
    window.scale, window.counted, window.averages = 512.0, {"step": 1}, False
    assert Window.from_json(json.loads(_line(window))["window"]) == window


def test_of_a_run_that_was_killed_the_whole_lines_count(tmp_path: Path) -> None:
    window = Window(calls=[Call(Did.UPDATE, "train.py:6", value=512.0)])
    record = tmp_path / "record"
    record.write_text('{"folder": {"path": "/somewhere/"}}\n' + _line(window) + _line(window)[:40])
    run = read_run(record)
    assert run.windows == [window]
    assert run.scaler  # which else its last line says
    assert run.folder == "/somewhere/"
    assert run.ending.refusal == "its process ended without a word"
