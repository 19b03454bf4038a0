"""``with harness.watch():`` around a training, and a whole script watched."""

from __future__ import annotations

import contextlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config import processes_here
from harness.errors import UsageError
from harness.rehearsal.places import Places, Script
from harness.watching.options import WatchOptions
from harness.watching.watcher import Watcher

_WATCHING: list[Watcher] = []


@contextlib.contextmanager
def watch(
    losses: Sequence[str] = (),
    range: tuple[float | None, float | None] = (None, None),
    *,
    bundles_dir: str | Path | None = None,
    most: int | None = None,
    largest: int | None = None,
    windows: int | None = None,
) -> Iterator[Watcher]:
    """Watch the training in the block, in this thread: what breaks a rule is told once, and kept as a bundle.

        with harness.watch(["my_package.losses:SsimLoss"], range=(0, 2)):
            train()

    Nothing that the block does is changed, and nothing is raised into it; an error of the watching itself ends it.

    Args:
        losses: import paths of the losses that are watched: classes of modules, or functions. By default every module
            that gives a single floating number with a gradient, and trains no parameters itself.
        range: lowest and highest value of the named losses, ``None`` for no bound. Without either, a loss under 0 is
            told of if float64 gives at least 0 for the same inputs, and the two are 5e-4 apart.
        bundles_dir: where bundles are written; ``.harness/bundles`` by default.
        most: bundles that this process writes at most (8).
        largest: bytes of the tensors in each (64 MiB).
        windows: how many of the last windows are in each (8).

    Yields:
        The watcher; its ``keeper.bundles`` are the paths of what was written.

    Raises:
        UsageError: one of these is out of its range, or this process is watched already.
    """
    given = {"most": most, "largest": largest, "windows": windows}
    given["folder"] = None if bundles_dir is None else str(bundles_dir)  # type: ignore[assignment]
    chosen = {name: value for name, value in given.items() if value is not None}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Script(path=main or str(Path.cwd() / "script"))
    with watched(script, WatchOptions(tuple(losses), *range, **chosen)) as watcher:  # type: ignore[arg-type]
        yield watcher


@contextlib.contextmanager
def watched(script: Script, options: WatchOptions) -> Iterator[Watcher]:
    """Watch the block as this script's.

    Raises:
        UsageError: this process is watched already.
    """
    if _WATCHING:
        raise UsageError("this process is watched already: leave one harness.watch() out.")
    watcher = Watcher(Places(script), options)
    _WATCHING.append(watcher)
    try:
        with watcher:
            yield watcher
    finally:
        _WATCHING.clear()


def run_watched(script: Script, options: WatchOptions, pretend_cuda: bool) -> None:
    """Run a script as Python itself would, watched; what it raises, ``SystemExit`` too, comes out."""
    sys.argv = [script.path or script.module, *script.arguments]
    sys.path[0] = str(Path(script.path).resolve().parent) if script.path else str(Path.cwd())
    with contextlib.ExitStack() as stack:
        if pretend_cuda:
            from harness.pretence import pretend_cuda as pretended

            stack.enter_context(pretended(processes_here()))  # a GPU for each
        stack.enter_context(watched(script, options))
        if script.module:
            runpy.run_module(script.module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script.path, run_name="__main__")
