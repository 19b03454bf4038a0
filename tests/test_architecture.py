"""The rooms and the directions between them, as ARCHITECTURE.md tells them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_type_hints

import pytest

from harness.kinds.registry import KINDS

ROOT = Path(__file__).resolve().parents[1]
# Each room may import from those before it (and from itself).
ROOMS = [
    {"errors", "files", "imports", "numerals", "packed_arrays", "process_state", "toml_tables"},
    {"subject_spec"},
    {"protocols", "config"},
    {"cases"},
    {"precision"},
    {"pretence"},
    {"oracle"},
    {"adapters"},
    {"subjects"},
    {"trials"},
    {"rounding"},
    {"properties"},
    {"rehearsal"},
    {"kinds"},
    {"engine"},
    {"findings"},
    {"watching"},
    {"goldens"},
    {"comparison", "conditions", "bench", "selfcheck", "fuzzing"},
    {"conformance"},
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
    kinds = {get_type_hints(type(kind).adapt)["return"].__name__ for kind in KINDS}
    assert "AdaptedLoss" in kinds
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            named = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            assert not named & kinds, f"line {node.lineno}: let harness/kinds/registry.py say which kind it is"


def _module_names(package: str) -> dict[str, Path]:
    """Each module of the package by its dotted name; a package's is its ``__init__``'s."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in _modules(package)
    }


def _own_imports(path: Path, modules: Mapping[str, Path], nodes: Iterable[ast.AST] | None = None) -> Iterator[str]:
    """The modules among ``modules`` that the file imports: anywhere, or in ``nodes`` alone."""
    for node in ast.walk(ast.parse(path.read_text())) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                name = whole if whole in modules else node.module
                if name in modules:
                    yield name


def test_nothing_that_trains_imports_what_only_tests_use() -> None:
    modules = _module_names("gslrm")
    assert "gslrm.testing.tiny_training" in modules
    importers = [
        name
        for name, path in modules.items()
        if not _is_testing(name) and any(_is_testing(imported) for imported in _own_imports(path, modules))
    ]
    assert not importers


def _is_testing(name: str) -> bool:
    return name == "gslrm.testing" or name.startswith("gslrm.testing.")


def _at_module_level(statements: Iterable[ast.stmt], type_checking: bool) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported; those for a type checker alone only if asked for."""
    for statement in statements:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(statement, "handlers", [])]
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test) and not type_checking:
            blocks = [statement.orelse]
        for block in blocks:
            yield from _at_module_level(block, type_checking)


# In `gslrm` what is imported for a type checker alone counts too: two modules that need each other's types are a circle
# to their reader as well.
@pytest.mark.parametrize(("package", "type_checking"), [("gslrm", True), ("harness", False)])
def test_no_modules_import_each_other_in_a_circle(package: str, type_checking: bool) -> None:
    modules = _module_names(package)
    imports = {
        name: set(_own_imports(path, modules, _at_module_level(ast.parse(path.read_text()).body, type_checking)))
        for name, path in modules.items()
    }
    # Take away whatever imports nothing that is left: what remains leads into a circle.
    while leaves := {name for name, imported in imports.items() if not imported}:
        imports = {name: imported - leaves for name, imported in imports.items() if name not in leaves}
    assert not imports


def test_what_is_drawn_is_not_the_oracles_business() -> None:
    for path in (ROOT / "harness" / "oracle").glob("*.py"):
        assert "harness.cases.strategies" not in set(_imports(path)), path


@pytest.mark.parametrize("path", _modules("harness/properties"), ids=lambda p: p.stem)
def test_claims_know_no_kind_of_subject(path: Path) -> None:
    assert not [name for name in _imports(path) if name.startswith("harness.subjects")]


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
