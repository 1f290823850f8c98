"""A retired release is answered through a map: for stock clients of our stores, and materialised for all others."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import redis
from feast import FeatureStore
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import PublishError
from star_platform.publishing import routes
from star_platform.publishing.model import ConsumerPin, NodeVectors, join_key, reference
from star_platform.publishing.projection import compare_state, open_store
from star_platform.publishing.usage import read_usage
from tests.publishing.conftest import RANKER, Shop, make_map, make_shop, vectors_of
from tests.publishing.stores import use_store

_NUMBERS = itertools.count()
URLS = {"star-redis": "redis_url", "star-postgres": "postgres_database"}


@pytest.fixture(params=["star-sqlite", "star-redis", "star-postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """r1 with 8 dimensions, r2 with 12 and some other members; a ranker pinned to r1, r2 active."""
    shop = make_shop(tmp_path)
    url = request.getfixturevalue(URLS[request.param]) if request.param in URLS else ""
    project = f"routes_{os.getpid()}_{next(_NUMBERS)}"  # counts of an earlier test may be flushed late
    use_store(shop.repo, request.param, url, project, route_ttl_seconds=0)
    shop.publish(1, vectors_of(1, 300, 40))
    members, jobs = vectors_of(2, 310, 40, 12)
    shop.publish(2, [NodeVectors("member", pa.array(members.ids.to_numpy() + 30), members.vectors), jobs])
    shop.set(2, RANKER)
    yield shop
    if request.param == "star-redis":
        redis.Redis.from_url(url).delete(f"star:usage:{project}")
    for release in shop.state.releases:
        shop.publisher.purge(release, work_dir=shop.work_dir(release.number))


def read(store: FeatureStore, features: Any, node: str, ids: list[Any]) -> list[Any]:
    """What the stock SDK answers."""
    rows = [{join_key(node): key} for key in ids]
    answer = store.get_online_features(features=features, entity_rows=rows).to_dict()
    return [None if value is None else np.asarray(value, dtype=np.float32) for value in answer["embedding"]]


def retire(shop: Shop, **changes: Any) -> tuple[str, ...]:
    state = replace(shop.state, routes=(make_map("member", 2, 1, 12, 8), make_map("job", 2, 1, 12, 8, 5)), **changes)
    shop.state = state
    return shop.set(2, RANKER)


def mapped(shop: Shop, node: int) -> dict[Any, np.ndarray[Any, Any]]:
    source, route = shop.vectors[2][node], shop.state.routes[node]
    return dict(zip(source.ids.to_pylist(), route.apply(source.vectors), strict=True))


def check_mapped(shop: Shop, node: str, ids: list[Any], answers: list[Any]) -> None:
    expected = mapped(shop, 0 if node == "member" else 1)
    assert [value is not None for value in answers] == [key in expected for key in ids]
    for key, value in zip(ids, answers, strict=True):
        if value is not None:
            np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-5)


def test_the_same_call_is_answered_through_the_map(shop: Shop) -> None:
    store = FeatureStore(repo_path=str(shop.repo))  # as any consumer opens it, before the retirement
    members = [-7, 2, 23, 10**9]  # the first two are in r1 only
    before = read(store, [reference("member", 1)], "member", members)
    assert [value is not None for value in before] == [True, True, True, False]
    newest = read(store, [reference("member", 2)], "member", members)
    changes = retire(shop)
    assert {"wrote member@r1", "wrote job@r1"} <= set(changes)
    assert shop.publisher.reconcile(shop.state) == ()
    check_mapped(shop, "member", members, read(store, [reference("member", 1)], "member", members))
    check_mapped(shop, "job", ["job/3", "x"], read(store, [reference("job", 1)], "job", ["job/3", "x"]))
    again = read(store, [reference("member", 2)], "member", members)
    assert [None if a is None else a.tobytes() for a in again] == [None if a is None else a.tobytes() for a in newest]
    # one call for both node types, through the consumer's service
    rows = [{"member_id": key, "job_id": name} for key, name in zip([23, 26], ["job/1", "job/2"], strict=True)]
    service = store.get_feature_service("ranker")
    answer = store.get_online_features(features=service, entity_rows=rows, full_feature_names=True).to_dict()
    check_mapped(shop, "member", [23, 26], answer["member_embedding@v1__embedding"])
    check_mapped(shop, "job", ["job/1", "job/2"], answer["job_embedding@v1__embedding"])
    assert set(answer) == {
        "member_id",
        "job_id",
        "member_embedding@v1__embedding",
        "job_embedding@v1__embedding",
    }
    # purged: the map still answers
    freed = shop.publisher.purge(shop.state.releases[0], work_dir=shop.work_dir(1))
    assert freed.rows == 340
    check_mapped(shop, "member", members, read(store, [reference("member", 1)], "member", members))
    # taken back: its own vectors are gone, so nothing is found, and nothing of another space
    shop.state = replace(shop.state, routes=())
    assert {"cancelled member@r1", "cancelled job@r1"} <= set(shop.set(2, RANKER))


@pytest.mark.parametrize("shop", ["star-redis"], indirect=True)  # the one of the three that Feast reads so
def test_async_reads_of_the_feature_server(shop: Shop) -> None:
    retire(shop)
    store = FeatureStore(repo_path=str(shop.repo))
    assert store.provider.async_supported.online.read
    ids = [23, -7, 26]

    async def ask() -> Any:
        rows = {"member_id": ids}
        answer = await store.get_online_features_async(features=[reference("member", 1)], entity_rows=rows)
        await store.close()
        return answer.to_dict()["embedding"]

    check_mapped(shop, "member", ids, asyncio.run(ask()))


def test_reads_of_stock_clients_are_counted_once(shop: Shop) -> None:
    retire(shop)
    store = FeatureStore(repo_path=str(shop.repo))
    for _ in range(2):
        read(store, [reference("member", 1)], "member", [23, 26])  # through the map
        read(store, [reference("member", 2)], "member", [23, 26, 29])
    store.provider.online_store._usage.flush()
    counts = {(count.consumer, count.node, count.release): count for count in read_usage(shop.repo)}
    assert {key: (count.reads, count.vectors) for key, count in counts.items()} == {
        (None, "member", 1): (2, 4),
        (None, "member", 2): (2, 6),
    }
    own = open_store(shop.repo)
    read(own, [reference("member", 2)], "member", [23])
    assert own.provider.online_store._usage is None  # the platform's own reads say nothing about consumers


def test_a_route_taken_back_shows_the_releases_own_vectors(shop: Shop) -> None:
    store = FeatureStore(repo_path=str(shop.repo))
    own = [value.tobytes() for value in read(store, [reference("member", 1)], "member", [23, 26])]
    retire(shop)
    assert [value.tobytes() for value in read(store, [reference("member", 1)], "member", [23, 26])] != own
    shop.state = replace(shop.state, routes=())
    shop.set(2, RANKER)
    assert [value.tobytes() for value in read(store, [reference("member", 1)], "member", [23, 26])] == own


def test_materialised_vectors_serve_clients_without_our_store(shop: Shop) -> None:
    first, second = shop.state.releases
    route = make_map("member", 2, 1, 12, 8)
    shop.state = replace(shop.state, routes=(route, make_map("job", 2, 1, 12, 8, 5)))
    for _ in range(2):  # again changes nothing
        assert shop.publisher.materialise(route, second, first) == 310
    stock = open_store(shop.repo, stock=True)
    assert not type(stock.provider.online_store).__module__.startswith("star_platform")
    ids = [-7, 2, 23, 26, 10**9]
    check_mapped(shop, "member", ids, read(stock, [reference("member", 1)], "member", ids))
    # purge finds what was written under the version, though r1 never had those ids
    shop.publisher.purge(first, work_dir=shop.work_dir(1))
    writer = shop.publisher._writer(stock)
    from star_platform.publishing import objects

    view = objects.detached_view(shop.publisher.offline_root, 1, first.nodes["member"])
    writer.create(view, fresh=False)
    assert not writer.read(view, pa.array(sorted(mapped(shop, 0))))[1].any()
    with pytest.raises(PublishError, match="F054"):
        shop.publisher.materialise(route, first, second)


def test_routes_that_lead_elsewhere_are_refused(shop: Shop) -> None:
    for wrong in (
        make_map("member", 2, 1, 8, 8),
        make_map("member", 2, 1, 12, 9),
        make_map("member", 9, 1, 12, 8),
        make_map("city", 2, 1, 12, 8),
        replace(make_map("member", 2, 1, 12, 8), source_space="another"),
        replace(make_map("member", 2, 1, 12, 8), target_space="another"),
    ):
        with pytest.raises(PublishError, match="F054"):
            shop.publisher.reconcile(replace(shop.state, routes=(wrong,)))
    assert compare_state(open_store(shop.repo), shop.state) == []


def test_maps_and_notices_are_rows_that_anybody_can_read(shop: Shop) -> None:
    each = make_map("member", 2, 1, 12, 8, 3)
    shop.state = replace(shop.state, maps=(each,), notices={1: {"sunset": "2027-01-31", "successor": 2}})
    assert {"wrote member:r2->r1", "wrote notice@r1"} <= set(shop.set(2, RANKER))
    store = FeatureStore(repo_path=str(shop.repo))
    reader = routes.online_reader(store.provider.online_store, store.config)
    row = routes.read_rows(reader, ["member:r2->r1"])["member:r2->r1"]
    back = routes.row_map(row)
    assert back is not None
    assert back.fingerprint == each.fingerprint
    assert back.fidelity == each.fidelity
    assert routes.read_notices(reader, [1, 2]) == {1: {"sunset": "2027-01-31", "successor": 2}}
    assert routes.read_routes(reader, [("member", 1)]) == {}
    answer = store.get_online_features(
        features=["compat_transform:weights", "compat_transform:target_dim"],
        entity_rows=[{"transform_id": "member:r2->r1"}],
    ).to_dict()
    assert answer["target_dim"] == [8]
    assert np.asarray(answer["weights"][0]).tobytes() == each.weights.tobytes()
    changed = replace(shop.state, notices={})
    assert set(shop.publisher.reconcile(changed)) >= {"cancelled notice@r1"}
    assert routes.read_notices(reader, [1, 2]) == {}
    assert shop.publisher.reconcile(changed) == ()


def test_consumers_of_a_purged_release_stay_pinned(shop: Shop) -> None:
    retire(shop)
    pins = (RANKER, ConsumerPin("mailer", "mail@example.com", ("member",), 2))
    assert shop.set(2, *pins)
    assert compare_state(open_store(shop.repo), shop.state) == []


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_row_gives_back_the_map(d_n: int, d_m: int, h: int, normalise: bool) -> None:
    each = replace(make_map("member", 3, 1, d_n, d_m, h), normalise=normalise)
    row = routes.from_values(routes.to_values(routes.map_row(each)))
    assert row is not None
    back = routes.row_map(row)
    assert back is not None
    assert (back.fingerprint, back.name) == (each.fingerprint, each.name)
    assert routes.row_map(routes.nothing()) is None
    assert routes.row_notice(routes.nothing()) is None


def test_a_route_is_looked_up_once_per_ttl() -> None:
    now, asked, known = [0.0], [], {"member": make_map("member", 2, 1, 4, 4)}

    def look_up(node: str, release: int) -> Any:
        asked.append((node, release))
        return known.get(node)

    cache = routes.RouteCache(look_up, 10.0, lambda: now[0])
    first = cache.get("member", 1)
    for _ in range(3):
        assert cache.get("member", 1) is first
        assert cache.get("job", 1) is None
    assert asked == [("member", 1), ("job", 1)]
    now[0] = 10.0
    assert not cache.fresh("member", 1)
    known["member"] = make_map("member", 2, 1, 4, 4)
    assert cache.get("member", 1) is first  # equal: the one with its float32 copies stays
    known.clear()
    now[0] = 20.0
    threads = [threading.Thread(target=cache.get, args=("member", 1)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("member", 1) is None


def test_a_row_that_the_store_lost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop(tmp_path)
    shop.publish(1, vectors_of(1, 50, 20))
    state = replace(shop.state, active=1, notices={1: {"text": "ends soon"}})
    with monkeypatch.context() as patch:
        patch.setattr("star_platform.publishing.transforms._write", lambda *_: None)
        with pytest.raises(PublishError, match=r"F042.*did not keep"):
            shop.publisher.reconcile(state)
    assert any(change.startswith("wrote") for change in shop.publisher.reconcile(state))
