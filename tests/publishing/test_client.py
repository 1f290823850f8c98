from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from services.processes import free_port
from services.redis_server import start_redis
from star_platform.compat.model import CompatMap
from star_platform.errors import PublishError
from star_platform.publishing import directory, transforms
from star_platform.publishing.client import AsyncEmbeddingClient, DeprecatedRelease, EmbeddingClient, notice_text
from star_platform.publishing.model import ConsumerPin
from star_platform.publishing.read import Reader
from star_platform.publishing.usage import read_usage
from tests.publishing.conftest import Shop, make_shop, vectors_of
from tests.publishing.stores import KINDS, use_store
from tests.servers import private_folder

OLD = ConsumerPin("ranker", "ads@example.com", ("member", "job"), 1)
NEW = ConsumerPin("mailer", "mail@example.com", ("member",), 2)
DIMS = {1: 6, 2: 8}


def route(node: str = "member", source: int = 2, target: int = 1, **changes: Any) -> CompatMap:
    generator = np.random.default_rng(7)
    shape = (DIMS.get(source, 8), DIMS.get(target, 8))
    fields: dict[str, Any] = {
        "node": node,
        "source": source,
        "target": target,
        "source_space": f"space-{source}",
        "target_space": f"space-{target}",
        "weights": generator.standard_normal(shape),
        "bias": generator.standard_normal(shape[1]),
        "normalise": False,
        "method": "ridge",
        "fidelity": {"r2": 0.93},
    }
    return CompatMap(**(fields | changes))


def publish_two(shop: Shop) -> Shop:
    for release, dim in DIMS.items():
        shop.publish(release, vectors_of(release, 1_300, 200, dim))
    shop.set(2, OLD, NEW)
    return shop


