"""Readers that never stop, while releases are activated and rolled back under them."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_platform.publishing.client import EmbeddingClient
from star_platform.publishing.model import ConsumerPin
from tests.publishing.conftest import make_shop, vectors_of
from tests.publishing.stores import use_store

READERS, ACTIVATIONS, STALENESS = 10, 50, 0.5
RANKER = ConsumerPin("ranker", "ads@example.com", ("member", "job"), 1)


@pytest.mark.parametrize("kind", ["star-sqlite", "star-redis"])
def test_readers_notice_nothing_but_the_new_release(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    shop = make_shop(tmp_path)
    url = request.getfixturevalue("redis_url") if kind == "star-redis" else ""
    use_store(shop.repo, kind, url, f"load_{tmp_path.name.replace('-', '_')}")
    for release in (1, 2):
        shop.publish(release, vectors_of(release, 300, 60, 4 + 2 * release))
    shop.set(1, RANKER)

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "feast.infra.online_stores.redis", "feast.infra.online_stores.sqlite"])
    seen, stop, results = context.Array("i", READERS), context.Event(), context.SimpleQueue()
    readers = [
        context.Process(target=_read, args=(number, shop.repo, seen, stop, results)) for number in range(READERS)
    ]
    for reader in readers:
        reader.start()
    _wait_for(seen, 1, readers)
    for number in range(ACTIVATIONS):
        active = 2 - number % 2
        shop.set(active, replace(RANKER, release=active))
        if number in (9, 30, ACTIVATIONS - 1):
            _wait_for(seen, active, readers)
    stop.set()
    answers = [results.get() for _ in readers]
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0
    assert [answer["failed"] for answer in answers] == [None] * READERS
    assert all(answer["reads"] > 20 for answer in answers)
    assert {len(answer["releases"]) for answer in answers} == {2}


def _wait_for(seen: Any, release: int, readers: list[Any]) -> None:
    """Until every reader has read `release`: at the latest when the staleness is over, and a busy machine's grace."""
    deadline = time.monotonic() + STALENESS + 60
    while set(seen[:]) != {release}:
        assert all(reader.is_alive() for reader in readers)
        assert time.monotonic() < deadline, f"still {list(seen)}"
        time.sleep(0.01)


def _read(number: int, repo: Path, seen: Any, stop: Any, results: Any) -> None:
    """Every answer must be, row by row, what one release holds, and the release that the answer says it is."""
    source = {release: vectors_of(release, 300, 60, 4 + 2 * release) for release in (1, 2)}
    ids = [[int(key) for key in source[1][0].ids.to_pylist()], source[1][1].ids.to_pylist()]
    generator = np.random.default_rng(number)
    reads, failed, releases = 0, None, set()
    try:
        with EmbeddingClient(repo, consumer="ranker", staleness_seconds=STALENESS) as client:
            while not stop.is_set():
                at = reads % 2
                rows = generator.integers(0, 60, 50)
                asked = [ids[at][row] for row in rows]
                answer = client.read(asked, node=("member", "job")[at])
                expected = source[answer.release][at].vectors[rows]
                assert answer.space == f"space-{answer.release}"
                assert answer.vectors.tobytes() == expected.tobytes(), "an answer mixes spaces"
                seen[number] = answer.release
                releases.add(answer.release)
                reads += 1
                time.sleep(0.002)  # the writer needs the machine as well
    except Exception as error:
        failed = repr(error)
    results.put({"reads": reads, "failed": failed, "releases": sorted(releases)})
