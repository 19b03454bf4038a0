"""constraints.txt can be met on every Python that the project is for."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

_LINES = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
_PINNED = [Requirement(line) for line in _LINES if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_what_is_pinned_runs_on_this_python(python: str) -> None:
    """As far as what is installed here says of itself what it runs on."""
    full, known, unmet = f"{python}.9", 0, []
    for pinned in _PINNED:
        if pinned.marker and not pinned.marker.evaluate({"python_version": python, "python_full_version": full}):
            continue
        try:
            installed = importlib.metadata.distribution(pinned.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if pinned.specifier.contains(installed.version, prereleases=True):
            known += 1
            needs = installed.metadata.get("Requires-Python") or ""
            if not SpecifierSet(needs).contains(full):
                unmet.append(f"{pinned} needs Python {needs}")
    assert known > 10
    assert unmet == []


def test_no_package_is_pinned_twice_for_one_python() -> None:
    for python in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": python, "python_full_version": f"{python}.9"}
        names = [p.name.lower() for p in _PINNED if not p.marker or p.marker.evaluate(environment)]
        assert len(names) == len(set(names))
