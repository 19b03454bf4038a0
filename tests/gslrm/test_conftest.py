"""What torch can't run is skipped, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

from tests.gslrm.conftest import _REFUSED, pytest_runtest_call, refused_by_torch


def test_only_torchs_own_refusal_is_told() -> None:
    assert refused_by_torch(RuntimeError(_REFUSED))
    assert refused_by_torch(AssertionError(f"[1, 0] == [0, 0]: RuntimeError: {_REFUSED}\n"))
    assert refused_by_torch(subprocess.CalledProcessError(1, ["train"], b"", _REFUSED.encode()))
    assert refused_by_torch(subprocess.CalledProcessError(1, ["train"], None, _REFUSED))
    assert not refused_by_torch(subprocess.CalledProcessError(1, ["train"]))
    assert not refused_by_torch(RuntimeError("avx512"))


@pytest.mark.parametrize(
    ("error", "outcome"), [(RuntimeError(_REFUSED), pytest.skip.Exception), (ValueError(), ValueError)]
)
def test_a_refusal_is_a_skip(error: Exception, outcome: type[BaseException], request: pytest.FixtureRequest) -> None:
    around = pytest_runtest_call(request.node)
    next(around)
    with pytest.raises(outcome):
        around.throw(error)
