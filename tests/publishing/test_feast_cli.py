"""Feast's own commands on a published repository: they run, and they change nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from star_platform.errors import PublishError
from star_platform.publishing.objects import definitions
from star_platform.publishing.projection import compare_state, open_store
from star_platform.publishing.scaffold import feature_repo_files
from tests.conftest import REPOSITORY
from tests.publishing.conftest import MAILER, RANKER, Shop, make_map
from tests.publishing.nursery import Nursery
from tests.publishing.stores import use_store
from tests.publishing.test_publish import files, rows_online


def feast(nursery: Nursery, shop: Shop, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a Feast command, run in another folder."""
    log = shop.root / "feast.log"
    log.unlink(missing_ok=True)
    status = os.waitstatus_to_exitcode(nursery.run(log, "feast", shop.root, "--chdir", shop.repo, *arguments))
    return status, log.read_text()


def registry(shop: Shop) -> Any:
    """The registry without what every write of the file changes, and what Feast notes of how it was written."""
    from feast.protos.feast.core.Registry_pb2 import Registry

    result = Registry.FromString((shop.root / ".star" / "feast_registry.db").read_bytes())
    result.ClearField("version_id")
    clear(result)
    for items in (result.entities, result.feature_services, result.data_sources):
        items.sort(key=lambda item: item.SerializeToString(deterministic=True))
    return result


def clear(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in ("last_updated", "last_updated_timestamp", "created_timestamp", "data_source_class_type"):
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                clear(each)


def test_the_repository_of_this_project_is_the_scaffold() -> None:
    for name, text in feature_repo_files("marketplace").items():
        assert (REPOSITORY / "feature_repo" / name).read_text() == text


@pytest.mark.parametrize("kind", ["sqlite", "star-sqlite"])  # Feast plans for its own type, and only for that
def test_a_plain_feast_apply_changes_nothing(shop: Shop, nursery: Nursery, kind: str) -> None:
    use_store(shop.repo, kind)
    status, output = feast(nursery, shop, "apply")  # before any release
    assert status == 0, output
    shop.publish(1)
    shop.set(1, RANKER)
    before = registry(shop), files(shop), rows_online(shop)
    status, output = feast(nursery, shop, "apply")
    assert status == 0, output
    assert (registry(shop), files(shop), rows_online(shop)) == before
    # a new front: the tables of the former one, which a consumer is pinned to, must survive the next apply
    shop.publish(2)
    shop.set(2, RANKER, MAILER)
    before = registry(shop), files(shop), rows_online(shop)
    status, output = feast(nursery, shop, "apply")
    assert status == 0, output
    assert "No changes to infrastructure" in output or kind != "sqlite"
    assert (registry(shop), files(shop), rows_online(shop)) == before
    assert compare_state(open_store(shop.repo), shop.state) == []
    assert shop.publisher.reconcile(shop.state) == ()
    shop.state = replace(shop.state, routes=(make_map("member", 2, 1, 8, 8),), notices={1: {"successor": 2}})
    shop.set(2, RANKER, MAILER)
    before = registry(shop), files(shop), rows_online(shop)
    status, output = feast(nursery, shop, "apply")
    assert status == 0, output
    assert (registry(shop), files(shop), rows_online(shop)) == before
    # our registry went ahead and Feast's did not: an apply would now drop what r2's consumers read
    shop.state = replace(shop.state, active=1)
    shop.save()
    status, output = feast(nursery, shop, "apply")
    assert status != 0
    assert "F041" in output
    assert (registry(shop), files(shop), rows_online(shop)) == before


def test_definitions_refuse_a_registry_that_is_out_of_step(two_releases: Shop) -> None:
    assert len(definitions(two_releases.state, two_releases.repo)) == 2 + 2 + 2 + 2
    for other in (
        replace(two_releases.state, active=1),
        replace(two_releases.state, consumers=(RANKER,)),
        replace(two_releases.state, consumers=(RANKER, replace(MAILER, release=1))),
        replace(two_releases.state, offline_root=Path("/elsewhere")),
    ):
        with pytest.raises(PublishError, match="F041"):
            definitions(other, two_releases.repo)


@contextmanager
def served(nursery: Nursery, shop: Shop, *arguments: str) -> Iterator[str]:
    """A `feast` server on a free loopback port, stopped at the end; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = shop.root / f"{arguments[0]}.log"
    pid = nursery.start(
        log, "feast", shop.root, "--chdir", shop.repo, *arguments, "--host", "127.0.0.1", "--port", port
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(pid, signal.SIGTERM)
        nursery.wait(pid)


def get(url: str, body: dict[str, Any] | None = None, seconds: float = 60) -> bytes:
    """The answer, once the server is up."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
                return answer.read()  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def test_feast_serve_and_feast_ui_answer(two_releases: Shop, nursery: Nursery) -> None:
    members, jobs = two_releases.vectors[1]
    with served(nursery, two_releases, "serve") as server, served(nursery, two_releases, "ui") as ui:
        entities = {"member_id": [-7, 2], "job_id": jobs.ids.to_pylist()[:2]}
        body = {"feature_service": "ranker", "entities": entities, "full_feature_names": True}
        answer = json.loads(get(f"{server}/get-online-features", body))
        columns = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        assert {"member_id", "job_id"} < set(columns)
        found = sorted(column["values"] for name, column in columns.items() if name.endswith("embedding"))
        expected = sorted([members.vectors[[0, 3]].astype(float).tolist(), jobs.vectors[:2].astype(float).tolist()])
        assert found == expected
        assert b"<html" in get(ui).lower()
        assert b"member_embedding" in get(f"{ui}/api/v1/feature_views?project=star_test")
