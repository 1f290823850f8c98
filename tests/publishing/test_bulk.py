"""A large version is written by several processes, and a Redis that goes away in the middle loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from services.processes import free_port
from services.redis_server import start_redis
from star_platform.errors import PublishError
from star_platform.publishing import bulk, objects, online
from star_platform.publishing.model import FeastState
from star_platform.publishing.projection import compare_state, open_store
from star_platform.publishing.publish import Publisher
from tests.publishing.conftest import RANKER, Shop, make_shop, vectors_of
from tests.publishing.stores import use_store
from tests.servers import private_folder


@pytest.fixture
def shop(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(online, "PARALLEL_ROWS", 1)
    return parallel(tmp_path, redis_url)


def parallel(root: Path, url: str) -> Shop:
    shop = make_shop(root)
    use_store(shop.repo, "star-redis", url, f"bulk_{os.getpid()}")
    shop.publisher = Publisher(shop.repo, shop.publisher.offline_root, shard_rows=200, processes=2)
    return shop


def test_processes_write_what_one_would(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole = bulk.write_parallel

    def watched(job: Any, shards: Any, processes: int) -> Iterator[int]:
        assert processes == 2
        for number in whole(job, shards, processes):
            seen.append(number)
            yield number

    monkeypatch.setattr("star_platform.publishing.writers.write_parallel", watched)
    release = shop.publish(1)
    assert sorted(seen) == sorted([*range(2), *range(8)])  # every shard of jobs and of members, once
    shop.publisher.verify(release, shop.vectors[1])
    seen.clear()
    shop.publish(1)  # all acknowledged
    assert seen == []
    acknowledged = shop.work_dir(1) / "online-member.jsonl"
    acknowledged.write_text("\n".join(acknowledged.read_text().splitlines()[:4]))
    shop.publish(1)
    assert len(seen) == 8 - 3  # the first line is empty
    assert shop.publisher.purge(release, work_dir=shop.work_dir(1)).rows == 1_800


def test_a_worker_that_dies_or_meets_an_error_is_reported(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    release = shop.publish(1)
    store = open_store(shop.repo, stock=True)
    view = objects.detached_view(shop.publisher.offline_root, 1, release.nodes["member"])
    from star_platform.publishing.redis import StarRedisOnlineStore

    job = StarRedisOnlineStore().bulk_job(store.config, view, 1)
    assert job is not None
    with pytest.raises(PublishError, match="F053"):
        list(bulk.write_parallel(job, {0: Path("/nowhere.parquet")}, 2))
    job["connection"]["port"] = free_port()
    files = dict(enumerate(sorted((shop.publisher.offline_root / "r1" / "member").glob("*.parquet"))))
    with pytest.raises(PublishError, match="F050"):
        list(bulk.write_parallel(job, files, 2))
    shop.publisher.purge(release, work_dir=shop.work_dir(1))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("durable", [False, True])
def test_redis_killed_in_the_middle_of_a_publish(
    tmp_path: Path, processes: int, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says so, nothing is half visible, and the next try ends as if nothing had been."""
    monkeypatch.setattr(online, "PARALLEL_ROWS", 1)
    with private_folder("star-redis-") as folder:
        port = free_port()
        server = start_redis(folder, port, None, durable=durable)
        shop = parallel(tmp_path, f"redis://127.0.0.1:{port}/0")
        shop.publisher = Publisher(shop.repo, shop.publisher.offline_root, shard_rows=200, processes=processes)
        shop.publish(1)
        shop.set(1, RANKER)
        before = shop.state
        add = online.Acknowledgements.add

        def kill_after_three(self: Any, shard: int, rows: int) -> None:
            add(self, shard, rows)
            if self.path.name == "online-member.jsonl" and len(self.path.read_text().splitlines()) > 3:
                server.process.kill()
                server.process.wait()

        with monkeypatch.context() as patch:
            patch.setattr(online.Acknowledgements, "add", kill_after_three)
            with pytest.raises(PublishError, match="F050") as caught:
                shop.publish(2)
        assert "does not answer" in str(caught.value)
        assert "--resume" in str(caught.value)
        server = start_redis(folder, port, None, durable=durable)  # empty, where nothing was on disk
        try:
            assert shop.state == before
            assert compare_state(open_store(shop.repo), before) == []
            if not durable:
                shop.publish(1)
            shop.publish(2)
            for release in shop.state.releases:
                shop.publisher.verify(release, shop.vectors[release.number])
            assert isinstance(shop.state, FeastState)
        finally:
            server.stop()


def test_a_full_redis_says_so(tmp_path: Path) -> None:
    import redis

    with private_folder("star-redis-") as folder:
        port = free_port()
        server = start_redis(folder, port, None, durable=False)
        try:
            shop = parallel(tmp_path, f"redis://127.0.0.1:{port}/0")
            client = redis.Redis(port=port)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
            with pytest.raises(PublishError, match=r"F051.*OOM"):
                shop.publish(1, vectors_of(1, 20_000, 10))
            client.config_set("maxmemory", 0)
            shop.publish(1, shop.vectors[1])
        finally:
            server.stop()


def test_string_ids_of_many_lengths(shop: Shop) -> None:
    from star_platform.publishing.model import NodeVectors

    ids = sorted({"x" * (number % 37) + str(number) for number in range(900)} | {"", "é", "\r\n"})
    source = NodeVectors("job", pa.array(ids), vectors_of(1, len(ids))[0].vectors)
    release = shop.publish(1, [source])
    shop.publisher.verify(release, [source])
    shop.publisher.purge(release, work_dir=shop.work_dir(1))
