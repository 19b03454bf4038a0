"""``harness watch -- train.py …``: a whole training run, watched on its own hardware."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import one_line


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "watch",
        help="watch a training script, and keep a bundle of what breaks a rule",
        description="Run a training script as it is, on its own hardware, and only look: what breaks a rule is told "
        "once, with the script's line, and kept as a bundle that harness replay and harness shrink take. The exit code "
        "is the script's own.",
        epilog="example: harness watch --loss my_package.losses:SsimLoss --range 0,2 -- train.py --epochs=100",
    )
    parser.add_argument(
        "--loss", action="append", default=[], metavar="SPEC",
        help="watch the calls of this loss, package.module:name of a module's class or a function (repeatable; every "
        "module that gives a single number with a gradient and trains nothing itself)",
    )  # fmt: skip
    parser.add_argument(
        "--range", metavar="LOW,HIGH", help="where the named losses' values belong; either may be empty"
    )
    parser.add_argument("--bundles-dir", metavar="DIR", help="write bundles there (.harness/bundles)")
    parser.add_argument("--most-bundles", type=int, metavar="N", help="write no more than so many, each process (8)")
    parser.add_argument("--bundle-mib", type=float, metavar="N", help="MiB of tensors that a bundle may have (64)")
    parser.add_argument("--windows", type=int, metavar="N", help="keep the calls of so many last windows (8)")
    parser.add_argument("--pretend-cuda", action="store_true", help="pretend CUDA, for a script that needs a GPU")
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, metavar="-- SCRIPT …", help="the script, or -m MODULE, and its arguments"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Become the script's process; this returns only in what stands in for it."""
    words = options.script[1:] if options.script[:1] == ["--"] else options.script
    order = _script(words) | {"options": _options(options), "pretend_cuda": options.pretend_cuda}
    sys.stdout.flush()
    sys.stderr.flush()
    # The handlers of signals that this command has set up, and all else of it, end here.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    os.execv(sys.executable, [sys.executable, *flags, "-m", "harness.watching", json.dumps(order)])


def _options(options: argparse.Namespace) -> dict[str, Any]:
    from harness.watching.options import WatchOptions

    low, high = _range(options.range)
    given = {
        "low": low,
        "high": high,
        "folder": options.bundles_dir,
        "most": options.most_bundles,
        "largest": None if options.bundle_mib is None else round(options.bundle_mib * 2**20),
        "windows": options.windows,
    }
    return WatchOptions(tuple(options.loss), **{k: v for k, v in given.items() if v is not None}).as_json()


def _range(text: str | None) -> tuple[float | None, float | None]:
    if text is None:
        return None, None
    parts = text.split(",")
    try:
        low, high = (float(part) if part.strip() else None for part in parts)
    except ValueError:
        raise UsageError(
            f"--range is {text!r}, but must be two numbers, such as 0,2 or 0, for no upper bound."
        ) from None
    return low, high


def _script(words: list[str]) -> dict[str, Any]:
    if not words:
        raise UsageError("nothing to watch: name the script after --, as in harness watch -- train.py --lr 1e-3")
    if words[0] == "-m":
        if len(words) < 2:
            raise UsageError("-m needs a module's name.")
        return {"path": "", "module": words[1], "arguments": words[2:]}
    if not Path(words[0]).is_file():
        raise UsageError(f"there is no script {one_line(words[0])}.")
    return {"path": words[0], "module": "", "arguments": words[1:]}
