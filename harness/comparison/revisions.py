"""A git revision's files in a folder of their own, for as long as they are needed."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UsageError


@contextmanager
def revision_root(revision: str, directory: Path) -> Iterator[Path]:
    """The folder that stands for ``directory`` in that revision of its repository; removed at the end.

    The repository itself, its index and its worktrees are not touched.

    Raises:
        UsageError: git is missing, the directory is in no repository, or the revision isn't in it.
    """
    top = Path(_git(directory, "rev-parse", "--show-toplevel").strip())
    commit = _git(directory, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").strip()
    with tempfile.TemporaryDirectory(prefix="harness-revision-") as name:
        folder = Path(name)
        archive = folder / "revision.tar"
        _git(top, "archive", "--format=tar", f"--output={archive}", commit)
        files = folder / "files"
        with tarfile.open(archive) as tar:
            # The filter refuses what would land outside the folder.
            tar.extractall(files, filter="data")
        archive.unlink()
        inside = files / directory.resolve().relative_to(top.resolve())
        if not inside.is_dir():
            raise UsageError(f"revision {revision!r} has no folder {directory.resolve().relative_to(top.resolve())}.")
        yield inside


def _git(directory: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError("comparing revisions needs git, which is not installed.") from None
    if done.returncode != 0:
        line = (done.stderr.strip().splitlines() or ["git failed"])[-1]
        raise UsageError(f"git {arguments[0]} in {directory} failed: {line}.")
    return done.stdout
