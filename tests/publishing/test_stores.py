"""The whole publisher on every online store: counted, verified, published into, purged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import make_url

from star_platform.errors import PublishError
from star_platform.publishing import dataset, objects, offline
from star_platform.publishing.model import NodeVectors, PublishedRelease, dataset_folder
from star_platform.publishing.projection import open_store
from star_platform.publishing.publish import Publisher
from star_platform.publishing.purge import NOTHING, Freed, Ledger
from star_platform.publishing.read import Reader
from star_platform.publishing.wire import entity_keys
from star_platform.publishing.writers import PostgresWriter
from tests.publishing.conftest import AS_OF, DAY, RANKER, Shop, make_shop, vectors_of
from tests.publishing.nursery import Nursery
from tests.publishing.stores import use_store
from tests.publishing.test_publish import STOCK_CLIENT
from tests.servers import execute

SERVERS = {"redis": "redis_url", "postgres": "postgres_database"}
STOCK = {"star-sqlite": "sqlite", "star-redis": "redis", "star-postgres": "postgres"}


@pytest.fixture(params=["star-sqlite", "sqlite", "star-redis", "star-postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    family = request.param.removeprefix("star-")
    url = request.getfixturevalue(SERVERS[family]) if family in SERVERS else ""
    shop = make_shop(tmp_path)
    use_store(shop.repo, request.param, url, f"stores_{os.getpid()}")
    stock = tmp_path / "stock"  # the same repository as somebody else's yaml names it
    stock.mkdir()
    (stock / "feature_store.yaml").write_text((shop.repo / "feature_store.yaml").read_text())
    use_store(stock, STOCK.get(request.param, request.param), url)
    yield shop
    for release in shop.state.releases:
        shop.publisher.purge(release, work_dir=shop.work_dir(100 + release.number))


def stored(shop: Shop, release: PublishedRelease, node: str, ids: Any) -> tuple[Any, Any]:
    writer = shop.publisher._writer(open_store(shop.repo, stock=True))
    view = objects.detached_view(shop.publisher.offline_root, release.number, release.nodes[node])
    vectors, found = writer.read(view, pa.array(ids))
    return vectors, found


def counted(shop: Shop, release: PublishedRelease, node: str, ids: pa.Array) -> int | None:
    writer = shop.publisher._writer(open_store(shop.repo, stock=True))
    return writer.count(objects.detached_view(shop.publisher.offline_root, release.number, release.nodes[node]), ids)


def test_a_stock_client_in_another_process_reads_the_same_bits(shop: Shop) -> None:
    release = shop.publish(1)
    shop.set(1, RANKER)
    members, jobs = shop.vectors[1]
    request = {
        "member": ["member_embedding@v1:embedding", "member_id", [*members.ids.to_pylist()[:400], 10**9]],
        "job": ["job_embedding@v1:embedding", "job_id", jobs.ids.to_pylist()],
    }
    done = subprocess.run(
        [sys.executable, "-c", STOCK_CLIENT, str(shop.root / "stock")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.split("ANSWER")[1])
    assert answer["member"] == [*(row.tobytes().hex() for row in members.vectors[:400]), None]
    assert answer["job"] == [row.tobytes().hex() for row in jobs.vectors]
    for source in shop.vectors[1]:
        assert counted(shop, release, source.node, prepared_ids(source)) == len(source.ids)


def prepared_ids(source: NodeVectors) -> pa.Array:
    return source.ids.cast(pa.int64()) if source.node == "member" else source.ids


def changed(source: NodeVectors) -> NodeVectors:
    """The first 5 members are gone, rows 10 to 29 have moved, 7 members have joined."""
    vectors = np.concatenate([source.vectors[5:], np.full((7, 8), 0.25, np.float32)])
    vectors[5:25] *= 2
    ids = pa.concat_arrays([source.ids[5:], pa.array(np.arange(7, dtype=np.int32) + 10**6)])
    return NodeVectors(source.node, ids, vectors)


def test_publishing_into_a_release_writes_what_differs(shop: Shop) -> None:
    first = shop.publish(1)
    shop.set(1, RANKER)
    members, jobs = shop.vectors[1]
    assert shop.publisher.sync(first, shop.vectors[1]).__dict__ == {
        "written": 0,
        "removed": 0,
        "unchanged": 1_800,
        "release": first,
    }
    with pytest.raises(PublishError, match="F056"):
        shop.publisher.sync(first, [changed(members)])
    with pytest.raises(PublishError, match="F056"):
        shop.publisher.sync(first, [changed(members)], as_of=first.nodes["member"].as_of)
    now = AS_OF + 9 * DAY
    done = shop.publisher.sync(first, [changed(members)], as_of=now)
    assert (done.written, done.removed, done.unchanged) == (27, 5, 1_475)
    node = done.release.nodes["member"]
    assert (node.rows, node.as_of, node.since) == (1_502, now, AS_OF + DAY)
    assert PublishedRelease.from_record(done.release.record()) == done.release
    assert done.release.nodes["job"] == first.nodes["job"]
    again = shop.publisher.sync(first, [changed(members)], as_of=now)  # as after a crash before it was noted
    assert (again.written, again.removed, again.release) == (0, 0, done.release)
    shop.publisher.verify(done.release, [changed(members), jobs])
    vectors, found = stored(shop, first, "member", changed(members).ids.to_numpy().astype(np.int64))
    assert found.all()
    assert vectors.tobytes() == changed(members).vectors.tobytes()
    assert not stored(shop, first, "member", members.ids.to_numpy()[:5].astype(np.int64))[1].any()
    # publishing the release again, as doctor does, leaves all of that
    shop.state = shop.state.with_release(done.release)
    shop.publisher.publish(
        1,
        [changed(members), jobs],
        spaces={"member": "space-1", "job": "space-1"},
        as_of=now,
        work_dir=shop.work_dir(7),
        state=shop.state.with_release(
            replace(done.release, nodes={**done.release.nodes, "job": replace(first.nodes["job"], as_of=now)})
        ),
    )
    assert len(list(dataset_folder(shop.publisher.offline_root, 1, "member").glob("delta-*.parquet"))) == 1


def test_history_shows_what_was_served_then(tmp_path: Path) -> None:
    import pandas as pd

    shop = make_shop(tmp_path)
    first = shop.publish(1)
    members = shop.vectors[1][0]
    now = AS_OF + 9 * DAY
    done = shop.publisher.sync(first, [changed(members)], as_of=now)
    ids = [members.ids[0].as_py(), members.ids[12].as_py(), members.ids[100].as_py(), 10**6]
    frames = {}
    for moment in (AS_OF, now - 1, now + DAY):
        frame = pd.DataFrame({"member_id": ids, "event_timestamp": pd.to_datetime([moment] * 4, unit="us", utc=True)})
        values = Reader(shop.repo).historical(done.release, "member", frame)["embedding"].tolist()
        frames[moment] = [None if v is None else np.asarray(v, np.float32).tobytes() for v in values]
    old, new = members.vectors, changed(members).vectors
    assert frames[AS_OF] == [None] * 4
    assert frames[now - 1] == [old[0].tobytes(), old[12].tobytes(), old[100].tobytes(), None]
    assert frames[now + DAY] == [None, new[7].tobytes(), old[100].tobytes(), new[-7].tobytes()]


def test_a_damaged_store_is_repaired_row_by_row(shop: Shop) -> None:
    release = shop.publish(1)
    jobs = shop.vectors[1][1]
    writer = shop.publisher._writer(open_store(shop.repo, stock=True))
    view = objects.detached_view(shop.publisher.offline_root, 1, release.nodes["job"])
    writer.remove(view, jobs.ids[3:9])
    writer.write(view, jobs.ids[20:22], np.zeros((2, 8), np.float32), AS_OF)
    (dataset_folder(shop.publisher.offline_root, 1, "member") / "part-00002.parquet").unlink()
    done = shop.publisher.sync(release, shop.vectors[1])
    assert (done.written, done.removed, done.release) == (8, 0, release)
    shop.publisher.verify(release, shop.vectors[1])


def test_a_purge_gives_back_all_and_says_how_much(shop: Shop) -> None:
    first, second = shop.publish(1), shop.publish(2)
    shop.set(2)
    planned = shop.publisher.purge_size(first)
    work = shop.work_dir(1)
    freed = shop.publisher.purge(first, work_dir=work)
    assert freed == planned
    assert freed.rows == 1_800
    assert freed.online_bytes >= 1_800 * 8 * 4
    assert freed.offline_bytes > 0
    assert shop.publisher.purge(first, work_dir=work) == freed  # again: the same report, nothing left to do
    assert shop.publisher.purge_size(first) == NOTHING
    assert not (shop.publisher.offline_root / "r1" / "member").exists()
    shop.publisher.verify(second, shop.vectors[2])


def test_a_slow_purge_takes_its_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    release = shop.publish(1)
    waited: list[float] = []
    monkeypatch.setattr("star_platform.publishing.purge.time.sleep", waited.append)
    assert shop.publisher.purge(release, rate=1_000, work_dir=shop.work_dir(1)).rows == 1_800
    assert sum(waited) > 1.5
    assert shop.publisher.purge_size(release) == NOTHING


def test_a_slow_purge_that_was_killed_after_its_last_step_goes_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    release = shop.publish(1, vectors_of(1, 50, 20))
    planned, noted = shop.publisher.purge_size(release), Ledger._add

    def killed(ledger: Ledger, entry: dict[str, Any]) -> None:
        if "freed" not in entry:
            raise KeyError("power")
        noted(ledger, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_add", killed)
        with pytest.raises(KeyError):
            shop.publisher.purge(release, rate=10**6, work_dir=shop.work_dir(1))
    assert shop.publisher.purge(release, rate=10**6, work_dir=shop.work_dir(1)) == planned
    assert shop.publisher.purge_size(release) == NOTHING


def test_rows_of_another_try_are_gone_from_every_store(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "star_platform.publishing.publish.apply_state", lambda *_: (_ for _ in ()).throw(KeyError("power"))
        )
        with pytest.raises(KeyError):
            shop.publish(1, vectors_of(1, members=1_000))
    release = shop.publish(1, vectors_of(1, members=600))
    found = stored(shop, release, "member", np.arange(1_000) * 3 - 7)[1]
    assert found.tolist() == [True] * 600 + [False] * 400


def test_a_killed_purge_goes_on_and_reports_the_same(nursery: Nursery, tmp_path: Path, redis_url: str) -> None:
    for kind in ("star-sqlite", "star-redis"):
        for place, count in (("remove", 2), ("ledger", 1), ("ledger", 4), ("offline", 0)):
            shop = make_shop(tmp_path / f"{kind}-{place}-{count}")
            use_store(shop.repo, kind, redis_url, f"purge_{os.getpid()}")
            release = shop.publish(1)
            planned = shop.publisher.purge_size(release)
            status = nursery.run(shop.root / "log", "purge", shop.root, json.dumps(release.record()), place, count)
            expected = 0 if (kind, place) == ("star-sqlite", "remove") else 9  # SQLite drops: nothing is removed by id
            assert status == expected, (shop.root / "log").read_text()
            assert shop.publisher.purge(release, work_dir=shop.work_dir(1)) == planned
            assert shop.publisher.purge_size(release) == NOTHING


def test_figures_of_a_purge_add_up() -> None:
    assert Freed(1, 2, 3) + Freed(10, 20, 30) == Freed(11, 22, 33)


def test_a_delta_that_was_not_noted_is_written_over(tmp_path: Path) -> None:
    from star_platform.publishing.prepare import prepare

    shop = make_shop(tmp_path)
    shop.publish(1)
    item = prepare(changed(shop.vectors[1][0]))
    root = shop.publisher.offline_root
    found = dataset.difference(item, root, 1)
    assert (len(found.rows), len(found.gone)) == (27, 5)
    marker = (root / "r1" / "member.json").read_bytes()
    offline.add_delta(item, root, 1, AS_OF + 5 * DAY, found.rows[:3], found.gone[:1])
    (root / "r1" / "member.json").write_bytes(marker)  # killed between the file and its mention
    offline.add_delta(item, root, 1, AS_OF + 5 * DAY, found.rows, found.gone)
    assert [path.name for path in dataset.deltas(root / "r1" / "member")] == ["delta-00001.parquet"]
    dataset.check(item, root, 1, AS_OF)


def test_a_store_that_cannot_remove_says_so(tmp_path: Path) -> None:
    from star_platform.publishing.writers import FeastWriter

    shop = make_shop(tmp_path)
    shop.publisher = Publisher(shop.repo, shop.publisher.offline_root, shard_rows=400, writer=FeastWriter)
    release = shop.publish(1, vectors_of(1, 50, 20))
    shop.publisher.verify(release, shop.vectors[1])
    with pytest.raises(PublishError, match="F055"):
        shop.publisher.purge(release, work_dir=shop.work_dir(1))


def test_a_table_whose_name_postgres_would_cut_is_not_written(tmp_path: Path, postgres_database: str) -> None:
    shop = make_shop(tmp_path)
    for project, fits in (("p" * 39, True), ("p" * 40, False)):  # ..._member_embedding_v10_ek
        use_store(shop.repo, "star-postgres", postgres_database, project)
        if fits:
            shop.publish(10, vectors_of(10, 50, 20))
            continue
        with pytest.raises(PublishError, match=r"F057.*64 bytes"):
            shop.publish(10, vectors_of(10, 50, 20))


def test_a_sync_killed_before_its_delta_was_noted_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop(tmp_path)
    first = shop.publish(1)
    root, wanted, now = shop.publisher.offline_root, [changed(shop.vectors[1][0])], AS_OF + 9 * DAY
    with monkeypatch.context() as patch:
        patch.setattr(offline, "_write_json", lambda *_: (_ for _ in ()).throw(KeyError("power")))
        with pytest.raises(KeyError):
            shop.publisher.sync(first, wanted, as_of=now)
    assert len(dataset.deltas(root / "r1" / "member")) == 1
    done = shop.publisher.sync(first, wanted, as_of=now)
    assert (done.release.nodes["member"].as_of, offline.newest(root, 1, "member")) == (now, now)
    assert len(json.loads((root / "r1" / "member.json").read_text())["deltas"]) == 1
    shop.publisher.verify(done.release, wanted)


@pytest.mark.parametrize("connections", ["singleton", "pool"])
def test_a_postgres_server_that_was_restarted_is_connected_to_again(
    tmp_path: Path, postgres_database: str, connections: str
) -> None:
    shop = make_shop(tmp_path)
    use_store(shop.repo, "star-postgres", postgres_database)
    node = shop.publish(1, vectors_of(1, 50, 20)).nodes["job"]
    use_store(shop.repo, "star-postgres", postgres_database, conn_type=connections, min_conn=1, max_conn=1)
    store, view = open_store(shop.repo), objects.detached_view(shop.publisher.offline_root, 1, node)
    online: Any = store.provider.online_store
    writer, ids = PostgresWriter(store), shop.vectors[1][1].ids
    name = make_url(postgres_database).database
    others = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    for act in (
        lambda: writer.read(view, ids),
        lambda: writer.write(view, ids, shop.vectors[1][1].vectors, AS_OF),
        lambda: writer.count(view, ids),
        lambda: writer.create(view, fresh=False),
    ):
        act()
        execute(postgres_database.replace(f"/{name}", "/postgres"), others)
        with pytest.raises(PublishError, match="F050"):
            act()
        act()

    async def twice() -> None:
        asked = entity_keys("job_id", ids.to_pylist())
        for lost in (True, False):
            await online.online_read_async(store.config, view, asked, ["embedding"])
            if lost:
                execute(postgres_database.replace(f"/{name}", "/postgres"), others)
                with pytest.raises(psycopg.Error):
                    await online.online_read_async(store.config, view, asked, ["embedding"])
        await (online._conn_pool_async if connections == "pool" else online._conn_async).close()

    asyncio.run(twice())
    (online._conn_pool if connections == "pool" else online._conn).close()
