"""The folder of recorded goldens, replaced as a whole.

An update writes the complete next generation beside the present one and then moves two folders: ``recorded`` away,
``recorded.next`` into its place.  A kill before the first move leaves all old; one between the two leaves no
``recorded`` but a complete ``recorded.next``, which whoever comes next moves into place; one after leaves all new.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.goldens.golden_file import GoldenFile, arrays_path, read_golden

_PRESENT, _NEXT, _PAST = "recorded", "recorded.next", "recorded.past"


class GoldenStore:
    """The goldens recorded under one folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._present, self._next, self._past = (folder / name for name in (_PRESENT, _NEXT, _PAST))

    def path(self, name: str) -> Path:
        """The golden's JSON file."""
        return self._present / f"{name}.json"

    def names(self) -> tuple[str, ...]:
        """All that are recorded."""
        self._settle()
        return tuple(sorted(path.stem for path in self._present.glob("*.json")))

    def strays(self) -> tuple[Path, ...]:
        """Files that belong to no golden."""
        self._settle()
        names = set(self.names())
        return tuple(p for p in sorted(self._present.glob("*")) if p.suffix != ".json" and p.stem not in names)

    def read(self, name: str) -> GoldenFile | None:
        """The golden of that name, or ``None`` where there is none.

        Raises:
            UsageError: its files are damaged.
        """
        self._settle()
        # What stands there and can't be read, such as a link that leads nowhere, is damage.
        return read_golden(self.path(name)) if os.path.lexists(self.path(name)) else None

    def replace(self, changed: Mapping[str, GoldenFile], removed: tuple[str, ...] = ()) -> None:
        """Write the changed goldens and drop the removed: all of it, or, however it ends, nothing.

        Raises:
            UsageError: the folder can't be written.
        """
        with self._locked():
            self._recover()
            self._next.mkdir(parents=True)
            for path in sorted(self._present.glob("*")) if self._present.is_dir() else ():
                if path.stem not in changed and path.stem not in removed:
                    shutil.copy2(path, self._next / path.name)
            for name, golden in changed.items():
                text, arrays = golden.encode()
                path = self._next / f"{name}.json"
                _write(path, text.encode())
                if arrays:
                    _write(arrays_path(path), arrays)
            _flush(self._next)
            if self._present.is_dir():
                os.rename(self._present, self._past)
            os.rename(self._next, self._present)
            _flush(self._folder)
            shutil.rmtree(self._past, ignore_errors=True)

    def _settle(self) -> None:
        """Finish or forget an update that was killed."""
        if self._next.exists() or self._past.exists():
            with self._locked():
                self._recover()

    def _recover(self) -> None:
        if not self._present.exists() and self._past.exists():
            # Between the two moves: the next generation is complete, since it is so before the first.
            os.rename(self._next if self._next.exists() else self._past, self._present)
        shutil.rmtree(self._next, ignore_errors=True)
        shutil.rmtree(self._past, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among processes on this folder; a killed one lets go."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise UsageError(f"the goldens' folder {self._folder} can't be written: {error.strerror}.") from error
        try:
            # Elsewhere than on POSIX there is no flock; two updates at once are then the user's to avoid.
            with contextlib.suppress(ImportError):
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Make the folder's entries outlast a power cut, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
