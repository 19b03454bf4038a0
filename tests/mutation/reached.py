"""Which tests reach which functions, so that a mutant meets only those that can notice it, the quickest first.

In the copy of the project each function of the target's modules is made to say that it was called; all tests are run
once. A process that a test starts inherits the test's name, as pytest leaves it in the environment.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "MUTATION_REACHED"
"""The environment variable that says where calls are written down; unset, nothing is."""
_SEEN: set[tuple[str, str]] = set()


def called(function: str) -> None:
    """What an instrumented function calls first."""
    test, folder = os.environ.get("PYTEST_CURRENT_TEST", ""), os.environ.get(FOLDER)
    if folder is not None and (test, function) not in _SEEN:
        _SEEN.add((test, function))
        with open(os.path.join(folder, f"{os.getpid()}.calls"), "a", encoding="utf-8") as file:
            file.write(json.dumps([test, function]) + "\n")


def instrumented(source: str, file: str) -> str:
    """The module, with :func:`called` as the first thing in each function, after its docstring."""
    tree = _Instrumenting(file).visit(ast.parse(source))
    # After the docstring and the imports from the future.
    first = next(
        (i for i, node in enumerate(tree.body) if not (_is_text(node) or getattr(node, "module", "") == "__future__")),
        len(tree.body),
    )
    tree.body[first:first] = ast.parse("from tests.mutation.reached import called as _called").body
    return ast.unparse(ast.fix_missing_locations(tree))


class _Instrumenting(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self._file = file
        self._names: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._within(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._within(node)
        name = ".".join([*self._names, node.name])
        node.body[_is_text(node.body[0]) : 0] = ast.parse(f"_called({f'{self._file}::{name}'!r})").body
        return node

    def _within(self, node: ast.ClassDef | ast.FunctionDef) -> ast.AST:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()
        return node


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@dataclass(frozen=True)
class Reached:
    """What one run of all tests showed.

    Attributes:
        digest: of the code that was run.
        cpu_seconds: what it took.
        tests: the seconds of each, by pytest's name for it.
        functions: the tests that called each, as ``file::function``.
        anywhere: the functions that were called outside of a test that is known, while tests were collected above all.
        test_files: the digest of each file of tests.
    """

    digest: str
    cpu_seconds: float
    tests: Mapping[str, float]
    functions: Mapping[str, list[str]]
    anywhere: list[str]
    test_files: Mapping[str, str]

    @staticmethod
    def of(
        folder: Path, tests: Mapping[str, float], digest: str, cpu_seconds: float, test_files: Mapping[str, str]
    ) -> Reached:
        """From what :func:`called` wrote into this folder."""
        of_file: dict[str, list[str]] = defaultdict(list)
        for test in tests:
            of_file[test.partition("::")[0]].append(test)
        functions: dict[str, set[str]] = defaultdict(set)
        anywhere: set[str] = set()
        for path in folder.glob("*.calls"):
            for line in path.read_text(encoding="utf-8").splitlines():
                current, function = json.loads(line)
                test, _, when = current.rpartition(" ")
                if test not in tests:
                    anywhere.add(function)
                else:
                    # What a fixture makes may be used by all tests of its file.
                    functions[function].update([test] if when == "(call)" else of_file[test.partition("::")[0]])
        listed = {function: sorted(reaching) for function, reaching in sorted(functions.items())}
        return Reached(digest, cpu_seconds, dict(tests), listed, sorted(anywhere), dict(test_files))

    def narrowed(self, file: str, function: str, in_body: bool, test_files: Mapping[str, str]) -> dict[str, object]:
        """For a stage: the files of tests that a mutant has to meet, and which tests of them.

        Args:
            in_body: whether the change is in the function's body: what stands before it is run by an import.
            test_files: their digests now; those that are new or changed are run whole.
        """
        key = f"{file}::{function}"
        met = set(self.functions.get(key, ())) if in_body and key not in self.anywhere else set(self.tests)
        fresh = {name for name, digest in test_files.items() if self.test_files.get(name) != digest}
        files = sorted(fresh | {test.partition("::")[0] for test in met})
        left_out = [test for test in self.tests if test not in met and test.partition("::")[0] not in fresh]
        return {"arguments": files, "left_out": left_out, "seconds": {test: self.tests[test] for test in met}}

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Reached | None:
        """``None`` where there is no file."""
        return Reached(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def digest_of(paths: Iterable[Path]) -> str:
    """Of all these files' contents, in their order."""
    found = hashlib.sha256()
    for path in paths:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
