"""Cases shared through a folder, and through a real Redis server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.findings.case_file import read_case_file
from harness.fuzzing.campaign_folder import CampaignFolder, opened
from harness.fuzzing.databases import Database, Exchange, FolderDatabase, database_of
from harness.subject_spec import SubjectKind, SubjectSpec
from tests.harness.fuzzing.conftest import free_port
from tests.harness.fuzzing.made import PLAN, record


@pytest.fixture(params=["folder", "file URL", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_url")
        # Another number: an empty database for each test.
        import redis

        redis.Redis.from_url(found).flushall()
        return found
    folder = tmp_path / "shared cases"
    return str(folder) if request.param == "folder" else folder.as_uri()


def _files(index: int) -> dict[str, str]:
    return {name: json.dumps(content) for name, content in record(index).files.items()}


VIOLATED = [i for i in range(20) if record(i).files]


def _shard(path: Path, url: str) -> tuple[CampaignFolder, Exchange]:
    folder = opened(path, PLAN)
    return folder, Exchange(database_of(url, PLAN), folder, PLAN)


def test_two_shards_share_what_they_found(tmp_path: Path, url: str) -> None:
    (one, from_one), (other, from_other) = _shard(tmp_path / "one", url), _shard(tmp_path / "other", url)
    first, second = VIOLATED[:2]
    one.add(record(first))
    from_one.give(_files(first))
    taken = from_other.take()
    assert [path.name for path in taken] == list(_files(first))
    assert read_case_file(taken[0]).message == "too low"
    assert taken[0].parent == other.examples
    # Its own doesn't come back, and nothing comes twice.
    assert from_one.take() == from_other.take() == []
    from_other.give(_files(second))
    assert [path.name for path in from_one.take()] == list(_files(second))


def test_what_is_of_another_campaign_is_passed_over(tmp_path: Path, url: str) -> None:
    database = database_of(url, PLAN)
    (name, text), *_ = _files(VIOLATED[0]).items()
    content = json.loads(text)
    database.put(name, text)
    database.put(name.replace("range", "symmetry"), json.dumps({**content, "property": "symmetry"}))
    database.put("loss.range.float32.other.json", json.dumps({**content, "subject": {"spec": "other.py:loss"}}))
    database.put("loss.range.float32.broken.json", "{")
    _, exchange = _shard(tmp_path / "one", url)
    assert [path.name for path in exchange.take()] == [name]
    assert sorted(path.name for path in (tmp_path / "one" / "examples").iterdir()) == [name]


def test_names_that_lead_elsewhere_are_not_taken(redis_url: str, tmp_path: Path) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.flushall()
    database = database_of(redis_url, PLAN)
    database.put("loss.range.float32.abc.json", "{}")
    (key,) = client.keys()
    client.hset(key, "../../loss.range.float32.json", "{}")
    assert database.names() == {"loss.range.float32.abc.json"}


def test_each_subject_has_its_own_in_redis(redis_url: str) -> None:
    other = replace(PLAN, subjects={SubjectKind.LOSS: SubjectSpec("other.py:loss")})
    elsewhere = replace(PLAN, subjects={SubjectKind.LOSS: SubjectSpec("losses.py:loss", "/two")})
    database_of(redis_url, PLAN).put("loss.range.float32.abc.json", "{}")
    assert "loss.range.float32.abc.json" not in database_of(redis_url, other).names()
    assert "loss.range.float32.abc.json" in database_of(redis_url, elsewhere).names()


class _Gone(Database):
    """A database that can't be had for a while."""

    def __init__(self, database: Database) -> None:
        self.gone, self._database = False, database

    def _there(self) -> Database:
        from harness.fuzzing.databases import DatabaseError

        if self.gone:
            raise DatabaseError("the server is away.")
        return self._database

    def names(self) -> set[str]:
        return self._there().names()

    def get(self, name: str) -> str | None:
        return self._there().get(name)

    def put(self, name: str, content: str) -> None:
        self._there().put(name, content)


def test_a_database_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    database = _Gone(FolderDatabase(tmp_path / "shared"))
    exchange = Exchange(database, opened(tmp_path / "one", PLAN), PLAN)
    database.gone = True
    exchange.give(_files(VIOLATED[0]))
    assert exchange.take() == []
    assert exchange.trouble == "the server is away."
    assert exchange.unsent == 1
    database.gone = False
    exchange.give(_files(VIOLATED[1]))
    assert (exchange.trouble, exchange.unsent) == ("", 0)
    assert len(database.names()) == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://host/", "must be a folder, file:///folder or redis"),
        ("file://host/folder", "must be a folder, file:///folder or redis"),
        ("mysql://me:secret@host/", "must be a folder"),
    ],
)
def test_other_urls_are_refused(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        database_of(url, PLAN)
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_named() -> None:
    pytest.importorskip("redis", reason="the package redis (extra cluster) isn't installed")
    url = f"redis://me:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(UsageError, match=r"can't be had .* is it running") as refused:
        database_of(url, PLAN)
    assert "secret" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_a_bad_number_of_a_database_is_named() -> None:
    pytest.importorskip("redis", reason="the package redis (extra cluster) isn't installed")
    with pytest.raises(UsageError, match="Redis server"):
        database_of("redis://127.0.0.1:port/0", PLAN)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be had"):
        database_of(str(tmp_path / "file"), PLAN)
