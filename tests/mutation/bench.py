"""A copy of the project in which mutants are judged, one at a time; the working tree is never touched."""

from __future__ import annotations

import ast
import compileall
import json
import os
import py_compile
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.guardian import Guardian, kill_group
from tests.mutation.mutants import Mutant
from tests.mutation.reached import Reached, digest_of, instrumented
from tests.mutation.targets import Stage, Target

# What tests read besides the packages themselves.
_COPIED = ("gslrm", "harness", "tests", "golden", "docs", "conformance", "pyproject.toml", "noxfile.py", "mkdocs.yml")
_COPIED_TEXTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "constraints.txt")
# A mutant may take so many times as long as the unmutated module, and these seconds besides, for what is first
# compiled or imported.
_TIMES, _BESIDES = 3.0, 30.0
# Of the processor's seconds; on a machine that does other things besides, the clock's are more.
_CLOCK = 8.0


class BrokenBenchError(Exception):
    """What judges can't be started, or is red without a mutant; says what to do."""


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant.

    Attributes:
        outcome: ``killed``, ``timeout`` or ``survived``.
        by: what found it; empty where nothing did.
        seconds: by the clock.
        cpu_seconds: of the processor.
    """

    outcome: str
    by: str
    seconds: float
    cpu_seconds: float


class Bench:
    """The copy, and the process in it that judges.

    Args:
        root: the project.
        target: what is judged; its stages are run without a mutant first.
        kept: where a narrowed target's tests are written down with what they reach. What is found there stands while
            no code has changed.
        anyway: it stands though code has changed; files of tests that are new or changed are then run whole.

    Raises:
        BrokenBenchError: they find a fault there.
    """

    def __init__(self, root: Path, target: Target, kept: Path | None = None, anyway: bool = False) -> None:
        self._target = target
        self._folder = Path(tempfile.mkdtemp(prefix="mutation-"))
        self.copy = self._folder / "project"
        self._compiled = self._folder / "compiled"
        self._judge: subprocess.Popen[bytes] | None = None
        self._guardian = Guardian()
        self._reached: Reached | None = None
        try:
            self._copied(root)
            self._limit = 3600.0
            began = time.monotonic()
            tests = target.tests
            others = [stage for stage in target.stages if stage not in tests]
            cpu_seconds = self._sound(others).cpu_seconds if others else 0.0
            if tests:
                self._reached = self._reaching(kept or self._folder / "reached.json", anyway)
                cpu_seconds += self._reached.cpu_seconds
            self.sound_seconds = time.monotonic() - began
        except BaseException:
            self.close()
            raise
        self._limit = _TIMES * cpu_seconds + _BESIDES

    def judge(self, mutant: Mutant) -> Verdict:
        """Put the mutant in its module's place, and see what finds it."""
        path = self.copy / mutant.file
        original = path.read_bytes()
        path.write_text(mutant.code, encoding="utf-8")
        try:
            return self._judged(self._stages(mutant, original.decode("utf-8")))
        finally:
            path.write_bytes(original)

    def _stages(self, mutant: Mutant, original: str) -> Sequence[Stage]:
        found = []
        for stage in self._target.stages:
            if stage["by"] == "catalogue":
                found.append({**stage, "file": mutant.file, "function": mutant.function})
            elif self._reached is None or stage not in self._target.tests:
                found.append(stage)
            else:
                in_body = _is_in_body(original, mutant.line)
                narrowed = self._reached.narrowed(mutant.file, mutant.function, in_body, self._test_files())
                # Where nothing reaches it, pytest would take all.
                found += [{**stage, **narrowed}] if narrowed["arguments"] else []
        return found

    def _sound(self, stages: Sequence[Stage], reached: Path | None = None) -> Verdict:
        sound = self._judged(stages, reached)
        if sound.outcome != "survived":
            raise BrokenBenchError(
                f"{self._target.name} is red without a mutant, by {sound.by or 'taking an hour'}: mend that first.\n"
                f"{self._printed()}"
            )
        return sound

    def _reaching(self, kept: Path, anyway: bool) -> Reached:
        """What each test reaches: as it was found before, or by running all."""
        code = sorted(path for path in self.copy.rglob("*") if path.suffix in (".py", ".toml"))
        digest = digest_of(code)
        found = Reached.read(kept)
        if found is not None and (anyway or found.digest == digest):
            return found
        files = {file: (self.copy / file).read_bytes() for file in self._target.files(self.copy)}
        folder = self._folder / "calls"
        folder.mkdir()
        try:
            for file, source in files.items():
                (self.copy / file).write_text(instrumented(source.decode("utf-8"), file), encoding="utf-8")
            cpu_seconds = self._sound(self._target.tests, folder).cpu_seconds
        finally:
            for file, source in files.items():
                (self.copy / file).write_bytes(source)
        tests = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
        found = Reached.of(folder, tests, digest, cpu_seconds, self._test_files())
        found.write(kept)
        return found

    def _test_files(self) -> dict[str, str]:
        """The digests of the files with tests among the target's folders."""
        (stage,) = self._target.tests
        paths = [path for folder in stage["arguments"] for path in sorted((self.copy / folder).rglob("test_*.py"))]
        found = {path.relative_to(self.copy).as_posix(): digest_of([path]) for path in paths}
        return {name: digest for name, digest in found.items() if not any(p in name for p in stage.get("without", ()))}

    def close(self) -> None:
        """End what runs, and take the copy away."""
        self._end_judge()
        self._guardian.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copied(self, root: Path) -> None:
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in (*_COPIED, *_COPIED_TEXTS):
            source = root / name
            if source.is_dir():
                shutil.copytree(source, self.copy / name, ignore=ignored)
            elif source.exists():
                self.copy.mkdir(exist_ok=True)
                shutil.copy2(source, self.copy / name)
        # Held to the source itself: by its time and size a mutant may look like the module that it stands for.
        checked = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.copy, quiet=2, invalidation_mode=checked)

    def _judged(self, stages: Sequence[Stage], reached: Path | None = None) -> Verdict:
        scratch = self._folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        compiled = scratch if self._target.compiles else self._compiled
        verdict = scratch / "verdict.json"
        order = {
            "stages": list(stages),
            "scratch": str(scratch),
            "compiled": str(compiled),
            "printed": str(scratch / "printed"),
            "verdict": str(verdict),
            "cpu_seconds": self._limit + 1,
            "reached": str(reached or ""),
        }
        began, cpu = time.monotonic(), _children_seconds(self._judge)
        code = self._ended(json.dumps(order).encode() + b"\n", _CLOCK * self._limit)
        seconds, cpu = time.monotonic() - began, _children_seconds(self._judge) - cpu
        if code is None or code == -signal.SIGXCPU or code == -signal.SIGKILL:
            return Verdict("timeout", f"more than {self._limit:.0f} s", seconds, cpu)
        if not verdict.exists():
            return Verdict("killed", f"the process ends with {code}", seconds, cpu)
        by = json.loads(verdict.read_text())["by"]
        return Verdict("killed" if by else "survived", by, seconds, cpu)

    def _ended(self, order: bytes, seconds: float) -> int | None:
        judge = self._judge or self._started()
        assert judge.stdin is not None
        assert judge.stdout is not None
        judge.stdin.write(order)
        judge.stdin.flush()
        child = int(judge.stdout.readline() or 0)
        if not child:
            raise BrokenBenchError("the process that judges is gone.")
        self._guardian.watch(child)
        ready, _, _ = select.select([judge.stdout], [], [], seconds)
        # It, where it is still there, and whatever it started.
        kill_group(child)
        code = int(judge.stdout.readline())
        self._guardian.forget(child)
        return code if ready else None

    def _started(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(self.copy), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self._judge = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.judge", *self._target.imported],
            cwd=self.copy,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "judge.txt").open("wb"),
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        self._guardian.watch(self._judge.pid)
        assert self._judge.stdout is not None
        if self._judge.stdout.readline() != b"ready\n":
            raise BrokenBenchError(f"the process that judges doesn't start.\n{self._printed()}")
        return self._judge

    def _end_judge(self) -> None:
        if self._judge is not None:
            kill_group(self._judge.pid)
            self._judge.wait()
            self._guardian.forget(self._judge.pid)
            self._judge = None

    def _printed(self) -> str:
        texts = [path.read_text(errors="replace") for path in self._folder.rglob("printed")]
        judge = self._folder / "judge.txt"
        return "\n".join([*texts, judge.read_text(errors="replace") if judge.exists() else ""])[-4000:].strip()


def _children_seconds(judge: subprocess.Popen[bytes] | None) -> float:
    """The processor's seconds of all that the judge has forked and waited for; 0 where that can't be told."""
    if judge is None:
        return 0.0
    try:
        fields = Path(f"/proc/{judge.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _is_in_body(source: str, line: int) -> bool:
    """Whether a line is in a function's body, which a call runs, and not in what an import runs."""
    innermost = None
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= line <= (node.end_lineno or first):
                # Wider ones come first.
                innermost = node
    return isinstance(innermost, ast.FunctionDef) and line >= innermost.body[0].lineno
