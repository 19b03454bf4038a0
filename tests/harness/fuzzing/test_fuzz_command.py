"""``harness fuzz`` as a person runs it: killed and begun again, in shards, over Redis; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import ExitCode
from harness.fuzzing.campaign_folder import opened
from harness.fuzzing.summary import findings
from harness.fuzzing.units import Shard
from tests.harness.engine.processes import wait_until_gone

TRIED = Path(__file__).with_name("tried.py")
SMALL = (
    *("--truth", "mse", "--property", "finite", "--property", "repeatable", "--precision", "float32"),
    *("--max-examples", "20", "--workers", "1"),
)


def _fuzz(folder: Path, *arguments: str, loss: str = "dark") -> tuple[int, dict[str, Any]]:
    """In this process, all that it writes under the folder: the exit code, and the report."""
    report = folder / "report.json"
    where = ("--cases-dir", str(folder / ".harness" / "cases"), "--baseline", str(folder / "baseline.json"))
    code = main(["fuzz", "--loss", f"{TRIED}:{loss}", *SMALL, *where, "--json", str(report), *arguments])
    return code, json.loads(report.read_text()) if report.exists() else {}


def _units(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("units/*/*.json")}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_campaign_killed_three_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Some 30 s: five commands, each of which imports torch twice."""
    command = [sys.executable, "-m", "harness", "fuzz", "--loss", f"{TRIED}:slow", *SMALL, "--rounds", "10"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    undisturbed = subprocess.Popen([*command, "--campaign", "one"], cwd=whole, stdout=subprocess.DEVNULL)
    campaign = killed / ".harness" / "campaigns" / "one"
    before: dict[Path, bytes] = {}
    for kill in range(3):
        with (killed / f"output-{kill}").open("wb") as output:
            process = subprocess.Popen(
                [*command, "--campaign", "one"], cwd=killed, stdout=output, stderr=output, start_new_session=True
            )
            deadline = time.monotonic() + 60.0
            while len(_units(campaign)) < len(before) + 3 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert process.poll() is None, (killed / f"output-{kill}").read_text()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert wait_until_gone(killed) == set()
        after = _units(campaign)
        # What had a record has the very same one.
        assert after.items() >= before.items()
        before = after
    done = subprocess.run(
        [*command, "--campaign", "one", "--json", "r.json"], cwd=killed, capture_output=True, text=True
    )
    assert done.returncode == ExitCode.VIOLATED, done.stdout + done.stderr
    assert _units(campaign).items() >= before.items()
    # It ran what was left, no more.
    assert json.loads((killed / "r.json").read_text())["this_run"]["units"] == 20 - len(before) > 0
    assert undisturbed.wait(timeout=120.0) == ExitCode.VIOLATED
    other = opened(whole / ".harness" / "campaigns" / "one")
    assert findings(opened(campaign).records()) == findings(other.records())
    assert {p.name for p in (campaign / "cases").iterdir()} == {p.name for p in other.cases.iterdir()}


@pytest.mark.slow
def test_a_run_goes_on_merges_and_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some 15 s: three commands that start a process which imports torch."""
    one, other = tmp_path / "one", tmp_path / "other"
    shared = ("--db", str(tmp_path / "shared"), "--rounds", "3")
    code, first = _fuzz(one, "--shard", "0/2", *shared)
    assert (code, first["units"], first["missing"], first["shard"]) == (ExitCode.VIOLATED, 3, 0, "0/2")
    assert first["this_run"]["units"] == 3
    found = {path.name for path in (tmp_path / "shared").iterdir()}
    assert found == {path.name for path in next(one.rglob("campaigns/*/cases")).iterdir()} != set()
    # The other shard has the first one's cases, and tries its share of them before its own units.
    capsys.readouterr()
    code, second = _fuzz(other, "--shard", "1/2", *shared)
    campaign = other / ".harness" / "campaigns" / "dark-seed0"
    assert found <= {path.name for path in (campaign / "examples").iterdir()}
    assert all(example["status"] == "violated" for example in second["examples"])
    # A damaged record is named, and its unit alone done again.
    record = next(campaign.rglob("units/*/*.json"))
    whole = record.read_text()
    record.write_text(whole[:-20])
    capsys.readouterr()
    _, mended = _fuzz(other, "--shard", "1/2", *shared)
    assert record.name in capsys.readouterr().out
    assert mended["this_run"]["units"] == 1
    assert mended["results"] == second["results"]
    assert {**json.loads(record.read_text()), "seconds": 0, "digest": ""} == {
        **json.loads(whole),
        "seconds": 0,
        "digest": "",
    }
    sources = [str(next(folder.rglob("campaigns/*"))) for folder in (one, other)]
    code, merged = _fuzz(tmp_path, "--merge", *sources, "--rounds", "3")
    assert (code, merged["units"], merged["missing"]) == (ExitCode.VIOLATED, 6, 0)
    assert "merged 6 records" in capsys.readouterr().out
    assert len(opened(tmp_path / ".harness" / "campaigns" / "merged").done()) == 6


@pytest.mark.slow
def test_two_shards_share_over_redis(tmp_path: Path, redis_url: str) -> None:
    """Some 15 s. The second shard has what the first one found, and tries its share of it."""
    import redis

    redis.Redis.from_url(redis_url).flushall()
    shared = ("--db", redis_url, "--rounds", "6", "--max-examples", "60")
    reports = [_fuzz(tmp_path / str(i), "--shard", f"{i}/2", *shared)[1] for i in range(2)]
    folders = [tmp_path / str(i) / ".harness" / "campaigns" / "dark-seed0" for i in range(2)]
    first = {path.name for path in (folders[0] / "cases").glob("*")}
    second = {path.name for path in (folders[1] / "cases").glob("*")}
    assert first
    assert {path.name for path in (folders[1] / "examples").glob("*")} == first
    tried = {one["case"]: one["status"] for one in reports[1]["examples"]}
    assert tried == {name: "violated" for name in first if Shard(1, 2).takes(zlib.crc32(name.encode()))}
    (key,) = redis.Redis.from_url(redis_url).keys()
    assert {name.decode() for name in redis.Redis.from_url(redis_url).hkeys(key)} == first | second


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--shard", "3/2"), "of 2 shards the first is 0/2 and the last 1/2"),
        (("--shard", "one"), "must be i/n"),
        (("--max-time", "soon"), "--max-time is 'soon', but must be a time"),
        (("--max-time", "0"), "--max-time is '0'"),
        (("--rounds", "0"), "--rounds is 0, but must be from 1"),
        (("--ray-address", "auto"), "--ray-address is for --engine ray"),
        (("--campaign", ".."), "no name of a folder"),
        (("--merge", "nowhere"), "nowhere"),
    ],
)
def test_what_can_not_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, _ = _fuzz(tmp_path, *arguments)
    error = capsys.readouterr().err
    assert code == ExitCode.USAGE
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / ".harness").exists()


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "try: main(['fuzz', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'hypothesis', 'ray', 'redis'} & set(sys.modules), 'too much was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"--shard I/N", done.stdout)
