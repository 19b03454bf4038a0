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

    def cases(self, strategy: SearchStrategy[Case], examples: int, seed_: int, among: int = 0) -> tuple[Case, ...]:
        """So many cases of the strategy, each once: the same that a search which never fails would run.

        Args:
            among: they are those at even distances in as many; 0 for all in their order.
        """
        if among > examples:
            of_all = self.cases(strategy, among, seed_)
            return tuple(of_all[i * len(of_all) // examples] for i in range(min(examples, len(of_all))))
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