@pytest.fixture(scope="module", params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """r1 (6 values a vector) and r2 (8) on each kind of online store; for tests that only read."""
    kind = request.param
    project = f"client_{os.getpid()}_{kind.replace('-', '_')}"
    shop = make_shop(tmp_path_factory.mktemp(kind))
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
        use_store(shop.repo, kind, url, project, db_schema=project)
        yield publish_two(shop)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {project} CASCADE"))
        engine.dispose()
        return
    use_store(shop.repo, kind, request.getfixturevalue("redis_url") if kind.endswith("redis") else "", project)
    yield publish_two(shop)


@pytest.fixture
def two(tmp_path: Path) -> Shop:
    """The same on our SQLite store, for tests that change it."""
    shop = make_shop(tmp_path)
    use_store(shop.repo, "star-sqlite")
    return publish_two(shop)


@pytest.fixture(autouse=True)
def nobody_was_told() -> Iterator[None]:
    yield
    EmbeddingClient._told.clear()


def native(shop: Shop, release: int, ids: list[Any], node: int = 0) -> np.ndarray[Any, Any]:
    """What was published, zeros where nothing was."""
    source = shop.vectors[release][node]
    rows = {key: row for row, key in enumerate(source.ids.to_pylist())}
    result = np.zeros((len(ids), source.vectors.shape[1]), dtype=np.float32)
    for at, key in enumerate(ids):
        if key in rows:
            result[at] = source.vectors[rows[key]]
    return result


# --- every store ------------------------------------------------------------------------------------------------------


def test_vectors_come_back_bit_equal_in_the_order_asked_for(stored: Shop) -> None:
    members = [10**9, *stored.vectors[2][0].ids.to_pylist(), 2, 2, -(10**9)]
    jobs = ["", *stored.vectors[1][1].ids.to_pylist()[::-1], "job/0", "ünbekannt"]
    with EmbeddingClient(stored.repo) as client:
        for ids, kind in ((members, list), (members, np.array), (members, pa.array)):
            vectors, found = answer = client.read(kind(ids), consumer="mailer")  # type: ignore[operator]
            assert (answer.release, answer.space) == (2, "space-2")
            assert vectors.dtype == np.float32
            assert vectors.tobytes() == native(stored, 2, members).tobytes()
            assert found.tolist() == [False, *[True] * 1_300, True, True, False]
        vectors, found = client.read(jobs, consumer="ranker", node="job")
        assert vectors.tobytes() == native(stored, 1, jobs, 1).tobytes()
        assert found.tolist() == [False, *[True] * 200, True, False]
        for empty in ([], np.array([]), pa.array([], pa.int64())):
            vectors, found = client.read(empty, node="member")
            assert (vectors.shape, found.shape) == ((0, 8), (0,))
        vectors, _ = client.read([5], node="member")
        assert vectors.flags.aligned
        assert vectors.flags.writeable
        vectors, found = client.read([5, 10**9], release=1, node="member")
        assert vectors.tobytes() == native(stored, 1, [5, 10**9]).tobytes()
        vectors, found = client.read([10**9], release=1, node="member")
        assert not vectors.any()
        assert not found.any()


def test_ids_of_another_type_are_refused(stored: Shop) -> None:
    with EmbeddingClient(stored.repo) as client:
        for node, ids in (
            ("member", ["anna"]),
            ("member", [1.5]),
            ("member", np.array([2**63], dtype=np.uint64)),
            ("member", [2**70]),
            ("member", pa.array([2**53 + 1, None, -5])),
            ("member", np.array([1.7], dtype=object)),
            ("member", [2, None]),
            ("job", [5]),
            ("job", pa.array(["job/1", None])),
            ("job", ["job/1", None]),
        ):
            with pytest.raises(PublishError, match="F031"):
                client.read(ids, node=node)
        assert client.read(np.array([2, "5"], dtype=object), node="member").found.all()


def test_a_retired_release_is_answered_by_the_same_call(stored: Shop) -> None:
    ids = [10**9, 2, -7, 5, 2]
    with EmbeddingClient(stored.repo, consumer="ranker") as client:
        before = client.read(ids, node="member")
        assert before.vectors.tobytes() == native(stored, 1, ids).tobytes()
        for found_map in (route(), route(normalise=True)):
            stored.publisher.reconcile(replace(stored.state, routes=(found_map,)))
            try:
                client.refresh()
                after = client.read(ids, node="member")
                jobs = client.read(["job/1"], node="job")
            finally:
                stored.publisher.reconcile(stored.state)
            expected = found_map.apply(native(stored, 2, ids))
            expected[0] = 0.0
            np.testing.assert_allclose(after.vectors, expected, rtol=1e-5, atol=1e-6)
            assert after.found.tolist() == before.found.tolist() == [False, True, True, True, True]
            assert (after.release, after.space, after.vectors.shape) == (1, "space-1", before.vectors.shape)
            assert jobs.vectors.tobytes() == native(stored, 1, ["job/1"], 1).tobytes()  # only members were retired
        client.refresh()
        assert client.read(ids, node="member").vectors.tobytes() == before.vectors.tobytes()


def test_the_async_twin_answers_the_same(stored: Shop) -> None:
    requests: list[dict[str, Any]] = [
        {"ids": list(range(-7, 900)), "consumer": "mailer"},
        {"ids": ["job/3", "nobody"], "consumer": "ranker", "node": "job"},
        {"ids": [2, 10**9], "node": "member", "release": 1},
        {"ids": [], "node": "member"},
    ] * 5
    with EmbeddingClient(stored.repo, count_reads=False) as client:
        expected = [client.read(**request) for request in requests]

    async def ask() -> list[Any]:
        async with AsyncEmbeddingClient(stored.repo, count_reads=False) as twin:
            with pytest.raises(PublishError, match="F034"):
                await twin.read([1], consumer="nobody", node="member")
            with pytest.raises(PublishError, match="F031"):
                await twin.read(["anna"], node="member")
            return await asyncio.gather(*(twin.read(**request) for request in requests))

    for answer, wanted in zip(asyncio.run(ask()), expected, strict=True):
        assert answer.vectors.tobytes() == wanted.vectors.tobytes()
        assert answer.found.tolist() == wanted.found.tolist()
        assert (answer.release, answer.space) == (wanted.release, wanted.space)


def test_reads_are_counted_by_reader_release_and_day(stored: Shop) -> None:
    def counted() -> dict[tuple[Any, ...], tuple[int, int]]:
        return {
            (count.consumer, count.node, count.release): (count.reads, count.vectors)
            for count in read_usage(stored.repo)
            if count.consumer in ("ranker", "stranger")
        }

    before = counted()
    today = date.today()
    for _ in range(2):
        with EmbeddingClient(stored.repo, consumer="ranker") as client:
            client.read([1, 2, 3], node="member")
            client.read([1, 2], node="member", consumer="stranger", release=2)
            with pytest.raises(PublishError):
                client.read([1], node="city")
    with EmbeddingClient(stored.repo, consumer="ranker", count_reads=False) as client:
        client.read([1, 2, 3], node="member")
    Reader(stored.repo).fetch(stored.state.releases[0], "member", [1])
    after = counted()
    was = before.get(("ranker", "member", 1), (0, 0)), before.get(("stranger", "member", 2), (0, 0))
    assert after["ranker", "member", 1] == (was[0][0] + 2, was[0][1] + 6)
    assert after["stranger", "member", 2] == (was[1][0] + 2, was[1][1] + 4)
    assert {abs((count.day - today).days) <= 1 for count in read_usage(stored.repo)} == {True}


def test_the_project_may_want_no_counts(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    use_store(shop.repo, "star-sqlite", count_reads="false")
    publish_two(shop)
    with EmbeddingClient(shop.repo, consumer="mailer") as client:
        client.read([2])
    assert read_usage(shop.repo) == []


def test_a_forgotten_client_leaves_no_thread(two: Shop) -> None:
    before = set(threading.enumerate())
    client = EmbeddingClient(two.repo, staleness_seconds=0.05, count_reads=False)
    (thread,) = set(threading.enumerate()) - before
    del client
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_threads_share_a_client(stored: Shop) -> None:
    failures: list[object] = []

    def read(node: int, release: int) -> None:
        ids = stored.vectors[release][node].ids.to_pylist()
        name = ("member", "job")[node]
        for at in range(40):
            part = ids[at : at + 50]
            vectors, found = client.read(part, node=name, release=release)
            if vectors.tobytes() != native(stored, release, part, node).tobytes() or not found.all():
                failures.append((name, release, at))

    with EmbeddingClient(stored.repo) as client:
        threads = [threading.Thread(target=read, args=(at % 2, 1 + at // 2 % 2)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.one_of(st.integers(-20, 4_000), st.integers(-(2**63), 2**63 - 1)), max_size=60))
def test_any_ids(stored: Shop, ids: list[int]) -> None:
    client = _kept(stored)
    vectors, found = client.read(ids, consumer="mailer")
    assert vectors.tobytes() == native(stored, 2, ids).tobytes()
    known = set(stored.vectors[2][0].ids.to_pylist())
    assert found.tolist() == [key in known for key in ids]


def _kept(shop: Shop, kept: dict[Path, EmbeddingClient] = {}) -> EmbeddingClient:  # noqa: B006
    return kept.setdefault(shop.repo, EmbeddingClient(shop.repo, staleness_seconds=None, count_reads=False))


# --- whom it answers, and with what -----------------------------------------------------------------------------------


def test_what_cannot_be_read_says_why(two: Shop) -> None:
    with EmbeddingClient(two.repo) as client:
        for code, call in (
            ("F061", {}),
            ("F061", {"consumer": "ranker"}),
            ("F061", {"consumer": "nobody"}),
            ("F034", {"consumer": "nobody", "node": "member"}),
            ("F030", {"consumer": "mailer", "node": "job"}),
            ("F030", {"node": "city"}),
            ("F030", {"node": "member", "release": 9}),
        ):
            with pytest.raises(PublishError) as caught:
                client.read([1], **call)  # type: ignore[arg-type]
            assert (caught.value.code, bool(caught.value.hint)) == (code, True)
        assert client.read([2], consumer="nobody", node="member", release=1).release == 1  # counted under that name
        assert client.read([2], consumer="mailer", node="member", release=1).release == 1  # said so
        assert client.read([2], node="member").release == 2  # the active one


def test_vectors_of_an_unknown_space_are_not_read(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As views were before they carried their space."""
    with monkeypatch.context() as patched:
        patched.setattr(directory, "SPACE_TAG", "none_has_this")
        client = EmbeddingClient(two.repo, staleness_seconds=None)
        with pytest.raises(PublishError, match="F062"):
            client.read([2], consumer="mailer")
    client.refresh()
    assert client.read([2], consumer="mailer").found.all()


def test_fetch_goes_the_same_way(two: Shop) -> None:
    reader = Reader(two.repo)
    before = reader.fetch(two.state.releases[0], "member", [2, 10**9])
    two.publisher.reconcile(replace(two.state, routes=(route(),)))
    after = reader.fetch(two.state.releases[0], "member", ["2", 10**9])
    np.testing.assert_allclose(after.vectors[0], route().apply(native(two, 2, [2]))[0], rtol=1e-5)
    assert (after.ids, after.space, after.found.tolist()) == (before.ids, before.space, [True, False])
    assert before.vectors.tobytes() == native(two, 1, [2, 10**9]).tobytes()
    assert not [count for count in read_usage(two.repo) if count.node == "member"]


def test_a_running_client_follows_within_the_stated_staleness(two: Shop) -> None:
    with EmbeddingClient(two.repo, staleness_seconds=0.4) as client:
        for active in (1, 2, 1):
            two.set(active, OLD, NEW)
            moved = time.monotonic()
            while client.read([2], node="member").release != active:
                assert time.monotonic() - moved < 5
            two.set(active, replace(OLD, release=active))
            while client.read([2], consumer="ranker", node="member").release != active:
                pass
    with EmbeddingClient(two.repo, staleness_seconds=None) as client:
        two.publish(3, vectors_of(3, 50, 20))
        assert client.read([2], node="member").release == 1
        assert client.read([2], node="member", release=3).release == 3  # unknown: so it looks at once
        client.close()


def test_first_reads_of_a_new_release_wait_for_one_look(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddingClient(two.repo, staleness_seconds=None) as client:
        two.publish(3, vectors_of(3, 50, 20))
        two.set(3, OLD, NEW, replace(NEW, name="newcomer"))
        refreshes = []
        refresh_registry = client.store.refresh_registry

        def refresh_slowly() -> None:
            refreshes.append(time.sleep(0.3))  # type: ignore[func-returns-value]
            refresh_registry()

        monkeypatch.setattr(client.store, "refresh_registry", refresh_slowly)
        with ThreadPoolExecutor(8) as pool:
            reads = [pool.submit(client.read, [2], node="member", release=3) for _ in range(8)]
            assert [read.result().release for read in reads] == [3] * 8
        assert len(refreshes) == 1
        with ThreadPoolExecutor(8) as pool:
            reads = [pool.submit(client.read, [2], consumer="newcomer") for _ in range(8)]
            assert [read.result().release for read in reads] == [2] * 8
        for _ in range(3):
            with pytest.raises(PublishError, match="F034"):
                client.read([2], consumer="nobody", node="member")
        assert len(refreshes) == 2


def test_the_registry_may_be_away_for_a_while(two: Shop, caplog: pytest.LogCaptureFixture) -> None:
    registry = two.root / ".star" / "feast_registry.db"
    with EmbeddingClient(two.repo, staleness_seconds=0.02) as client:
        content = registry.read_bytes()
        registry.write_bytes(b"\xff not a registry \xff")
        while "stays in use" not in caplog.text:
            assert client.read([2], consumer="ranker", node="member").vectors.any()
        registry.write_bytes(content)
        two.set(2, replace(OLD, release=2))
        while client.read([2], consumer="ranker", node="member").release != 2:
            pass


def test_a_map_that_does_not_fit_is_not_applied(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher refuses it first; here somebody else wrote it."""
    monkeypatch.setattr(transforms, "_check", lambda *_: None)
    for wrong in (
        route(source_space="space-9"),
        route(target_space="space-9"),
        route(weights=np.eye(7, 6)),
        route(source=5),
    ):
        two.publisher.reconcile(replace(two.state, routes=(wrong,)))
        with EmbeddingClient(two.repo) as client, pytest.raises(PublishError, match="F063"):
            client.read([2], node="member", release=1)


def test_an_identity_keeps_every_bit(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    for release in (1, 2):
        shop.publish(release, vectors_of(release, 100, 20))
    same = route(weights=np.eye(8), bias=np.zeros(8), method="identity")
    shop.publisher.reconcile(replace(shop.state, active=2, routes=(same,)))
    with EmbeddingClient(shop.repo) as client:
        answer = client.read([2, 5], node="member", release=1)
    assert (answer.vectors.tobytes(), answer.space) == (native(shop, 2, [2, 5]).tobytes(), "space-1")


def test_a_purged_release_names_its_successor_or_is_answered_through_its_map(two: Shop) -> None:
    notice = {"release": 1, "state": "purged", "sunset": "2026-01-31", "successor": 2, "text": "r1 is purged"}
    gone = replace(two.state, releases=two.state.releases[1:], consumers=(NEW,), notices={1: notice})
    with EmbeddingClient(two.repo) as client:
        two.publisher.reconcile(gone)
        client.refresh()
        with pytest.raises(PublishError, match=r"F060.*r1 of member is purged.*read r2"):
            client.read([2], node="member", release=1)
    two.publisher.reconcile(replace(gone, routes=(route(),)))
    with EmbeddingClient(two.repo) as client, pytest.warns(DeprecatedRelease):
        assert client.read([2], node="member", release=1).found.all()


def test_a_table_that_is_dropped_under_a_reader(two: Shop) -> None:
    """A reader that has not heard of the retirement yet looks again before it fails."""
    with EmbeddingClient(two.repo, staleness_seconds=None) as client:
        client.read([2], node="member", release=1)
        with sqlite3.connect(two.database) as connection:
            (table,) = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%member%v1'").fetchone()
            connection.execute(f'DROP TABLE "{table}"')
        with pytest.raises(PublishError, match="F050"):
            client.read([2], node="member", release=1)
        two.publisher.reconcile(replace(two.state, routes=(route(),)))
        assert client.read([2], node="member", release=1).found.all()


# --- notices ----------------------------------------------------------------------------------------------------------


def test_a_deprecated_release_warns_once_per_process(two: Shop) -> None:
    words = "r1 is deprecated and will be served until 2027-01-31; read r2 instead"
    notice = {"release": 1, "state": "deprecated", "sunset": "2027-01-31", "successor": 2, "text": words}
    two.publisher.reconcile(replace(two.state, notices={1: notice}))
    with EmbeddingClient(two.repo) as client, EmbeddingClient(two.repo) as other:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for reader in (client, other, client):
                reader.read([2], consumer="ranker", node="member")
                reader.read([2], consumer="mailer")
        (only,) = caught
        assert only.category is DeprecatedRelease
        assert issubclass(DeprecatedRelease, FutureWarning)
        assert words in str(only.message)
        assert only.filename == __file__  # points at the line that reads
        resolved = client.resolve(node="member", release=1)
    assert "has passed" not in notice_text(resolved, notice, date(2027, 1, 31))
    assert "(that date has passed)" in notice_text(resolved, notice, date(2027, 2, 1))
    with EmbeddingClient(two.repo) as client, warnings.catch_warnings():
        EmbeddingClient._told.clear()
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecatedRelease)
        client.read([2], consumer="ranker", node="member")


@pytest.mark.parametrize("stored", ["postgres"], indirect=True)
def test_a_postgres_table_or_connection_that_is_gone(stored: Shop, postgres_url: str) -> None:
    engine = create_engine(postgres_url)

    def execute(statement: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(statement))

    with EmbeddingClient(stored.repo, staleness_seconds=None, count_reads=False) as client:
        layout = client.resolve(node="member", release=1).source.layout
        schema = client.store.config.online_store.db_schema
        before = client.read([2], node="member", release=1)
        execute(f'ALTER TABLE {schema}."{layout.table}" RENAME TO purged')
        try:
            with pytest.raises(PublishError, match="F050"):
                client.read([2], node="member", release=1)
            stored.publisher.reconcile(replace(stored.state, routes=(route(),)))
            assert client.read([2], node="member", release=1).found.all()  # out of r2
        finally:
            execute(f'ALTER TABLE {schema}.purged RENAME TO "{layout.table}"')
            stored.publisher.reconcile(stored.state)
        client.refresh()
        online = client.store.provider.online_store
        execute(f"SELECT pg_terminate_backend({online._conn.info.backend_pid}, 5000)")
        with ThreadPoolExecutor(8) as pool:
            reads = [pool.submit(client.read, [2], node="member", release=1) for _ in range(8)]
            assert {read.result().vectors.tobytes() for read in reads} == {before.vectors.tobytes()}
    engine.dispose()


def test_a_server_that_is_away_is_told_to_all_readers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)
    with private_folder("star-redis-") as folder:
        port = free_port()
        server = start_redis(folder, port, None, durable=False)
        shop = make_shop(tmp_path)
        use_store(shop.repo, "star-redis", f"redis://127.0.0.1:{port}/0")
        publish_two(shop)
        with EmbeddingClient(shop.repo, staleness_seconds=None, count_reads=False) as client:
            refreshes = []
            refresh_registry = client.store.refresh_registry

            def refresh_slowly() -> None:
                refreshes.append(refresh_registry())
                time.sleep(0.5)

            monkeypatch.setattr(client.store, "refresh_registry", refresh_slowly)
            server.stop()

            def read(_: int) -> str:
                with pytest.raises(PublishError) as caught:
                    client.read([2], node="member")
                return caught.value.code

            with ThreadPoolExecutor(8) as pool:
                assert set(pool.map(read, range(8))) == {"F050"}
        assert len(refreshes) <= 3


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_client_works_on_both_sides_of_a_fork(stored: Shop) -> None:
    with EmbeddingClient(stored.repo, consumer="mailer", staleness_seconds=0.5) as client:
        client.read([2])
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        children = [context.Process(target=_read_in_child, args=(client, results)) for _ in range(2)]
        for child in children:
            child.start()
        expected = native(stored, 2, [2, 5]).tobytes()
        assert client.read([2, 5]).vectors.tobytes() == expected
        assert [results.get() for _ in children] == [expected] * 2
        for child in children:
            child.join()
        assert client.read([2, 5]).vectors.tobytes() == expected


def _read_in_child(client: EmbeddingClient, results: Any) -> None:
    results.put(client.read([2, 5]).vectors.tobytes())


def test_threads_of_a_child_open_it_once(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_client = EmbeddingClient._open

    def open_slowly(client: EmbeddingClient) -> None:
        opened.append(client)
        time.sleep(0.3)
        open_client(client)

    with EmbeddingClient(two.repo, consumer="mailer", staleness_seconds=None) as client:
        of_parent = client._store
        monkeypatch.setattr(EmbeddingClient, "_open", open_slowly)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with ThreadPoolExecutor(8) as pool:
                    stores = set(pool.map(lambda _: client.read([2]) and client._store, range(8)))
                os.write(writer, b"%d %d %d" % (len(opened), len(stores), len(stores - {of_parent})))
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            assert answer.read() == b"1 1 1"
        os.waitpid(pid, 0)


def test_an_async_client_works_in_a_child(stored: Shop) -> None:
    async def read() -> bytes:
        return bytes((await twin.read([2, 5])).vectors.tobytes())

    twin = AsyncEmbeddingClient(stored.repo, consumer="mailer", staleness_seconds=None, count_reads=False)
    of_parent = twin._store
    expected = native(stored, 2, [2, 5]).tobytes()
    assert asyncio.run(read()) == expected
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put((asyncio.run(read()), twin._store is of_parent)))
    child.start()
    assert results.get() == (expected, False)
    child.join()
