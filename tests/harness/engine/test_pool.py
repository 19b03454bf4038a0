from __future__ import annotations

from pathlib import Path

from harness.config import Settings
from harness.engine.plan import SubjectKind, plan
from harness.engine.pool import _groups, run_pooled
from harness.engine.result import Status
from harness.findings.recorder import CaseRecorder
from harness.properties import RANKS_AGREE

_BOTH = (SubjectKind.LOSS, SubjectKind.STEP)


def test_one_process_takes_a_property_or_of_a_training_a_precision() -> None:
    tasks = plan(_BOTH, ("range", "counters", "scale", RANKS_AGREE.name), ("float32", "cpu-autocast-float16"))
    fed = [{(task.property, task.precision) for task in group} for group in _groups(tasks, training=False)]
    precisions = ("float32", "cpu-autocast-float16")
    assert fed == [{(name, p) for p in precisions} for name in ("range", "counters", "scale", RANKS_AGREE.name)]
    training = [{(task.property, task.precision) for task in group} for group in _groups(tasks, training=True)]
    assert training == [
        *({(name, p) for name in ("counters", "scale")} for p in precisions),
        *({(name, p) for p in precisions} for name in ("range", RANKS_AGREE.name)),
    ]


def test_results_come_in_the_plans_order(tmp_path: Path) -> None:
    step = "gslrm.training.tiny_training:TinyTraining"
    settings = Settings(step=step, max_examples=2, workers=2, cases_dir=str(tmp_path))
    tasks = plan((SubjectKind.STEP,), ("counters", "scale"), ("cpu-autocast-float16", "float32"))
    results = run_pooled(settings, tasks, lambda _: None, CaseRecorder(settings))
    assert tuple(result.task for result in results) == tasks
    assert {result.status for result in results} == {Status.HELD}
