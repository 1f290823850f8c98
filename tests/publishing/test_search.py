from __future__ import annotations

import builtins
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import create_engine, text

from star_platform.errors import DependencyMissing, PublishError
from star_platform.publishing import ann
from star_platform.publishing.ann import AnnConfig, ann_folder, export_index, open_index, remove_index
from star_platform.publishing.client import EmbeddingClient
from star_platform.publishing.model import NodeVectors
from star_platform.publishing.search import EmbeddingSearch, store_searches
from tests.publishing.conftest import AS_OF, DAY, RANKER, Shop, make_shop
from tests.publishing.stores import use_store
from tests.publishing.test_client import route

DIM = {1: 6, 2: 8}


def clustered(release: int, members: int = 3_000, jobs: int = 400) -> list[NodeVectors]:
    """As embeddings are: groups, not a cloud. Members have numbers for ids, jobs have text."""
    generator = np.random.default_rng(release)
    dim = DIM[release]
    result = []
    for node, count in (("member", members), ("job", jobs)):
        centres = generator.standard_normal((40, dim))
        vectors = centres[generator.integers(0, 40, count)] + 0.3 * generator.standard_normal((count, dim))
        ids = (
            pa.array(np.arange(count) * 3 - 7) if node == "member" else pa.array([f"job/{n:05d}" for n in range(count)])
        )
        result.append(NodeVectors(node, ids, vectors.astype(np.float32)))
    return result


def exact(source: NodeVectors, vector: np.ndarray[Any, Any], k: int) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """The `k` nearest by cosine, found by looking at all."""
    unit = source.vectors / np.linalg.norm(source.vectors, axis=1, keepdims=True)
    distances = 1 - unit @ (vector / np.linalg.norm(vector))
    order = np.argsort(distances, kind="stable")[:k]
    return [source.ids[int(at)].as_py() for at in order], distances[order]


def publish(shop: Shop) -> Shop:
    for release in DIM:
        shop.publish(release, clustered(release))
    shop.set(2, RANKER)
    return shop


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """r1 and r2 on SQLite, with indexes of both; r1 is pinned by `ranker`."""
    shop = make_shop(tmp_path_factory.mktemp("indexed"))
    use_store(shop.repo, "star-sqlite")
    publish(shop)
    for release in shop.state.releases:
        for node in release.nodes.values():
            export_index(shop.state.offline_root, release.number, node)
    return shop


@pytest.fixture
def client(indexed: Shop) -> Iterator[EmbeddingClient]:
    with EmbeddingClient(indexed.repo, count_reads=False) as opened:
        yield opened


@pytest.mark.parametrize("node", ["member", "job"])
def test_an_index_finds_what_looking_at_all_finds(indexed: Shop, client: EmbeddingClient, node: str) -> None:
    search = EmbeddingSearch(client)
    source = indexed.vectors[2][("member", "job").index(node)]
    hits = 0
    for row in range(0, 400, 4):
        found = search.search(source.vectors[row] + 0.01, node=node, k=10)
        ids, distances = exact(source, source.vectors[row] + 0.01, 10)
        hits += len(set(found.ids) & set(ids))
        assert np.all(np.diff(found.distances) >= 0)
        assert abs(found.distances[0] - distances[0]) < 1e-4
    assert hits >= 0.98 * 1_000


