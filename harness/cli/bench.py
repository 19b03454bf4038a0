"""``harness bench``: how fast is the loss beside its peers, and how fast the harness?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cli.check import add_call_options, add_loss_options, add_subject_options, given_subject, write_reports
from harness.config import load_settings
from harness.errors import ExitCode, UsageError

_SIZES = ("12x256", "2x64", "2x512")
_SHARES = (1.0, 0.05, 0.005)
_ROUNDS, _RUNS = 9, 3


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="time a loss beside its installed peers, or the harness itself",
        description="Time a loss and whatever public SSIM losses are installed, in turns on the same images, forward "
        "alone and with backward; with their memory and accuracy. Measures, and judges nothing: the exit code is 0.",
    )
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    variant = "time the loss constructed with this argument too; repeatable, each is a line of its own"
    parser.add_argument("--variant", action="append", metavar="NAME=VALUE", default=[], help=variant)
    parser.add_argument("--only", metavar="WORD", help="only losses whose name has this in it, and the baseline")
    size = f"images and side in pixels (repeatable; {', '.join(_SIZES)})"
    parser.add_argument("--size", action="append", metavar="NxPX", help=size)
    shares = ", ".join(f"{share:g}" for share in _SHARES)
    foreground = f"share of the pixels that the mask shows (repeatable; {shares})"
    parser.add_argument("--foreground", action="append", type=float, metavar="SHARE", help=foreground)
    parser.add_argument("--no-islands", action="store_true", help="without the mask of five islands far apart")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds, of which the median is told ({_ROUNDS})")
    parser.add_argument("--threads", type=int, metavar="N", help="threads within an op (torch's own choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the losses run (cpu)")
    harness = "time the harness' own commands instead: start, first fault, a whole conviction, the default check"
    parser.add_argument("--harness", action="store_true", help=harness)
    parser.add_argument("--runs", type=int, metavar="N", help=f"runs of each of the harness' commands ({_RUNS})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw times against the foreground's share there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    settings = load_settings(given_subject(options))
    if settings.loss is None:
        raise UsageError("nothing to time: name a loss with --loss, or in pyproject.toml under [tool.harness].")
    for name in ("rounds", "runs", "threads"):
        number = getattr(options, name)
        if number is not None and not 1 <= number <= 1000:
            raise UsageError(f"--{name} is {number}, but must be from 1 to 1000.")
    return _run_harness(options, settings.loss) if options.harness else _run_losses(options, settings)


def _run_losses(options: argparse.Namespace, settings: Any) -> int:
    sizes = [_size(text) for text in options.size or _SIZES]

    import torch

    from harness.bench.contenders import BASELINE, PEERS, loaded, variants
    from harness.bench.inputs import grid
    from harness.bench.timing import Benchmark, Mode, accuracy, timed
    from harness.reports.bench import benchmark_json, draw_benchmark, show_benchmark, write_benchmark_json
    from harness.reports.console import report_console
    from harness.reports.environment import environment
    from harness.reports.progress import ProgressBar
    from harness.subject_spec import SubjectKind

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; leave the option out to time on the CPU.")
    scenes = grid(sizes, options.foreground or _SHARES, not options.no_islands)
    own = variants(settings.subject(SubjectKind.LOSS), options.variant)
    contenders = [
        one for one in (*own, *PEERS) if options.only is None or options.only in one.name or one.name == BASELINE
    ]
    reports: list[tuple[Path, Callable[[Path, Benchmark], None]]] = []
    if options.json:
        reports.append(
            (options.json.absolute(), lambda path, b: write_benchmark_json(path, benchmark_json(b, environment())))
        )
    if options.png:
        reports.append((options.png.absolute(), draw_benchmark))
    if options.threads:
        torch.set_num_threads(options.threads)
    ready, left_out = loaded(contenders)
    benchmark = Benchmark(options.device, torch.get_num_threads(), options.rounds or _ROUNDS, left_out=left_out)
    console = report_console()
    with ProgressBar(console) as bar:
        bar.begin(len(scenes) * len(Mode))
        for scene in scenes:
            for mode in Mode:
                timed(benchmark, ready, scene, mode)
                bar.did(f"{scene.size}, {scene.foreground}")
    benchmark.accuracies.extend(accuracy(one) for one in ready if one.contender.name not in benchmark.left_out)
    unwritten = write_reports(reports, benchmark)
    show_benchmark(benchmark, console)
    if unwritten is not None:
        raise unwritten
    return ExitCode.HELD


def _run_harness(options: argparse.Namespace, loss: str) -> int:
    from harness.bench.harness_speed import commands, timed_commands
    from harness.reports.bench import harness_speed_json, show_harness_speed, write_benchmark_json
    from harness.reports.console import report_console
    from harness.reports.environment import environment

    if options.png:
        raise UsageError("--png draws losses' times; leave it out with --harness.")
    console = report_console()
    target = options.json.absolute() if options.json else None
    times = list(
        timed_commands(
            commands(loss),
            options.runs or _RUNS,
            lambda command, seconds: console.plain(f"{command.name}: {seconds:.1f} s"),
        )
    )
    show_harness_speed(times, console)
    if target is not None:
        write_benchmark_json(target, harness_speed_json(times, environment()))
    return ExitCode.HELD


def _size(text: str) -> tuple[int, int]:
    images, x, side = text.partition("x")
    if not (x and images.isdecimal() and side.isdecimal()):
        raise UsageError(f"--size takes images and side, as 12x256, not {text!r}.")
    return int(images), int(side)
