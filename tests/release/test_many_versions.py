"""The life of two releases with two readers, through the command line, every step killed once and run again.

r1; A declares that it reads r1, B just reads it; r2; deprecate r1; retire is refused and names both; B moves; retire; A
makes the same call and is answered through the map; purge; the way back to r1 is refused.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest

from star_platform.cli.app import main
from star_platform.project import Project
from star_platform.publishing.client import DeprecatedRelease, EmbeddingClient
from star_platform.publishing.usage import UsageCounter
from tests.release.conftest import FIRST, make_project

pytestmark = pytest.mark.slow

_FORK = multiprocessing.get_context("forkserver")
LAX = "compat: {gate: {min_r2: -1.0, min_cosine: 0.3, min_cosine_p5: 0.2, min_overlap: 0.0, min_slice_cosine: 0.3}}\n"
NOW = "lifecycle: {settle_seconds: 0}\n"
CONSUMER = "consumer: %s\nowner: %s@example.com\nnodes: [member]\nrelease: %s\n"

PLACES = {
    "release r1": "star_platform.publishing.publish:Publisher.reconcile",
    "release r2": "star_platform.publishing.publish:Publisher.publish",
    "deprecate": "star_platform.publishing.publish:Publisher.reconcile",
    "retire": "star_platform.publishing.publish:Publisher.reconcile",
    "purge": "star_platform.publishing.publish:Publisher.reconcile",
}
"""Where each step dies at its first try: when the registry has it and Feast does not, or in the middle of the work."""


def _dying(arguments: list[str], place: str) -> None:
    """The command line in a process that is killed when it comes to `place`."""
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    target: Any = __import__(module, fromlist=["_"])
    if owner:
        target = getattr(target, owner)

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(target, name, die)
    sys.exit(main(arguments))


@dataclass
class Market:
    """A project, and its command line."""

    project: Project
    say: Callable[[], tuple[str, str]]

    @property
    def root(self) -> Path:
        return self.project.root

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a verb."""
        self.say()
        code = main([*arguments, "--project", str(self.root)])
        return (code, *self.say())

    def killed_then(self, step: str, *arguments: str) -> tuple[int, str, str]:
        """The verb in a process that is killed on the way, then once more."""
        process = _FORK.Process(target=_dying, args=([*arguments, "--project", str(self.root)], PLACES[step]))
        process.start()
        process.join(240)
        assert process.exitcode == -signal.SIGKILL, f"{step} did not come to {PLACES[step]}: {process.exitcode}"
        return self.run(*arguments)

    def consumer(self, name: str, release: str) -> None:
        folder = self.root / "consumers"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(CONSUMER % (name, name, release))

    def read(self, ids: list[Any], **who: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As a consumer's process reads: its own client, and its counts are flushed when it ends."""
        with EmbeddingClient(self.project.feature_repo) as client:
            vectors, found = client.read(ids, **who)
        for counter in UsageCounter._of_process.values():  # those of tests before this one have nowhere to go
            counter.flush()
        return vectors, found


def company(root: Path, postgres: str, redis: str) -> None:
    """Feast's registry in Postgres, vectors in Redis."""
    server = urlparse(redis)
    password = f",password={server.password}" if server.password else ""
    text = (root / "feature_repo" / "feature_store.yaml").read_text()
    text = re.sub(r"project: .*", f"project: market_{os.getpid()}", text)
    text = re.sub(
        r"  path: .*feast_registry.db",
        "  registry_type: sql\n  path: " + postgres.replace("psycopg2", "psycopg"),
        text,
    )
    text = re.sub(
        r"online_store:\n(  .*\n)+",
        "online_store:\n  type: star_platform.publishing.redis.StarRedisOnlineStore\n"
        f"  connection_string: {server.hostname}:{server.port},db={server.path.strip('/') or 0}{password}\n"
        "  skip_dedup: true\n",
        text,
    )
    (root / "feature_repo" / "feature_store.yaml").write_text(text)


@pytest.fixture(params=["laptop", "company"])
def market(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Market:
    root = tmp_path / "market"
    if request.param == "laptop":
        make_project(root)
    else:
        ours = request.getfixturevalue("postgres_database")
        make_project(root, ours)
        company(root, ours, request.getfixturevalue("redis_url"))
    with (root / "star.yaml").open("a") as file:
        file.write(LAX + NOW)
    return Market(Project.open(root), lambda: capsys.readouterr())


def test_from_the_first_release_to_its_purge(market: Market) -> None:
    only = [option for name in FIRST for option in ("--branch", name)]
    market.consumer("a", "r1")

    # r1, read by A, which says so, and by B, which does not
    code, _, err = market.killed_then("release r1", "release", *only)
    if code:  # the release was activated and its process died before Feast heard of it
        code, _, err = market.run("release", "--resume")
    assert code == 0, err
    project = market.project
    ids = project.store.find("graph", _made(project, 1, "graph")) and _ids(project, 1)
    first, found = market.read(ids, consumer="a")
    assert found.all()
    assert first.shape == (len(ids), 16)
    np.testing.assert_array_equal(first, _vectors(project, 1))
    market.read(ids[:5], consumer="b", node="member", release=1)

    # r2, from all branches
    code, _, err = market.killed_then("release r2", "release")
    assert code == 0, err
    if project.registry.active().number == 1:  # pragma: no cover - depends on the base of the plan
        code, _, err = market.run("release", "--resume")
    active = project.registry.active().number
    assert active > 1
    with pytest.warns(DeprecatedRelease, match=f"r1 is deprecated .* read r{active} instead"):
        same, _ = market.read(ids, consumer="a")
    np.testing.assert_array_equal(same, first), "r1 is served as it was"

    # its days are counted
    code, _, err = market.killed_then(
        "deprecate", "deprecate", "r1", "--sunset", "2031-01-31", "--successor", f"r{active}", "--reason", "old"
    )
    assert code == 0, err
    code, out, _ = market.run("status", "--json")
    assert code == 0
    assert "2031-01-31" in out
    with pytest.warns(DeprecatedRelease, match="r1 is deprecated and will be served until 2031-01-31"):
        market.read(ids[:2], consumer="a")

    # nobody is cut off
    code, out, err = market.run("retire", "r1", "--json")
    assert code == 5
    refused = json.dumps(json.loads(out))
    assert '"a"' in refused
    assert '"b"' in refused
    assert project.registry.release(1).state == "deprecated"

    # B moves; A stays, and is answered through the map
    market.consumer("b", f"r{active}")
    market.read(ids[:5], consumer="b", node="member", release=active)
    code, out, err = market.run("who-uses", "r1")
    assert code == 0, err
    code, _, err = market.killed_then("retire", "retire", "r1")
    assert code == 0, err
    mapped, found = market.read(ids, consumer="a")
    route = next(item for item in project.serving.routes() if item.node == "member")
    _assert_mapped(project, route, active, ids, mapped, found)
    assert mapped.shape == first.shape
    stock = _stock(project, ids[:50])
    np.testing.assert_array_equal(stock, mapped[:50])

    # its vectors go, the answers stay
    code, out, err = market.killed_then("purge", "purge", "r1", "--json")
    assert code == 0, err
    assert project.registry.release(1).state == "purged"
    again, found = market.read(ids, consumer="a")
    np.testing.assert_array_equal(again, mapped)
    assert found.all()

    # and there is no way back
    code, _, err = market.run("activate", "--to", "r1")
    assert code == 1
    assert "purged" in err
    assert project.registry.active().number == active
    kinds = [event.kind for event in project.registry.events(1)]
    assert {"release-started", "published", "deprecation", "route", "state"} <= set(kinds)


def _made(project: Project, number: int, stage: str) -> str:
    return next(item.fingerprint for item in project.registry.artefacts(number) if item.stage == stage)


def _ids(project: Project, number: int) -> list[Any]:
    from star_platform.graph.storage import open_graph

    return open_graph(project.store.path("graph", _made(project, number, "graph"))).ids("member").to_pylist()


def _vectors(project: Project, number: int) -> np.ndarray[Any, Any]:
    return np.load(project.store.path("embed", _made(project, number, "embed")) / "member.npy")


def _assert_mapped(
    project: Project, route: Any, active: int, ids: list[Any], vectors: np.ndarray[Any, Any], found: Any
) -> None:
    """What was read is the active release's vector through the map, for everybody whom the active release has."""
    assert (route.source, route.target) == (active, 1)
    places = {identifier: row for row, identifier in enumerate(_ids(project, active))}
    there = np.array([identifier in places for identifier in ids])
    np.testing.assert_array_equal(found, there)
    rows = [places[identifier] for identifier in ids if identifier in places]
    np.testing.assert_allclose(vectors[there], route.apply(_vectors(project, active)[rows]), rtol=1e-5, atol=1e-6)


def _stock(project: Project, ids: list[Any]) -> np.ndarray[Any, Any]:
    """The pinned reference of r1 through Feast's own client."""
    from feast import FeatureStore

    answer = FeatureStore(repo_path=str(project.feature_repo)).get_online_features(
        features=["member_embedding@v1:embedding"], entity_rows=[{"member_id": item} for item in ids]
    )
    return np.asarray(answer.to_dict()["embedding"], dtype=np.float32)
