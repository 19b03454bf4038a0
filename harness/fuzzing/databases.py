"""Where machines share the cases that failed: a folder, or a Redis server. What is shared are case files.

A case file says which subject, property, precision and case it is, and never goes stale. Hypothesis' own database, of
which there is one for Redis too, keeps the choices that led to a case: these go stale with every change of a strategy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.errors import UsageError, describe_exception
from harness.files import LARGEST_TEXT, move_into_place, one_line, read_text, write_atomically
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.known_cases import case_paths
from harness.fuzzing.campaign_folder import CampaignFolder
from harness.fuzzing.plan import Plan
from harness.fuzzing.records import CASE_NAME

# A server that is there answers sooner.
_SECONDS = 5.0
_PREFIX = "harness:examples:1:"


class DatabaseError(UsageError):
    """The database can't be had, or not any more."""


class Database(ABC):
    """Case files by their names, of one campaign's subjects."""

    @abstractmethod
    def names(self) -> set[str]:
        """Of all that are there.

        Raises:
            DatabaseError: it can't be had.
        """

    @abstractmethod
    def get(self, name: str) -> str | None:
        """The content; ``None`` where it is gone, or too large.

        Raises:
            DatabaseError: as :meth:`names`.
        """

    @abstractmethod
    def put(self, name: str, content: str) -> None:
        """Keep it, in place of what there is of the name.

        Raises:
            DatabaseError: as :meth:`names`.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of it, where there is anything to let go of."""


class FolderDatabase(Database):
    """A folder of case files, such as the one in which ``harness check`` leaves them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"--db {one_line(str(folder))} can't be had: {error.strerror}.") from error

    def names(self) -> set[str]:
        return {path.name for path in case_paths(self._folder) if CASE_NAME.fullmatch(path.name)}

    def get(self, name: str) -> str | None:
        try:
            return read_text(self._folder / name)
        except UsageError:
            return None

    def put(self, name: str, content: str) -> None:
        try:
            write_atomically(self._folder / name, content)
        except OSError as error:
            raise DatabaseError(f"--db {one_line(str(self._folder))} can't be written: {error.strerror}.") from error


class RedisDatabase(Database):
    """A hash in a Redis server, of case files by their names; one for each subject."""

    def __init__(self, url: str, plan: Plan) -> None:
        try:
            import redis
        except ImportError as error:
            raise DatabaseError(
                'a Redis database needs the package redis: pip install "gslrm-harness[cluster]", or redis by itself.'
            ) from error
        self._key = _PREFIX + subject_digest(plan)
        self._shown = _without_password(url)
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError, ValueError)
        with self._had():
            self._client: Any = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
            self._client.ping()

    def names(self) -> set[str]:
        with self._had():
            names = {name.decode("ascii", "replace") for name in self._client.hkeys(self._key)}
        return {name for name in names if CASE_NAME.fullmatch(name)}

    def get(self, name: str) -> str | None:
        with self._had():
            if self._client.hstrlen(self._key, name) > LARGEST_TEXT:
                return None
            content = self._client.hget(self._key, name)
        return None if content is None else content.decode("utf-8", "replace")

    def put(self, name: str, content: str) -> None:
        with self._had():
            self._client.hset(self._key, name, content)

    def close(self) -> None:
        with contextlib.suppress(*self._errors):
            self._client.close()

    @contextlib.contextmanager
    def _had(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise DatabaseError(
                f"the Redis server of --db {self._shown} can't be had ({describe_exception(error)}); is it running, "
                "and is that its address?"
            ) from error


def database_of(url: str, plan: Plan) -> Database:
    """What ``--db`` names: a folder, ``file:///folder``, or ``redis://host:port/number`` (also ``rediss``, ``unix``).

    Raises:
        UsageError: it is something else, or can't be had.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderDatabase(Path(url).absolute())
    if scheme in ("redis", "rediss", "unix"):
        return RedisDatabase(url, plan)
    if scheme == "file" and rest.startswith("/"):
        return FolderDatabase(Path(url2pathname(urlsplit(url).path)))
    raise UsageError(
        f"--db is {one_line(_without_password(url), 200)}, but must be a folder, file:///folder or redis://host:port/number."
    )


def _without_password(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if "@" in parts.netloc:
            return url.replace(parts.netloc, "…@" + parts.netloc.rpartition("@")[2])
    return url


def subject_digest(plan: Plan) -> str:
    """Of the subjects, wherever they lie: machines whose checkouts lie elsewhere share them."""
    subjects = {role.value: replace(subject, root=None).as_json() for role, subject in plan.subjects.items()}
    return hashlib.sha256(json.dumps(subjects, sort_keys=True).encode()).hexdigest()[:16]


class _OfAnotherError(Exception):
    """What was fetched belongs to another campaign."""


class Exchange:
    """What one shard gives to the database and takes from it; a database that fails on the way costs no finding.

    Args:
        folder: of the campaign, where the examples of others are put: those of its subjects, properties and precisions.
    """

    def __init__(self, database: Database, folder: CampaignFolder, plan: Plan) -> None:
        self._database, self._folder, self._plan = database, folder.examples, plan
        self._own = folder.cases
        self._tasks = {task for group in plan.units.groups for task in group}
        self._starts = {f"{task.kind.value}.{task.property}.{task.precision}" for task in self._tasks}
        self._unsent: dict[str, str] = {}
        self._passed_over: set[str] = set()
        self.trouble = ""
        self.taken = self.given = 0

    def give(self, files: dict[str, str]) -> None:
        """These case files failed here. What can't be sent now is sent with the next."""
        self._unsent.update(files)
        with self._noticed():
            for name in list(self._unsent):
                self._database.put(name, self._unsent[name])
                del self._unsent[name]
                self.given += 1

    def take(self) -> list[Path]:
        """Fetch what others have put there since: the files, which were not here before."""
        found: list[Path] = []
        with self._noticed():
            here = {path.name for folder in (self._folder, self._own) for path in case_paths(folder)}
            for name in sorted(self._database.names() - here - self._passed_over):
                path = self._folder / name
                with contextlib.suppress(_OfAnotherError):
                    self._fetch(name, path)
                    found.append(path)
                    continue
                self._passed_over.add(name)
        self.taken += len(found)
        return found

    def _fetch(self, name: str, path: Path) -> None:
        """Put it there.

        Raises:
            _OfAnotherError: it is no case file of this campaign.
        """
        # The name says of what it is, so that the files of all others needn't be read.
        content = self._database.get(name) if name.rsplit(".", 2)[0] in self._starts else None
        if content is None:
            raise _OfAnotherError
        with move_into_place(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
            try:
                file = read_case_file(temporary)
            except UsageError:
                file = None
            if file is None or file.task not in self._tasks or not self._is_of_the_plan(file):
                raise _OfAnotherError

    def _is_of_the_plan(self, file: CaseFile) -> bool:
        subject = self._plan.subjects[file.task.kind]
        return replace(file.subject, root=None) == replace(subject, root=None)

    @property
    def unsent(self) -> int:
        """Case files that the database doesn't have yet."""
        return len(self._unsent)

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
            self.trouble = ""
        except DatabaseError as error:
            self.trouble = str(error)
