"""What is built of a case is built once, and never spoilt by a subject."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind
from harness.cases.loss_inputs import LossInputs
from harness.cases.tensors import build_pair
from harness.oracle.truth import Truth
from harness.precision import precisions_named
from harness.protocols import LossKind
from harness.subject_spec import SubjectSpec
from harness.subjects.loss import load_loss
from harness.trials import known_inputs
from harness.trials.evaluation import Evaluation
from harness.trials.known_inputs import KnownInputs
from harness.trials.loss_trial import LossTrial

_CASE = LossCase(12, 13, mask=Mask(MaskKind.DISC, 40), perturbation=Perturbation(PerturbationKind.NOISE, 0.1))


def test_what_is_handed_out_may_be_written_into() -> None:
    known = KnownInputs(LossKind.MASKED)
    for tensor in known.built(_CASE).tensors():
        tensor.zero_()
    for now, expected in zip(known.built(_CASE).tensors(), build_pair(_CASE).tensors(), strict=True):
        assert torch.equal(now, expected)
        assert now.stride() == expected.stride()


def test_a_truth_is_asked_for_once_for_each_dtype() -> None:
    known, asked = KnownInputs(LossKind.MASKED), []

    def oracle(inputs: LossInputs) -> Truth:
        asked.append(inputs.tensors()[0].dtype)
        return Truth(float(len(asked)), torch.zeros(1))

    dtypes = (torch.float32, torch.float16, torch.float32, torch.float16)
    assert [known.truth(_CASE, "cpu", dtype, oracle).value for dtype in dtypes] == [1.0, 2.0, 1.0, 2.0]
    assert asked == [torch.float32, torch.float16]


def test_no_more_is_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 20×20 pixels, two images and a mask.
    monkeypatch.setattr(known_inputs, "_MOST_BYTES", 5 * 7 * 20 * 20 * 4)
    known = KnownInputs(LossKind.MASKED)
    cases = [LossCase(20, 20, seed=seed) for seed in range(20)]
    for case in cases:
        known.built(case)
    kept = known._known
    assert len(kept) == 5
    assert list(kept) == cases[-len(kept) :]
    # One that is larger than all that may be kept is kept while it is judged.
    known.built(large := LossCase(200, 200))
    assert list(kept) == [large]


def test_truths_and_evaluations_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = torch.zeros(1, 3, 20, 20, dtype=torch.float64)
    monkeypatch.setattr(known_inputs, "_MOST_BYTES", 7 * 20 * 20 * 4 + 10 * gradient.nbytes)
    known = KnownInputs(LossKind.MASKED)
    first, second = LossCase(20, 20, seed=1), LossCase(20, 20, seed=2)
    known.truth(first, "cpu", torch.float32, lambda inputs: Truth(1.0, gradient))
    for precision in ("one", "two", "three"):
        known.evaluation(first, precision, lambda: Evaluation(1.0, gradient, 1.0))
    assert list(known._known) == [first]
    # A truth counts as six, for what it holds while its gradient waits.
    known.built(second)
    # Two images and a mask are a little more than a gradient.
    assert list(known._known) == [second]
    known.built(first)
    assert list(known._known) == [second, first]


def test_what_the_subject_gave_is_asked_for_once_a_precision() -> None:
    known, asked = KnownInputs(LossKind.MASKED), []

    def run() -> Evaluation:
        asked.append(True)
        return Evaluation(float(len(asked)), torch.zeros(1, 3, 20, 20), 1.0)

    of = [known.evaluation(_CASE, precision, run).value for precision in ("float32", "float16-inputs", "float32")]
    assert of == [1.0, 2.0, 1.0]


def test_a_subject_that_writes_into_its_target_is_held_to_the_target_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "writes.py"
    path.write_text("def writes(x, y, mask):\n    y.zero_()\n    return ((x - y) ** 2).mean()\n")
    (precision,) = precisions_named(["float32"])
    loss = load_loss(SubjectSpec(f"{path}:writes", truth="mse"), try_out=False)
    known = KnownInputs(loss.kind)
    trial = LossTrial(loss, precision, _CASE, known=known)
    trial.value(trial.inputs)
    expected = LossTrial(loss, precision, _CASE).truth.value
    assert trial.truth.value == expected
    assert LossTrial(loss, precision, _CASE, known=known).truth is trial.truth


def test_a_networks_kernels_are_converted_once_and_again_where_they_change() -> None:
    known, kernel, bias = KnownInputs(LossKind.BARE), torch.ones(2, 1, 3, 3), torch.zeros(2)
    assert known.exact(None) is None
    first = known.exact([(kernel, bias)])
    assert first is not None
    assert first[0][0].dtype == torch.float64
    assert known.exact([(kernel, bias)]) is first
    kernel[0] = 2.0
    changed = known.exact([(kernel, bias)])
    assert changed is not None
    assert torch.equal(changed[0][0], kernel.double())
    kernel.data = torch.full_like(kernel, 3.0)
    changed = known.exact([(kernel, bias)])
    assert changed is not None
    assert torch.equal(changed[0][0], kernel.double())


def test_another_instance_is_run_anew_and_the_subject_once(tmp_path: Path) -> None:
    path = tmp_path / "counts.py"
    path.write_text(
        "calls = 0\n\n\ndef counts(x, y):\n    global calls\n    calls += 1\n    return (x - y).mean() * 0 + calls\n"
    )
    loss = load_loss(SubjectSpec(f"{path}:counts", truth="mse"))
    (precision,), known = precisions_named(["float32"]), KnownInputs(loss.kind)
    first, again = (LossTrial(loss, precision, _CASE, known=known) for _ in range(2))
    value = first.evaluation.value
    assert again.evaluation.value == value
    assert again.of(loss).evaluation.value == value + 1
    assert again.evaluate(again.inputs).value == value + 2
