"""`kill -9` at any moment: what is active stays served, `--resume` finishes, and the bytes are those of a calm run."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from star_platform.project import Project
from tests.release.conftest import Releasing

pytestmark = pytest.mark.slow
KILLS = 20


def _assert_served(project: Project, release: str, vectors: dict[str, np.ndarray]) -> None:
    active = project.registry.active()
    assert active is not None
    assert active.name == release
    for node, expected in vectors.items():
        fetched = project.fetch(node, _ids(project, node))
        assert fetched.found.all()
        np.testing.assert_array_equal(fetched.vectors, expected)


def _ids(project: Project, node: str) -> list[str | int]:
    from star_platform.graph.storage import open_graph

    active = project.registry.active()
    assert active is not None
    graph = next(item for item in project.registry.artefacts(active.number) if item.kind == "graph")
    return open_graph(project.store.path("graph", graph.fingerprint)).ids(node).to_pylist()


def _vectors(project: Project) -> dict[str, np.ndarray]:
    active = project.registry.active()
    assert active is not None
    embedded = next(item for item in project.registry.artefacts(active.number) if item.kind == "embed")
    folder = project.store.path("embed", embedded.fingerprint)
    nodes = project.published()[active.number].nodes
    return {node: np.load(folder / f"{node}.npy") for node in nodes}


def _content(project: Project, number: int) -> dict[str, str]:
    return {item.stage: item.content_hash for item in project.registry.artefacts(number)}


def test_a_killed_release_is_resumed_to_the_same_bytes(market: Project, tmp_path: Path) -> None:
    calm = Project.open(Path(shutil.copytree(market.root, tmp_path / "calm")))
    stages = [stage.name for stage in calm.plan().plan.stages]
    assert calm.release() is not None
    before = _vectors(market)
    chance = random.Random(20)
    # every kind of stage at least once, in the order in which they run, then wherever chance leads
    kinds = {name.partition("/")[0]: name for name in stages}
    targets = sorted(
        [*kinds.values(), *chance.choices(stages[len(stages) // 2 :], k=KILLS - len(kinds))], key=stages.index
    )
    killed = []
    for target in targets:
        interrupted = bool(market.registry.unfinished())
        run = Releasing(market.root, tmp_path / "journal", resume=interrupted)
        run.wait_for(target)
        time.sleep(chance.expovariate(4.0) if target in ("train", "evaluate") else chance.uniform(0.0, 0.05))
        alive = run.process.is_alive()
        run.kill()
        if alive:
            killed.append(target)
        if market.registry.active().number == 2:  # the kill came after the last transaction
            break
        _assert_served(market, "r1", before)
    assert len(killed) >= KILLS - 2, killed
    assert {name.partition("/")[0] for name in killed} >= set(kinds) - {"activate"}
    if market.registry.active().number != 2 or market.registry.done_stages(2).keys() != set(stages):
        assert Releasing(market.root, tmp_path / "journal", resume=True).join() == 0
    assert _content(market, 2) == _content(calm, 2)
    _assert_served(market, "r2", _vectors(calm))
    assert market.releases()[-1].number == 2
