"""``harness shrink BUNDLE``: the loss that went wrong, on a small piece of its inputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "shrink",
        help="crop a bundle's loss to a small case that still goes wrong",
        description="Crop the images that a bundle's loss was given to fewer than 32 pixels a side, so that the loss "
        "still goes wrong, and write them as a bundle of their own. Exit 0, or 5 where it stays larger. This imports "
        "the code that the bundle names.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle's folder, as harness watch leaves them")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write it there (beside it, with -small at the end)")
    parser.add_argument("--precision", metavar="NAME", help="shrink under this precision instead of the bundle's")
    parser.add_argument("--subject-root", metavar="DIR", help="put this checkout first on the import path")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Shrink, and give the exit code."""
    from harness.findings.bundles.bundle import read_bundle
    from harness.findings.bundles.replay import Replayer
    from harness.findings.bundles.shrink import TARGET, shrink

    path: Path = options.bundle
    out = options.out or path.with_name(f"{path.name}-small")
    if out.exists():
        raise UsageError(f"{out} is there already: name another folder with --out.")
    bundle = read_bundle(path)
    found = shrink(bundle, Replayer(bundle, str(path), options.precision, options.subject_root), path.name)
    found.bundle.write(out)
    print(f"{found.bundle.sentence} ({found.runs} runs)")
    print(f"  replay: harness replay {out}")
    if not found.is_small:
        print(f"  no piece under {TARGET}×{TARGET} goes wrong")
    return ExitCode.HELD if found.is_small else ExitCode.INCOMPLETE
