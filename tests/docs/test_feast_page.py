"""What docs/feast.md tells readers to do, done against published releases."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from star_platform.project import Project
from star_platform.publishing.model import ConsumerPin, NodeVectors
from star_platform.publishing.projection import compare_state, open_store
from star_platform.publishing.read import Reader
from tests.conftest import REPOSITORY
from tests.docs.markdown import fences, parsed
from tests.publishing.conftest import Shop, make_shop

PAGE = REPOSITORY / "docs" / "feast.md"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """r1 and r2 of a few members and jobs, r1 active; id 17 is there, 42 is not."""
    shop = make_shop(tmp_path_factory.mktemp("page"))
    for number in (1, 2):
        draw = np.random.default_rng(number).standard_normal((20, 4)).astype(np.float32)
        nodes = {"member": np.arange(20), "job": np.arange(20)}
        shop.publish(number, [NodeVectors(node, pa.array(ids), draw + len(node)) for node, ids in nodes.items()])
    shop.set(1, ConsumerPin("job-ranker", "feed-ranking@example.com", ("member", "job"), 2))
    return shop


def test_the_snippets_read_what_was_published(published: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(published.root)
    blocks = [fence.text for fence in fences(PAGE) if fence.language == "python"]
    online, arrays, neighbours, historical, by_service = blocks
    names: dict[str, Any] = {}
    members, jobs = (item.vectors for item in published.vectors[2])
    exec(online, names)
    np.testing.assert_array_equal(np.float32(names["vectors"][0]), members[17])
    assert names["vectors"][1] is None
    exec(arrays, names)
    assert names["found"].tolist() == [True, False]
    np.testing.assert_array_equal(names["vectors"][0], members[17])
    releases = {release.number: release for release in published.state.releases}
    project = SimpleNamespace(publisher=published.publisher, published=lambda: releases)
    monkeypatch.setattr(Project, "open", lambda: project)
    exec(neighbours, names)
    names["client"].close()
    assert len(names["ids"]) == 10
    assert 5 not in names["ids"]
    exec(historical, names)
    table = names["table"].sort_values("member_id")
    np.testing.assert_array_equal(np.float32(table["embedding"].tolist()[0]), members[17])
    exec(by_service, names)
    answer = names["answer"].to_dict()
    found = {name: np.float32(values[0]) for name, values in answer.items() if name.endswith("embedding")}
    assert set(found) == {"member_embedding@v2__embedding", "job_embedding@v2__embedding"}
    np.testing.assert_array_equal(found["member_embedding@v2__embedding"], members[17])
    np.testing.assert_array_equal(found["job_embedding@v2__embedding"], jobs[5])


def test_the_registry_of_feast_moves_to_postgres(tmp_path: Path, postgres_database: str) -> None:
    """With the lines of the page: filled from ours, read by a client, and back to an older release."""
    shop = make_shop(tmp_path)
    vectors = [NodeVectors("member", pa.array(np.arange(20)), np.ones((20, 4), np.float32) * n) for n in (1, 2)]
    shop.publish(1, vectors[:1])
    (lines,) = [fence.text for fence in fences(PAGE) if fence.mark == "yaml: feature_store.yaml"]
    url = postgres_database.replace("postgresql+psycopg2", "postgresql+psycopg")
    moved = {"registry": {**parsed(lines)["registry"], "path": url}}
    settings = shop.repo / "feature_store.yaml"
    settings.write_text(json.dumps({**parsed(settings.read_text()), **moved}))  # JSON is YAML
    assert "registered member_embedding@v1" in shop.set(1)  # what `doctor --repair` does
    shop.publish(2, vectors[1:])
    for active in (2, 1):
        shop.set(active, ConsumerPin("ranker", "ads@example.com", ("member",), 1))
        assert compare_state(open_store(shop.repo), shop.state) == []
        for number, source in enumerate(vectors, 1):
            release = shop.state.release(number)
            assert release is not None
            np.testing.assert_array_equal(Reader(shop.repo).fetch(release, "member", [3]).vectors, source.vectors[3:4])
