"""The table of uses: long, and each row fails on a machine without a GPU."""

from __future__ import annotations

import warnings

import pytest
import torch

from harness.process_state import kept_state
from tests.harness.pretence.uses import BY_TOPIC


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it all works")
def test_each_tells_the_pretence_from_a_machine_without_a_gpu() -> None:
    unfit = []
    for use in (use for uses in BY_TOPIC.values() for use in uses if use.is_there() and not use.anywhere):
        with kept_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if use.run():
                    unfit.append(use.call)
            except Exception:
                continue
            finally:
                torch.set_default_device(None)
    assert not unfit


def test_there_are_many() -> None:
    assert sum(map(len, BY_TOPIC.values())) >= 150
