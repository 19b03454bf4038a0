"""The rooms and the directions between them, as ARCHITECTURE.md tells them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each room may import from those before it (and from itself).
ROOMS = [
    {"errors", "files", "numerals"},
    {"protocols", "config"},
    {"cases"},
    {"precision"},
    {"oracle"},
    {"subjects"},
    {"trials"},
    {"rounding"},
    {"properties"},
    {"kinds"},
    {"engine"},
    {"findings"},
    {"goldens"},
    {"comparison"},
    {"reports"},
    {"cuda_session"},
    {"cli", "plugin", "golden_tests", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", _modules("harness"), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_only_from_the_rooms_above(path: Path) -> None:
    parts = path.relative_to(ROOT / "harness").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = RANK[parts[0]]
    for name in _imports(path):
        assert name.split(".")[0] != "gslrm", "a subject comes in by its import path only"
        if name.startswith("harness."):
            assert RANK[name.split(".")[1]] <= own, f"{parts[0]} imports {name}"


@pytest.mark.parametrize("path", _modules("gslrm"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_subject_knows_nothing_of_the_harness(path: Path) -> None:
    assert not [name for name in _imports(path) if name.split(".")[0] == "harness"]


@pytest.mark.parametrize("path", _modules("harness"), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_registry_tells_kinds_of_subject_apart(path: Path) -> None:
    if path.parent.name == "kinds":
        return
    kinds = {"AdaptedLoss", "StepFactory", "TrainingFactory"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            named = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            assert not named & kinds, f"line {node.lineno}: let harness/kinds/registry.py say which kind it is"


def test_nothing_that_trains_knows_what_only_tests_use() -> None:
    for path in _modules("gslrm"):
        if path.parent.name != "testing":
            assert not [name for name in _imports(path) if name.startswith("gslrm.testing")], path


@pytest.mark.parametrize("package", ["gslrm", "harness"])
def test_there_is_no_circle_of_imports(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for path in _modules(package):
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[own] = {name for name in _imports_when_loaded(path) if name.split(".")[0] == package}
    tuple(TopologicalSorter({own: names - {own} for own, names in graph.items()}).static_order())


def _imports_when_loaded(path: Path) -> Iterator[str]:
    """Modules that the module imports when it is imported itself; a package, where something else of it is named."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if _is_module(name)]
            yield from modules
            if len(modules) < len(inner):
                yield node.module


def _is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def test_only_config_reads_the_environment() -> None:
    readers = [p.name for p in _modules("harness") if "os.environ" in p.read_text() or "getenv" in p.read_text()]
    assert readers == ["config.py"]


def test_nothing_unpickles() -> None:
    for package in ("harness", "gslrm"):
        for path in _modules(package):
            text = path.read_text()
            assert "import pickle" not in text, path
            assert "weights_only=False" not in text, path
            assert "yaml.load(" not in text, path