def test_the_graph_alone_finds_nearly_all(
    indexed: Shop, client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large indexes are searched; which few are missed depends on how the building threads took turns."""
    monkeypatch.setattr(ann, "EXACT_ROWS", 0)
    search, source = EmbeddingSearch(client), indexed.vectors[2][0]
    hits = 0
    for row in range(0, 400, 4):
        found = search.search(source.vectors[row] + 0.01, node="member", k=10)
        hits += len(set(found.ids) & set(exact(source, source.vectors[row] + 0.01, 10)[0]))
    assert hits >= 0.9 * 1_000


def test_neighbours_of_an_entity_leave_it_out(indexed: Shop, client: EmbeddingClient) -> None:
    search = EmbeddingSearch(client)
    for release, node, key in ((2, "member", 2), (2, "job", "job/00003"), (1, "member", 2)):
        source = indexed.vectors[release][("member", "job").index(node)]
        row = source.ids.to_pylist().index(key)
        found = search.search(key, node=node, k=5, release=release)
        assert found.ids == exact(source, source.vectors[row], 6)[0][1:]
    assert (
        search.search(2, consumer="ranker", node="member", k=3).ids
        == search.search(2, node="member", k=3, release=1).ids
    )
    assert len(search.search("job/00003", node="job", k=10_000).ids) == 399
    with pytest.raises(PublishError, match="F066"):
        search.search(10**9, node="member")


def test_a_query_is_mapped_into_the_space_that_is_searched_or_refused(indexed: Shop, client: EmbeddingClient) -> None:
    search = EmbeddingSearch(client)
    newer, older = indexed.vectors[2][0].vectors[7], indexed.vectors[1][0].vectors[7]
    for wrong in ({"query": newer, "of": 2, "release": 1}, {"query": older, "of": 1}, {"query": newer, "release": 1}):
        with pytest.raises(PublishError, match="F064"):
            search.search(**wrong, node="member")  # type: ignore[arg-type]
    way = route()
    indexed.publisher.reconcile(replace(indexed.state, maps=(way,)))
    try:
        expected, _ = exact(indexed.vectors[1][0], way.apply(newer[None])[0], 5)
        assert search.search(newer, of=2, release=1, node="member", k=5).ids == expected
        key = indexed.vectors[2][0].ids[7].as_py()
        read = client.read([key], node="member")  # knows that it is of r2
        assert search.search(read, release=1, node="member", k=5).ids == expected
        with pytest.raises(PublishError, match="F066"):  # zeros are no vector
            search.search(client.read([10**9], node="member"), node="member")
        with pytest.raises(PublishError, match="F064"):  # there is no way back
            search.search(client.read([key], node="member", release=1), node="member")
    finally:
        indexed.publisher.reconcile(indexed.state)


def test_a_retired_release_is_searched_where_it_is_answered(indexed: Shop) -> None:
    indexed.publisher.reconcile(replace(indexed.state, routes=(route(),)))
    try:
        with EmbeddingClient(indexed.repo, consumer="ranker", count_reads=False) as client:
            search = EmbeddingSearch(client)
            source = indexed.vectors[2][0]
            row = source.ids.to_pylist().index(2)
            assert search.search(2, node="member", k=5).ids == exact(source, source.vectors[row], 6)[0][1:]
            newer = search.search(source.vectors[row], of=2, node="member", k=5)
            assert newer.ids == exact(source, source.vectors[row], 5)[0]
            with pytest.raises(PublishError, match="F064"):  # a mapped vector has no way back
                search.search(client.read([2], node="member"), node="member")
    finally:
        indexed.publisher.reconcile(indexed.state)


def test_an_index_that_is_not_of_these_vectors_is_not_used(indexed: Shop, tmp_path: Path) -> None:
    release = indexed.state.releases[1]
    root = tmp_path / "offline"
    shutil.copytree(indexed.state.offline_root, root)
    node = release.nodes["member"]
    index = ann_folder(root, 2, "member") / "index.usearch"
    assert export_index(root, 2, node) == index.parent
    stamp = index.stat().st_mtime_ns
    export_index(root, 2, node)
    assert index.stat().st_mtime_ns == stamp  # nothing to do
    export_index(root, 2, node, AnnConfig(metric="ip"))
    assert index.stat().st_mtime_ns != stamp
    assert open_index(root, 2, "member", space="space-2").metric == "ip"
    with pytest.raises(PublishError, match=r"F065.*another embedding space"):
        open_index(root, 2, "member", space="space-1")
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    index.write_bytes(content)
    with pytest.raises(PublishError, match=r"F065.*damaged"):
        open_index(root, 2, "member", space="space-2")
    assert remove_index(root, 2, "member") > len(content)
    assert remove_index(root, 2, "member") == 0
    with pytest.raises(PublishError, match=r"F065.*not exported"):
        open_index(root, 2, "member", space="space-2")
    next((root / "r2" / "member").glob("*.parquet")).unlink()
    with pytest.raises(PublishError, match=r"F065.*3000 were published"):
        export_index(root, 2, node)
    assert not ann_folder(root, 2, "member").exists()


def test_an_index_follows_what_is_published_into_a_release(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    use_store(shop.repo, "star-sqlite")
    source = clustered(1)[1]
    release, root = shop.publish(1, [source]), shop.state.offline_root
    shop.set(1)
    export_index(root, 1, release.nodes["job"])
    vectors = source.vectors[5:].copy()  # five are gone, one has moved
    vectors[0] *= -1
    now = NodeVectors("job", source.ids[5:], vectors)
    with EmbeddingClient(shop.repo, count_reads=False) as client:
        search = EmbeddingSearch(client)
        assert search.search(source.vectors[5], node="job", k=1).ids == ["job/00005"]
        done = shop.publisher.sync(release, [now], as_of=AS_OF + 9 * DAY).release
        for searched in (search, EmbeddingSearch(client)):
            with pytest.raises(PublishError, match=r"F065.*older"):
                searched.search(source.vectors[5], node="job", k=1)
        export_index(root, 1, done.nodes["job"])
        for query in (source.vectors[0], source.vectors[5], vectors[0]):
            assert search.search(query, node="job", k=10).ids == exact(now, query, 10)[0]
        assert len(search.search(vectors[0], node="job", k=1_000).ids) == 395


def test_a_purge_takes_the_index_along(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    release = shop.publish(1, [clustered(1)[1]])
    before = shop.publisher.purge_size(release).offline_bytes
    folder = export_index(shop.state.offline_root, 1, release.nodes["job"])
    index = sum(path.stat().st_size for path in folder.iterdir())
    assert shop.publisher.purge_size(release).offline_bytes == before + index
    freed = shop.publisher.purge(release, rate=None, work_dir=shop.work_dir(1))
    assert freed.offline_bytes == before + index
    assert not folder.exists()


def test_without_the_extra_it_says_what_to_install(indexed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("usearch"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyMissing, match=r"D030.*star-platform\[ann\]"):
        open_index(indexed.state.offline_root, 2, "member", space="space-2")


def test_postgres_searches_itself(tmp_path: Path, postgres_database: str) -> None:
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    engine.dispose()
    shop = make_shop(tmp_path)
    use_store(shop.repo, "postgres", postgres_database, f"search_{os.getpid()}", vector_enabled="true")
    for release in DIM:
        shop.publish(release, clustered(release, 300, 50))
    shop.set(2, RANKER)
    with EmbeddingClient(shop.repo, count_reads=False) as client:
        assert store_searches(client.store)
        for metric, checked in (("cos", True), ("ip", False), ("l2sq", False)):
            search = EmbeddingSearch(client, metric=metric)  # type: ignore[arg-type]
            for release, node in ((2, 0), (2, 1), (1, 0)):
                source = shop.vectors[release][node]
                found = search.search(source.vectors[5], node=("member", "job")[node], k=7, release=release)
                query = source.vectors[5]
                wanted = {
                    "cos": lambda each, q=query: 1 - each @ q / np.linalg.norm(each) / np.linalg.norm(q),
                    "ip": lambda each, q=query: 1 - each @ q,
                    "l2sq": lambda each, q=query: ((each - q) ** 2).sum(),
                }[metric]
                rows = {key: row for row, key in enumerate(source.ids.to_pylist())}
                expected = np.array([wanted(source.vectors[rows[key]]) for key in found.ids])
                np.testing.assert_allclose(found.distances, expected, atol=1e-4)
                every = np.sort([wanted(each) for each in source.vectors])[:7]
                np.testing.assert_allclose(found.distances, every, atol=1e-4)
                if checked:
                    assert found.ids == exact(source, query, 7)[0]
    assert json.dumps(found.ids)  # plain values
