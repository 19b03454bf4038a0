"""The parent's side of :mod:`harness.fuzzing.child`: one unit at a time, each in a process of its own, watched case by
case as a check's are.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cases.descriptors import Case
from harness.cases.serialization import case_from_json
from harness.config import Settings, environment_with_path
from harness.engine.guardian import Guardian, kill_group
from harness.engine.plan import Task
from harness.engine.result import Status
from harness.engine.subject_output import LAST_LINES
from harness.errors import HarnessFailure, SubjectError, UsageError, ending, printable
from harness.files import json_value
from harness.findings.case_file import CaseFile
from harness.fuzzing.coverage import Coverage, whole_programs
from harness.fuzzing.plan import Loaded
from harness.fuzzing.records import Found, UnitRecord, found_from_json
from harness.fuzzing.units import Unit
from harness.oracle.levels import Level

# What a process needs that is not the subject's: importing torch, drawing cases, confirming.
_OWN_SECONDS = 300.0
_CHUNK = 2**16
_LARGEST_LINE = 2**24


@dataclass
class _Heard:
    """What was heard of one order.

    Attributes:
        begun: cases, in the order in which they were begun.
        at: the case in hand, or ``None``.
        ended: how its process ended before it was done; empty where it was done.
        hung: it was ended, since a case took too long.
    """

    found: list[Found] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)
    begun: list[Case] = field(default_factory=list)
    at: Case | None = None
    ended: str = ""
    hung: bool = False


class UnitProcess:
    """A process that forks one for every unit; used from one thread, closed from any.

    Args:
        settings: they name the subjects; their seed is the campaign's.
    """

    def __init__(self, settings: Settings, guardian: Guardian) -> None:
        self._settings, self._guardian = settings, guardian
        self._folder = tempfile.TemporaryDirectory(prefix="harness-fuzz-", ignore_cleanup_errors=True)
        self._printed = Path(self._folder.name) / "printed"
        self._server: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._child = 0
        self._closed = False

    def load(self) -> Loaded:
        """Have the subjects loaded, where they aren't.

        Raises:
            HarnessError: they can't be.
            HarnessFailure: the harness failed in it.
        """
        if self._server is not None and self._server.poll() is None:
            self._drop()
        self._server = server = self._started()
        told = json.dumps(json_value(asdict(self._settings))).encode() + b"\n"
        with contextlib.suppress(OSError):
            assert server.stdin is not None
            server.stdin.write(told)
        # Importing torch is not the subject's doing.
        since, seconds = time.monotonic(), self._settings.case_timeout + _OWN_SECONDS
        line = self._line(since + seconds)
        if line is None or "ended" in line:
            how = f"is still running after {seconds:g} s" if line is None else ending(server.wait())
            self._drop()
            raise SubjectError(f"loading {self._names()} {how}.{self._last_words()}")
        told_loaded = _refused_or(line)["loaded"]
        return Loaded(tuple(told_loaded["kinds"]), told_loaded["sources"], told_loaded["torch"])

    def run(self, unit: Unit, shard: str) -> UnitRecord:
        """Run a unit. A case that takes its process down, or too long, costs the property that it was for.

        Raises:
            HarnessError: the subject can't be loaded any more.
            HarnessFailure: the harness failed in it.
        """
        since = time.monotonic()
        coverage, files, found = Coverage(), {}, []
        begun: list[Case] = []
        pending: Sequence[Task] = unit.tasks
        while pending:
            tasks = [{"kind": t.kind.value, "property": t.property, "precision": t.precision} for t in pending]
            heard = self._carried_out({"tasks": tasks, "seed": unit.seed})
            begun += whole_programs(heard.begun)
            files.update(heard.files)
            found += heard.found
            pending = pending[len(heard.found) :]
            if heard.ended and pending:
                lost = self._lost(pending[0], heard)
                found.append(lost)
                if heard.at is not None:
                    file = CaseFile.of(self._settings, lost.task, heard.at, lost.message)
                    files[lost.case] = file.as_json(Path(lost.case))
                pending = pending[1:]
        named = {name for one in found for name in (one.case, one.worst) if name}
        coverage.count(dict.fromkeys(begun))
        kept = {name: content for name, content in files.items() if name in named}
        return UnitRecord(unit, shard, time.monotonic() - since, tuple(found), coverage, kept)

    def try_example(self, path: Path, task: Task, case: Case) -> Found:
        """What the case of a case file does on the subject.

        Raises:
            HarnessError: it can't be judged here.
        """
        heard = self._carried_out({"example": str(path)})
        if heard.found:
            return heard.found[0]
        return replace(self._lost(task, heard), case=path.name)

    def _lost(self, task: Task, heard: _Heard) -> Found:
        """Of a property whose process was lost."""
        if heard.at is None:
            return Found(task, Status.NOT_RUN, message=f"between two cases its process {heard.ended}", hung=heard.hung)
        name = CaseFile.of(self._settings, task, heard.at).file_name()
        count = len(heard.begun)
        return Found(task, Status.VIOLATED, Level.FAULT, count, heard.ended, float("inf"), name, hung=heard.hung)

    def _carried_out(self, order: Mapping[str, Any]) -> _Heard:
        if self._server is None or self._server.poll() is not None:
            self.load()
        server = self._server
        assert server is not None
        assert server.stdin is not None
        heard, limit, since = _Heard(), _OWN_SECONDS, time.monotonic()
        with contextlib.suppress(OSError):
            # What was printed before is of no further interest.
            self._printed.write_bytes(b"")
            server.stdin.write(json.dumps({**order, "printed": str(self._printed)}).encode() + b"\n")
        done = False
        while True:
            line = self._line(since + limit)
            if line is None:
                heard.ended, heard.hung = f"still running after {limit:g} s", True
                self._end_child()
                self._hear_the_end()
                break
            if "case" in line:
                heard.at = case_from_json(line["case"], "a process of the campaign")
                heard.begun.append(heard.at)
                since, limit = line["at"], line["limit"]
            elif "between" in line:
                heard.at, since, limit = None, line["between"], _OWN_SECONDS
            elif "file" in line:
                heard.files[line["file"]] = line["content"]
            elif "found" in line:
                heard.found.append(found_from_json(line["found"]))
                heard.at = None
            elif "process" in line:
                self._child = line["process"]
                self._guardian.watch(self._child)
            elif "done" in line:
                done = True
            elif "ended" in line:
                heard.ended = "" if done else ending(line["ended"])
                break
            else:
                _refused_or(line)
        self._forget_child()
        return heard

    def _end_child(self) -> None:
        if self._child:
            kill_group(self._child)
        else:
            self._drop()

    def _hear_the_end(self) -> None:
        """What it said before it was ended is passed over."""
        until = time.monotonic() + _OWN_SECONDS
        while (line := self._line(until)) is not None and "ended" not in line:
            pass

    def _forget_child(self) -> None:
        if self._child:
            # It, where it is still there, and whatever it started.
            kill_group(self._child)
            self._guardian.forget(self._child)
        self._child = 0

    def _line(self, until: float) -> dict[str, Any] | None:
        """The next line; ``None`` where there is none by then. That its server is gone is told as ``ended``."""
        server = self._server
        if server is None or server.stdout is None:
            return {"ended": None}
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([server.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            chunk = server.stdout.read(_CHUNK)
            if not chunk or len(self._buffer) > _LARGEST_LINE:
                code = server.wait()
                self._drop()
                if self._closed:
                    raise HarnessFailure("the campaign is over")
                return {"ended": code}
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\n")
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            # The subject wrote into the pipe.
            self._drop()
            return {"ended": None}
        return line

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise HarnessFailure("the campaign is over")
        server = subprocess.Popen(
            [sys.executable, "-m", "harness.fuzzing.child", str(self._printed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment_with_path(Path(__file__).parents[2]),
            start_new_session=True,
        )
        self._guardian.watch(server.pid)
        self._buffer = b""
        return server

    def _names(self) -> str:
        return " and ".join(spec for spec in (self._settings.loss, self._settings.step) if spec is not None)

    def _last_words(self) -> str:
        try:
            lines = self._printed.read_bytes()[-_CHUNK:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        lines = [line for line in lines if line.strip()][-LAST_LINES:]
        return f" The last that it printed is {printable(lines[-1], 300)!r}." if lines else ""

    def _drop(self) -> None:
        """End the server."""
        if (server := self._server) is not None:
            kill_group(server.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=1.0)
            self._guardian.forget(server.pid)
        self._server = None

    def close(self) -> None:
        """End what runs."""
        self._closed = True
        if child := self._child:
            kill_group(child)
        self._drop()
        self._folder.cleanup()


def _refused_or(line: dict[str, Any]) -> dict[str, Any]:
    """The line, where it tells of no error."""
    if "refused" in line:
        sentence, code = line["refused"], line["exit_code"]
        raise SubjectError(sentence) if code == SubjectError.exit_code else UsageError(sentence)
    if "broken" in line:
        raise HarnessFailure(f"in a process of the campaign:\n{line['broken']}")
    return line
