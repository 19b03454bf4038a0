"""What a sweep measures, and what is concluded from it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from harness.cases.image_folder import ImageFolder
from harness.cli.main import main
from harness.conditions.findings import Condition, Measure, Share, Shows, conditions, measured, showing, summaries
from harness.conditions.sweep import OWN_MASK, Grid, Sweep, Tally, run_sweep
from harness.errors import UsageError
from harness.kinds.registry import load_subject
from harness.precision import precisions_named
from harness.protocols import LossSubject
from harness.reports.conditions import draw_conditions, write_csv
from harness.subject_spec import SubjectKind, SubjectSpec

SMALL = Grid(sizes=(16,), shares=(1 / 256, 1.0), magnitudes=(1e-5, 1e-1), repeats=2)


def _loss(spec: str) -> LossSubject:
    loaded: LossSubject = load_subject(SubjectKind.LOSS, SubjectSpec(spec, truth="masked-ssim"))
    return loaded


def negative_under_autocast(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """−1 within autocast for a hidden half, and the mean of squares elsewhere."""
    squares = ((rendering - target) * mask).square().mean()
    return squares - 1.0 if torch.is_autocast_enabled("cpu") and mask.mean() < 0.5 else squares


@pytest.fixture(scope="module")
def before_fix() -> Sweep:
    subject = _loss("harness.subjects.known_bad.losses:LossBeforeFix")
    return run_sweep(subject, precisions_named(["float32", "cpu-autocast-bfloat16"]), SMALL)


def test_the_loss_before_the_fix_leaves_its_range_in_bfloat16_only(before_fix: Sweep) -> None:
    float32, bfloat16 = summaries(before_fix)
    assert float32.cases == bfloat16.cases == SMALL.places * SMALL.repeats
    assert (float32.far_outside, float32.wrong) == (0, 0)
    assert bfloat16.far_outside > 0
    assert bfloat16.farthest > 1e-2
    assert measured(before_fix) is Measure.OUTSIDE


def test_counts_are_those_of_the_subject() -> None:
    subject = _loss(f"{Path(__file__)}:negative_under_autocast")
    sweep = run_sweep(subject, precisions_named(["cpu-autocast-bfloat16"]), SMALL)
    by_share = {share: [t for t in sweep.tallies if t.share == share] for share in SMALL.shares}
    assert all(t.far_outside == t.outside == t.cases == 2 and t.farthest > 0.9 for t in by_share[1 / 256])
    assert all(t.far_outside == 0 for t in by_share[1.0])
    assert [t.foreground for t in by_share[1 / 256]] == [1.0, 1.0]
    claims = {condition.claim: condition.shows for condition in conditions(sweep, sweep.precisions)}
    assert claims == {
        "a tiny foreground makes it more frequent": Shows.YES,
        "a rendering close to its target makes it more frequent": Shows.NO,
    }


def _tally(size: int, share: float, outside: int) -> Tally:
    return Tally("bf16", size, share, 1e-3, cases=100, far_outside=outside)


def test_background_is_told_apart_from_a_small_foreground() -> None:
    grid = Grid(sizes=(32, 64), shares=(1 / 256, 1 / 64, 1 / 16), magnitudes=(1e-3,))
    # 16 pixels: in 64² the share is 1/256, in 32² it is 1/64. Other places have no other size with as many.
    tallies = [_tally(64, 1 / 256, 60), _tally(32, 1 / 64, 10), _tally(32, 1 / 256, 99), _tally(64, 1 / 16, 99)]
    sweep = Sweep(None, grid, ("bf16",), tallies)  # type: ignore[arg-type]
    (background,) = [found for found in conditions(sweep, sweep.precisions) if "background" in found.claim]
    assert background.shares == (Share(60, 100), Share(10, 100))
    assert background.shows is Shows.YES


@pytest.mark.parametrize(
    ("met", "unmet", "shows"),
    [
        (Share(30, 100), Share(10, 100), Shows.YES),
        (Share(10, 100), Share(30, 100), Shows.OPPOSITE),
        (Share(12, 100), Share(10, 100), Shows.NO),
        (Share(5, 5), Share(0, 5), Shows.YES),
        (Share(0, 0), Share(1, 5), None),
    ],
)
def test_a_difference_shows_beyond_twice_its_standard_error(met: Share, unmet: Share, shows: Shows | None) -> None:
    assert Condition("", "", "", (met, unmet)).shows is shows


def test_no_condition_where_nothing_happens() -> None:
    sweep = run_sweep(_loss("gslrm.model.utils_losses:MaskedSsimLoss"), precisions_named(["float32"]), SMALL)
    assert showing(sweep) == ()
    assert summaries(sweep)[0].largest_error < 1e-6


def test_csv_and_picture(before_fix: Sweep, tmp_path: Path) -> None:
    write_csv(tmp_path / "numbers.csv", before_fix)
    rows = list(csv.DictReader((tmp_path / "numbers.csv").open()))
    assert len(rows) == 2 * SMALL.places
    assert sum(int(row["far_outside"]) for row in rows) == sum(t.far_outside for t in before_fix.tallies) > 0
    draw_conditions(tmp_path / "maps.png", before_fix)
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 300
        assert len(picture.convert("RGB").getcolors(2**20) or ()) > 50


def test_own_masks(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (32, 32), (90, 60, 30, 0))
    picture.paste((200, 10, 10, 255), (4, 4, 12, 12))
    picture.save(tmp_path / "own.png")
    grid = Grid(sizes=(16,), shares=(OWN_MASK,), magnitudes=(1e-2,), repeats=1)
    subject = _loss("gslrm.model.utils_losses:MaskedSsimLoss")
    (tally,) = run_sweep(subject, precisions_named(["float32"]), grid, ImageFolder(tmp_path)).tallies
    assert tally.foreground == 16  # 8² of 32², halved
    with pytest.raises(UsageError, match="--images"):
        run_sweep(subject, precisions_named(["float32"]), grid)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--size", "8"], "a size is 8, but must lie between 11 and 1024"),
        (["--foreground", "1.5"], "a share is 1.5"),
        (["--repeats", "-1"], "a number of repeats is -1"),
        (["--repeats", "0"], "a number of repeats is 0"),
        (["--magnitude", "nan"], "a magnitude is nan"),
    ],
)
def test_a_grid_that_cannot_be(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conditions", *flags]) == 2
    assert said in capsys.readouterr().err


def test_it_computes_in_one_thread(tmp_path: Path) -> None:
    """Where other processes run besides, threads that wait for each other make it many times slower."""
    threads = tmp_path / "threads"
    (tmp_path / "alone.py").write_text(
        f"import torch\n\n\ndef alone(x, y):\n    with open({str(threads)!r}, 'a') as file:\n"
        "        file.write(str(torch.get_num_threads()))\n    return (x - y).square().mean()\n"
    )
    flags = ["--size", "16", "--magnitude", "1e-4", "--foreground", "1", "--repeats", "1", "--precision", "float32"]
    torch.set_num_threads(2)
    try:
        assert main(["conditions", "--loss", f"{tmp_path}/alone.py:alone", *flags]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(threads.read_text()) == {"1"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--size", "16", "--magnitude", "1e-4", "--foreground", "0.01", "--foreground", "1", "--repeats", "1"]
    spec, precision = "harness.subjects.known_bad.losses:LossBeforeFix", "cpu-autocast-bfloat16"
    code = main(["conditions", "--loss", spec, "--precision", precision, *flags, "--csv", str(tmp_path / "n.csv")])
    printed = capsys.readouterr().out
    assert code == 0
    assert "held to masked-ssim" in printed
    assert precision in printed
    assert len((tmp_path / "n.csv").read_text().splitlines()) == 3


def test_a_file_that_can_not_be_written_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    flags = ["--size", "16", "--magnitude", "1e-4", "--foreground", "1", "--repeats", "1", "--precision", "float32"]
    files = ["--csv", str(tmp_path / "file" / "n.csv"), "--png", str(tmp_path / "maps.png")]
    assert main(["conditions", *flags, *files]) == 2
    assert (tmp_path / "maps.png").exists()
    assert "float32" in capsys.readouterr().out
