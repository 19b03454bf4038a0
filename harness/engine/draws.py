"""Cases drawn once for all the searches that draw the same."""

from __future__ import annotations

from hypothesis import Phase, given, seed
from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import Case
from harness.engine.search import hypothesis_settings, run_quietly


class Draws:
    """Keeps what was drawn, by its seed and number: a seed stands for one strategy, too."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[int, int], tuple[Case, ...]] = {}

    def cases(self, strategy: SearchStrategy[Case], examples: int, seed_: int) -> tuple[Case, ...]:
        """So many cases of the strategy, each once: the same that a search which never fails would run."""
        key = (seed_, examples)
        if key not in self._drawn:
            drawn: dict[Case, None] = {}

            @seed(seed_)
            @hypothesis_settings(examples, (Phase.generate,))
            @given(strategy)
            def draw(case: Case) -> None:
                drawn.setdefault(case)

            run_quietly(draw)
            self._drawn[key] = tuple(drawn)
        return self._drawn[key]
