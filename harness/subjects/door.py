"""Import a subject by ``package.module:name`` or ``path/to/file.py:name``, from the user's checkout first."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import SubjectError, UsageError, describe_exception, reraise_unless_subjects
from harness.subjects.import_root import is_taken, stay_in_root

_FOLDER = "_folder_"


def load_object(spec: str, root: str | Path | None = None) -> Any:
    """The object that ``spec`` names.

    Args:
        spec: ``package.module:name`` or ``path/to/file.py:name``; a relative path is taken from ``root`` if it is
            there, else from the working directory.
        root: put first on the import path for the rest of the process, as ``subject_root`` does. Where none is
            given, a file's own folder is the root; of a file with relative imports, the folder that holds its package.

    Raises:
        UsageError: the spec has another form.
        SubjectError: nothing can be imported there, or it has no such name; a missing module is named.
    """
    location, name = _split(spec)
    if location.endswith(".py"):
        module = _import_file(_find_file(location, root), None if root is None else Path(root), spec)
    else:
        if root is not None:
            stay_in_root(Path(root))
        module = _import_module(location, spec)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise SubjectError(f"{spec}: {location} has no {part!r}.{hint}")
        found = getattr(found, part)
    return found


@dataclass(frozen=True)
class PlainImport:
    """How a subject is imported where there is no harness.

    Attributes:
        folder: to be first on the import path.
        module: the module's dotted name.
        name: of the subject in it.
        file: where the module must be loaded from; ``None`` where it is found by its name.
    """

    folder: Path
    module: str
    name: str
    file: Path | None = None


def plain_import(spec: str, root: str | Path | None = None) -> PlainImport:
    """Where :func:`load_object` finds the subject, for whoever imports it by himself.

    Raises:
        UsageError: the spec has another form.
        SubjectError: there is no such file.
    """
    location, name = _split(spec)
    folder = None if root is None else Path(root).resolve()
    if not location.endswith(".py"):
        return PlainImport(folder or Path.cwd(), location, name)
    path = _find_file(location, root)
    if (levels := _relative_levels(path)) == 0:
        return PlainImport(folder or path.parent, path.stem, name, path)
    top, module = _place_in_package(path, folder, levels)
    if module is None:
        # Of a plain folder Python makes a package of the folder's own name.
        top = top.parent
        module = ".".join(path.relative_to(top).with_suffix("").parts)
    return PlainImport(top, module, name)


def _split(spec: str) -> tuple[str, str]:
    location, separator, name = spec.rpartition(":")
    if not separator or not location or not name:
        raise UsageError(f"{spec!r} is not a subject: write package.module:name or path/to/file.py:name.")
    return location, name


def _find_file(location: str, root: str | Path | None) -> Path:
    for path in ([Path(root) / location] if root is not None else []) + [Path(location)]:
        if path.is_file():
            return path.resolve()
    raise SubjectError(f"there is no file {location}{f' in {root} or here' if root is not None else ''}.")


def _import_file(path: Path, root: Path | None, spec: str) -> ModuleType:
    """The file as a module of its own; where it has relative imports, as one of the package that they mean."""
    levels = _relative_levels(path)
    if levels == 0:
        stay_in_root(path.parent if root is None else root)
        return _import_alone(path, spec)
    top, name = _place_in_package(path, None if root is None else root.resolve(), levels)
    if name is None:
        # A plain folder, in a package of no name that anyone else could have.
        stay_in_root(path.parent if root is None else root)
        name = f"{_FOLDER}{hashlib.sha256(str(top).encode()).hexdigest()[:12]}"
        with _readable_failures(spec):
            _enter_folder(top, name)
        name = ".".join((name, *path.relative_to(top).with_suffix("").parts))
    else:
        stay_in_root(top)
    return _import_module(name, spec)


def _relative_levels(path: Path) -> int:
    """How many folders up the file's relative imports reach; 0 for a file that has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return 0  # Importing it will say what is wrong.
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def _place_in_package(path: Path, root: Path | None, levels: int) -> tuple[Path, str | None]:
    """Where the file's package begins: the folder that holds it, and the file's dotted name from there.

    The package is what lies under the root; without one, the folders above that have an ``__init__.py``.  Where neither
    reaches up ``levels`` folders, it is so many plain folders, the first of which is given, without a name.
    """
    if root is not None:
        top = root if path.is_relative_to(root) else path.parent
    else:
        top = path.parent
        while (top / "__init__.py").is_file():
            top = top.parent
    parts = path.relative_to(top).with_suffix("").parts
    if len(parts) <= levels or not all(part.isidentifier() for part in parts) or is_taken(parts[0]):
        return path.parents[levels - 1], None
    return top, ".".join(parts)


def _enter_folder(folder: Path, name: str) -> None:
    """Make the folder a package of this name, running its ``__init__.py`` where it has one."""
    if name in sys.modules:
        return
    start = folder / "__init__.py"
    module_spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    if start.is_file():
        found = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
        assert found is not None, "it ends in .py"
        module_spec = found
    module_spec.submodule_search_locations = [str(folder)]
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    if module_spec.loader is not None:
        try:
            module_spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def _import_alone(path: Path, spec: str) -> ModuleType:
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise SubjectError(f"{spec}: {path} is not a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    previous = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        with _readable_failures(spec):
            module_spec.loader.exec_module(module)
    except SubjectError:
        del sys.modules[path.stem]
        if previous is not None:
            sys.modules[path.stem] = previous
        raise
    return module


def _import_module(location: str, spec: str) -> ModuleType:
    with _readable_failures(spec):
        return importlib.import_module(location)


@contextmanager
def _readable_failures(spec: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        # A plain folder's package has a name that says nothing to anyone.
        missing = re.sub(rf"^{_FOLDER}[0-9a-f]+", "", str(error.name))
        raise SubjectError(
            f"{spec} can't be imported: the module {missing!r} is missing. Install it, or name the folder that "
            f"holds it with --subject-root."
        ) from error
    # A script may call sys.exit() when it is imported.
    except BaseException as error:
        reraise_unless_subjects(error)
        raise SubjectError(f"importing {spec} raised {describe_exception(error)}.") from error
