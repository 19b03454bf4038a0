"""A small share of the campaign of mutated files; ``python -m tests.mutated_files.campaign`` runs ten thousand."""

from __future__ import annotations

from pathlib import Path

from tests.mutated_files.campaign import campaign
from tests.mutated_files.mutations import evil_pickles

MUTANTS = 100


def test_mutated_files_are_read_or_refused_in_one_line() -> None:
    report = campaign(MUTANTS, seed=1)
    assert not report.wrong, "\n".join(report.wrong)
    # The mutations are of both kinds: some files are still good, and most are not.
    codes = [code for counts in report.codes.values() for code in counts.elements()]
    assert codes.count(0) > MUTANTS // 20
    assert codes.count(2) > MUTANTS // 2


def test_pickles_that_run_code_do_so_where_nobody_looks(tmp_path: Path) -> None:
    """The campaign's own: if these pickles did nothing when loaded, that nothing is run would prove nothing."""
    import pickle

    mark = tmp_path / "executed"
    pickle.loads(evil_pickles(mark)[0])
    assert mark.is_dir()
