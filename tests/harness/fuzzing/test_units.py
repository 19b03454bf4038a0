"""The numbered units of a campaign, and the shards that share them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from harness.engine.plan import Task
from harness.errors import UsageError
from harness.fuzzing.units import Shard, Units, shard_from
from harness.subject_spec import SubjectKind

GROUPS = tuple(
    (Task(SubjectKind.LOSS, name, precision),)
    for name in ("range", "finite", "identity")
    for precision in ("float32", "float16-inputs")
)


def test_each_round_has_each_group_once() -> None:
    units = Units(0, GROUPS)
    for round_ in range(3):
        of_round = [units[i] for i in range(6 * round_, 6 * round_ + 6)]
        assert {unit.round for unit in of_round} == {round_}
        assert Counter(unit.tasks for unit in of_round) == Counter(GROUPS)


def test_seeds_follow_from_campaign_property_precision_and_round() -> None:
    units, other = Units(0, GROUPS), Units(1, GROUPS)
    seeds = [units[i].seed for i in range(24)]
    assert len(set(seeds)) == 24
    assert not set(seeds) & {other[i].seed for i in range(24)}
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Where other properties are searched too, this one's seed stays what it is.
    fewer = Units(0, GROUPS[:2])
    of_range = {(u.tasks, u.round): u.seed for u in (units[i] for i in range(12))}
    assert all(of_range[(fewer[i].tasks, fewer[i].round)] == fewer[i].seed for i in range(4))


def test_another_process_has_the_same_units() -> None:
    code = (
        "from tests.harness.fuzzing.test_units import GROUPS, Units\n"
        "print([(u.seed, u.tasks[0].property) for u in (Units(5, GROUPS)[i] for i in range(9))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([(u.seed, u.tasks[0].property) for u in (Units(5, GROUPS)[i] for i in range(9))])


def test_groups_come_in_another_order_each_round() -> None:
    units = Units(0, GROUPS)
    orders = {tuple(units[i].tasks for i in range(6 * r, 6 * r + 6)) for r in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_share_all_units_and_none_twice(count: int) -> None:
    takers = Counter(number for i in range(count) for number in range(100) if Shard(i, count).takes(number))
    assert takers == Counter(range(100))


def test_shards_are_named() -> None:
    assert shard_from("0/1") == Shard()
    assert shard_from("2/3") == Shard(2, 3)
    assert str(Shard(2, 3)) == "2/3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3/2", "the first is 0/2 and the last 1/2"),
        ("2/2", "the first is 0/2 and the last 1/2"),
        ("0/0", "from 1 to"),
        ("-1/2", "must be i/n"),
        ("1", "must be i/n"),
        ("a/b", "must be i/n"),
        ("1/2/3", "must be i/n"),
        ("٣/٤", "must be i/n"),
    ],
)
def test_other_shards_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        shard_from(text)
