from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.publishing.projection import load_config
from star_platform.publishing.scaffold import write_feature_repo
from star_platform.publishing.usage import UsageCount, UsageCounter, read_usage
from star_platform.publishing.usage_sinks import SqliteUsage, sink_of, store_family
from tests.publishing.stores import KINDS, use_store

NOON = 1_800_000_000.0
TODAY = date(2027, 1, 15)


class Memory:
    """A sink that can be switched off."""

    def __init__(self) -> None:
        self.sums: dict[tuple[object, ...], list[int]] = {}
        self.down = False
        self.calls = 0

    def add(self, counts: Sequence[UsageCount]) -> None:
        self.calls += 1
        if self.down:
            raise OSError("down")
        for count in counts:
            kept = self.sums.setdefault((count.consumer, count.node, count.release, count.day), [0, 0])
            kept[0] += count.reads
            kept[1] += count.vectors

    def read(self) -> list[UsageCount]:
        return [UsageCount(*key, *sums) for key, sums in self.sums.items()]  # type: ignore[arg-type]


def counter(sink: Memory) -> UsageCounter:
    return UsageCounter(sink, interval=None, clock=lambda: NOON)


@pytest.fixture(params=KINDS)
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A feature repository for each kind of online store."""
    path = tmp_path / "feature_repo"
    write_feature_repo(path, f"usage_{os.getpid()}_{request.param.replace('-', '_')}")
    (tmp_path / ".star").mkdir()
    sqlite3.connect(tmp_path / ".star" / "feast_online.db").close()
    servers = {"redis": "redis_url", "star-redis": "redis_url", "postgres": "postgres_database"}
    server = servers.get(request.param)
    use_store(path, request.param, request.getfixturevalue(server) if server else "")
    return path


def test_every_store_adds_up_what_its_readers_count(repo: Path) -> None:
    config = load_config(repo)
    assert read_usage(repo) == []
    sinks = [sink_of(config), sink_of(config)]  # as two processes have
    for sink in sinks:
        one = UsageCounter(sink, interval=None, clock=lambda: NOON)
        one.add("ranker", "member", 2, 100)
        one.add("ranker", "member", 2, 5)
        one.add(None, "member", 1, 1)
        assert one.flush()
        assert one.flush()  # nothing is left to add twice
    assert read_usage(repo) == [
        UsageCount(None, "member", 1, TODAY, 2, 2),
        UsageCount("ranker", "member", 2, TODAY, 4, 210),
    ]


def test_families_are_told_without_their_libraries(repo: Path) -> None:
    family = store_family(load_config(repo))
    assert family is not None
    assert family in repo.joinpath("feature_store.yaml").read_text().lower()


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(1, 3), st.integers(0, 500), st.booleans())))
def test_no_count_is_lost_or_doubled_by_a_store_that_comes_and_goes(
    reads: list[tuple[str | None, int, int, bool]],
) -> None:
    sink = Memory()
    one = counter(sink)
    expected: dict[tuple[object, ...], list[int]] = {}
    for consumer, release, vectors, down in reads:
        one.add(consumer, "member", release, vectors)
        sums = expected.setdefault((consumer, "member", release, TODAY), [0, 0])
        sums[0] += 1
        sums[1] += vectors
        sink.down = down
        assert one.flush() is not down
    sink.down = False
    assert one.flush()
    assert sink.sums == expected


def test_threads_count_together() -> None:
    sink = Memory()
    one = counter(sink)
    threads = [threading.Thread(target=lambda: [one.add("a", "member", 1, 2) for _ in range(2_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        one.flush()
    assert one.flush()
    assert sink.sums == {("a", "member", 1, TODAY): [16_000, 32_000]}


def test_counts_reach_the_sink_by_themselves() -> None:
    sink = Memory()
    one = UsageCounter(sink, interval=0.01, clock=lambda: NOON)
    sink.down = True
    one.add("a", "member", 1, 2)
    while sink.calls < 2:  # a sink that fails does not end the thread
        pass
    sink.down = False
    while not sink.sums:
        pass
    assert sink.sums == {("a", "member", 1, TODAY): [1, 2]}


def test_a_read_only_or_missing_database_is_nobodys_problem(tmp_path: Path) -> None:
    write_feature_repo(tmp_path / "feature_repo", "nothing")
    one = UsageCounter(sink_of(load_config(tmp_path / "feature_repo")), interval=None)
    one.add("a", "member", 1, 2)
    assert not one.flush()
    assert not (tmp_path / ".star" / "feast_online.db").exists()
    assert read_usage(tmp_path / "feature_repo") == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_count_for_themselves(tmp_path: Path, method: str) -> None:
    """Counts of before the fork are the parent's; a child's are flushed when it ends, though it never calls flush."""
    write_feature_repo(tmp_path / "feature_repo", "children")
    (tmp_path / ".star").mkdir()
    sqlite3.connect(tmp_path / ".star" / "feast_online.db").close()
    database = tmp_path / ".star" / "feast_online.db"
    one = UsageCounter(SqliteUsage(database, "children"), interval=None)
    one.add("parent", "member", 1, 1)
    context = multiprocessing.get_context(method)
    arguments = (database, one if method == "fork" else None)
    children = [context.Process(target=_count_in_child, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert one.flush()
    counts = {(count.consumer, count.reads, count.vectors) for count in read_usage(tmp_path / "feature_repo")}
    assert counts == {("parent", 1, 1), ("child", 2, 14)}


def _count_in_child(database: Path, one: UsageCounter | None) -> None:
    one = one or UsageCounter(SqliteUsage(database, "children"), interval=None)
    one.add("child", "member", 1, 7)


def test_clients_of_one_store_share_a_counter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_feature_repo(tmp_path / name / "feature_repo", name)
    a, b = (load_config(tmp_path / name / "feature_repo") for name in ("a", "b"))
    again = load_config(tmp_path / "a" / "feature_repo")
    assert UsageCounter.for_store(None, a) is UsageCounter.for_store(None, again)
    assert UsageCounter.for_store(None, a) is not UsageCounter.for_store(None, b)
