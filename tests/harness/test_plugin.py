"""The plugin in a repository of its own, as a user has it."""

from __future__ import annotations

import pytest

from harness.properties import LOSS_PROPERTIES
from harness.subjects.known_bad import KNOWN_BAD

pytest_plugins = ["pytester"]

RIGHT = "gslrm.model.utils_losses:MaskedSsimLoss"
FEW = ("--harness-max-examples=5", "--harness-precision=float32", "--harness-precision=cpu-autocast-bfloat16")


def _run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=150)


def test_properties_are_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_own(): pass")
    result = _run(pytester, f"--harness-loss={RIGHT}", *FEW, "-v")
    # Under both of the precisions, and the test beside them.
    result.assert_outcomes(passed=2 * len(LOSS_PROPERTIES) + 1)
    result.stdout.fnmatch_lines(["*loss-range?float32? PASSED*"])


def test_a_violation_fails_with_case_and_replay(pytester: pytest.Pytester) -> None:
    arguments = (f"--harness-loss={KNOWN_BAD[0].spec}", "--harness-property=range")
    result = _run(pytester, *arguments, "--harness-precision=cpu-autocast-bfloat16")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*belongs in*", "*smallest case:*", "*replay: harness replay*"])


def test_what_does_not_apply_is_skipped_with_its_reason(pytester: pytest.Pytester) -> None:
    loss = "--harness-loss=gslrm.model.utils_losses:SsimLoss"
    result = _run(pytester, loss, "--harness-property=empty-mask", "--harness-precision=float32", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*a bare loss takes no mask*"])


def test_properties_compute_in_one_thread_and_other_tests_in_their_own(pytester: pytest.Pytester) -> None:
    """Where other processes run besides, threads that wait for each other make them many times slower."""
    pytester.makepyfile(
        alone="import torch\n\n\ndef alone(x, y):\n    assert torch.get_num_threads() == 1\n"
        "    return (x - y).square().mean()\n",
        test_own="import torch\n\n\ndef test_own(): assert torch.get_num_threads() == 3\n",
    )
    # The properties come last.
    pytester.makeconftest(
        "import torch\ntorch.set_num_threads(3)\n\n\n"
        "def pytest_runtest_logfinish(): assert torch.get_num_threads() == 3\n"
    )
    result = _run(pytester, "--harness-loss=alone.py:alone", "--harness-property=finite", *FEW[:2])
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK


def test_the_loss_is_called_as_it_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        similar="class Similar:\n    def __init__(self, sign):\n        self.sign = sign\n\n"
        "    def __call__(self, x, y):\n        return 1.0 - self.sign * (x - y).square().mean()\n"
    )
    told = ("--harness-loss=similar.py:Similar", "--harness-similarity", "--harness-truth=mse", *FEW[:2])
    told += ("--harness-property=identity", "--harness-property=range")
    _run(pytester, *told, "--harness-argument=sign=1").assert_outcomes(passed=2)
    _run(pytester, *told, "--harness-argument=sign=-1").assert_outcomes(passed=1, failed=1)


def test_a_loss_is_held_to_the_truth_that_is_named(pytester: pytest.Pytester) -> None:
    term = "--harness-loss=gslrm.training.loss_terms:l2"
    narrow = ("--harness-property=accuracy", "--harness-precision=float32", "--harness-max-examples=5")
    _run(pytester, term, *narrow, "--harness-truth=mse").assert_outcomes(passed=1)
    _run(pytester, term, *narrow, "--harness-truth=l1").assert_outcomes(failed=1)
    # Nothing is meant by it: what it is, is found out.
    _run(pytester, term, *narrow).assert_outcomes(passed=1)
    wrong = _run(pytester, term, *narrow, "--harness-truth=mze")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*did you mean 'mse'*"])


def test_workers_share_the_properties(pytester: pytest.Pytester) -> None:
    step = "--harness-step=gslrm.training.amp_step:AmpStep"
    result = _run(pytester, step, "--harness-max-examples=5", "--harness-precision=float32", "-n", "2")
    # A step that is fed losses doesn't run in two processes.
    result.assert_outcomes(passed=11, skipped=1)


def test_the_seed_gives_the_same_finding_with_and_without_workers(pytester: pytest.Pytester) -> None:
    arguments = (f"--harness-loss={KNOWN_BAD[0].spec}", "--harness-precision=cpu-autocast-bfloat16")
    arguments += ("--harness-property=range", "--harness-property=batch", "--harness-seed=3", FEW[0])
    found = []
    for more in ((), ("-n", "2")):
        _run(pytester, *arguments, *more)
        cases = sorted((pytester.path / ".harness" / "cases").glob("loss.*.json"))
        found.append({path.name: path.read_text() for path in cases})
        for path in cases:
            path.unlink()
    assert found[0] == found[1]
    assert found[0]


def test_without_its_options_it_does_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_own(): assert 'torch' not in sys.modules")
    _run(pytester).assert_outcomes(passed=1)


def test_a_subject_that_can_not_be_loaded_is_one_sentence(pytester: pytest.Pytester) -> None:
    result = _run(pytester, "--harness-loss=nowhere:loss", "--harness-property=range", "--harness-precision=float32")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'nowhere' is missing*"])
    assert "Traceback" not in result.stdout.str()


def test_a_wrong_option_is_one_sentence(pytester: pytest.Pytester) -> None:
    result = _run(pytester, f"--harness-loss={RIGHT}", "--harness-property=rnge")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*did you mean 'range'*"])
