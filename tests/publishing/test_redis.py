"""The same publisher on Feast's stock Redis store: the project's yaml chooses the store."""

from __future__ import annotations

import os

import pytest

from star_platform.errors import PublishError
from star_platform.publishing.model import join_key, reference
from star_platform.publishing.projection import open_store
from star_platform.publishing.read import Reader
from tests.publishing.conftest import Shop, vectors_of
from tests.publishing.stores import use_store


def use_redis(shop: Shop, url: str, **settings: object) -> None:
    use_store(shop.repo, "redis", url, f"star_test_{os.getpid()}", **settings)


def test_two_releases_on_redis(shop: Shop, redis_url: str) -> None:
    use_redis(shop, redis_url)
    releases = [shop.publish(number, vectors_of(number, 700, 40)) for number in (1, 2)]
    shop.set(1)
    shop.publish(1, shop.vectors[1])  # again: equal timestamps must not lose a row
    reader = Reader(shop.repo)
    for release in releases:
        for source in shop.vectors[release.number]:
            fetched = reader.fetch(
                release, source.node, [*source.ids.to_pylist(), 10**9 if source.node == "member" else ""]
            )
            assert fetched.found.tolist() == [True] * len(source.ids) + [False]
            assert fetched.vectors[:-1].tobytes() == source.vectors.tobytes()
        shop.publisher.verify(release, shop.vectors[release.number])


def test_a_changed_record_fails_the_verification(shop: Shop, redis_url: str) -> None:
    use_redis(shop, redis_url)
    release = shop.publish(1, vectors_of(1, 50, 20))
    store = open_store(shop.repo)
    node = release.nodes["job"]
    key = shop.vectors[1][1].ids[7].as_py()
    before = store.get_online_features(features=[reference("job", 1)], entity_rows=[{join_key("job"): key}]).to_dict()
    assert before["embedding"] != [None]
    import redis

    client = redis.Redis.from_url(redis_url)
    (record,) = [name for name in client.scan_iter() if key.encode() in name and name.endswith(store.project.encode())]
    assert client.delete(record) == 1
    with pytest.raises(PublishError, match="F021"):
        shop.publisher.verify(release, shop.vectors[1])
    assert shop.publish(1, shop.vectors[1]).nodes["job"] == node  # its shard is acknowledged, and found to be lost
    shop.publisher.verify(release, shop.vectors[1])


def test_redis_that_skips_rows_is_refused(shop: Shop, redis_url: str) -> None:
    use_redis(shop, redis_url, skip_dedup="false")
    with pytest.raises(PublishError, match="skip_dedup"):
        shop.publish(1)
