"""The same seed gives the same cases, whatever code is imported."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, seed
from hypothesis.internal.conjecture import providers

from harness.cases.descriptors import LossCase
from harness.cases.strategies import loss_cases
from harness.engine.search import hypothesis_settings, run_quietly


def _drawn() -> list[LossCase]:
    cases: list[LossCase] = []
    providers.CONSTANTS_CACHE.cache.clear()

    @seed(0)
    @hypothesis_settings(100, (Phase.generate,))
    @given(loss_cases())
    def draw(case: LossCase) -> None:
        cases.append(case)

    run_quietly(draw)
    return cases


@pytest.mark.skipif(not hasattr(providers, "_get_local_constants"), reason="this Hypothesis draws no numbers of code")
def test_numbers_of_imported_code_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_get_local_constants", providers.Constants)
    before = _drawn()
    theirs = providers.Constants(integers=set(range(300)), floats={k / 64 for k in range(64)})
    monkeypatch.setattr(providers, "_get_local_constants", lambda: theirs)
    assert _drawn() == before
    assert providers._get_local_constants() is theirs
