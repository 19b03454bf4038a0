"""A campaign on a local Ray cluster of two nodes, one of which is lost on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.fuzzing.campaign_folder import opened
from harness.fuzzing.plan import make_plan
from harness.fuzzing.records import UnitRecord
from harness.fuzzing.shard_run import Bounds, Processes, ShardRun
from harness.fuzzing.summary import findings
from harness.fuzzing.units import Shard
from tests.harness.fuzzing.test_shard_runs import settings_of

ROUNDS = 6


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each; the first is the head."""
    pytest.importorskip("ray", reason="the package ray (extra cluster) isn't installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_node_costs_no_finding(cluster: Any, tmp_path: Path) -> None:
    """A minute or two: Ray starts a process for each node and each worker, and each of these one that imports torch."""
    from harness.fuzzing.ray_engine import RayEngine

    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    settings = settings_of("dark")
    with Processes(settings) as processes:
        plan = make_plan(settings, processes.load())
        alone = list(ShardRun(plan.units, Shard(), Bounds(ROUNDS), ()).records(processes))
    run = ShardRun(plan.units, Shard(), Bounds(ROUNDS), done=(1,))
    folder = opened(tmp_path, plan)
    found: list[UnitRecord] = []
    lost = threading.Thread(target=cluster.remove_node, args=(node,), kwargs={"allow_graceful": False})
    for record in RayEngine(cluster.address)(folder, settings, run):
        if not found:
            # Both nodes have begun: while its shard is in hand, one of them is gone.
            lost.start()
        found.append(record)
        folder.add(record)
    lost.join()
    assert run.stopped == ""
    assert sorted(record.unit.index for record in found) == [i for i in range(4 * ROUNDS) if i != 1]
    assert findings(folder.records()) == findings(record for record in alone if record.unit.index != 1)


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray (extra cluster) isn't installed")
    from harness.fuzzing.ray_engine import RayEngine
    from tests.harness.fuzzing.made import PLAN

    run = ShardRun(PLAN.units, Shard(), Bounds(1), ())
    with pytest.raises(UsageError, match=r"no Ray cluster can be had at 127\.0\.0\.1:1:"):
        list(RayEngine("127.0.0.1:1")(opened(tmp_path, PLAN), PLAN.settings(), run))


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from harness.fuzzing.ray_engine import RayEngine
    from tests.harness.fuzzing.made import PLAN

    monkeypatch.setitem(sys.modules, "ray", None)
    run = ShardRun(PLAN.units, Shard(), Bounds(1), ())
    with pytest.raises(UsageError, match=r"pip install .*cluster"):
        list(RayEngine()(opened(tmp_path, PLAN), PLAN.settings(), run))
