"""A release end to end, on the real components."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import ArtefactError, GateFailed, LeaseHeld, PublishError, RegistryError
from star_platform.project import Project
from star_platform.registry.states import ReleaseState
from star_platform.release import LEASE
from tests.release.conftest import FIRST, Releasing, make_project

STOCK_CLIENT = """
import sys, numpy as np
from feast import FeatureStore
repo, node, release, ids, out = sys.argv[1:6]
store = FeatureStore(repo_path=repo)
key = f"{node}_id" if f"{node}_id" in {k for e in store.list_entities() for k in [e.join_key]} else node
ids = [int(i) if i.lstrip("-").isdigit() else i for i in open(ids).read().split()]
rows = store.get_online_features(
    features=[f"{node}_embedding@v{release}:embedding"], entity_rows=[{key: i} for i in ids]
).to_dict()
name = next(k for k in rows if k.endswith("embedding"))
np.save(out, np.asarray(rows[name], dtype=np.float32))
"""


def _embedded(project: Project, number: int) -> Path:
    artefact = next(item for item in project.registry.artefacts(number) if item.kind == "embed")
    return project.store.path("embed", artefact.fingerprint)


def _ids(project: Project, number: int, node: str) -> list[object]:
    from star_platform.graph.storage import open_graph

    artefact = next(item for item in project.registry.artefacts(number) if item.kind == "graph")
    return open_graph(project.store.path("graph", artefact.fingerprint)).ids(node).to_pylist()


@pytest.mark.parametrize("node", ["member", "job"])
def test_a_stock_client_in_another_process_reads_the_artefact_bit_for_bit(
    market: Project, tmp_path: Path, node: str
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(map(str, _ids(market, 1, node))))
    out = tmp_path / "vectors.npy"
    command = [sys.executable, "-c", STOCK_CLIENT, str(market.feature_repo), node, "1", str(ids), str(out)]
    subprocess.run(command, check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(out), np.load(_embedded(market, 1) / f"{node}.npy"))


def test_the_second_release_reuses_and_the_third_has_nothing_to_do(market: Project) -> None:
    second = market.release()
    assert second is not None
    assert second.state is ReleaseState.ACTIVE
    assert market.registry.release(1).state is ReleaseState.DEPRECATED
    reused = {stage.stage for stage in market.registry.stages(2) if stage.reused}
    assert {"nodes/title", "texts/job.description"} <= reused
    assert market.release() is None
    assert len(market.releases()) == 2
    assert market.publisher.reconcile(market.feast_state()) == (), "Feast has followed, the notice for r1 included"


def test_a_rebuild_gives_the_same_bytes(market: Project) -> None:
    rebuilt = market.release(only=FIRST, rebuild=True)
    assert rebuilt is not None
    before = {item.stage: item.content_hash for item in market.registry.artefacts(1)}
    after = {item.stage: item.content_hash for item in market.registry.artefacts(2)}
    assert after.pop("compat"), "the first release had nobody to map to"
    assert before == after
    (member,) = (item for item in market.serving.maps() if item.node == "member")
    assert (member.name, member.method) == ("member:r2->r1", "identity")


def test_a_damaged_artefact_is_found_before_it_is_used(market: Project) -> None:
    nodes = next(item for item in market.registry.artefacts(1) if item.stage == "nodes/title")
    file = market.store.path("nodes", nodes.fingerprint) / "ids.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.unlink()
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"ids\.parquet"):
        market.release()
    assert market.registry.active().number == 1
    assert market.registry.release(2).state is ReleaseState.FAILED


def test_two_at_once_the_second_is_told_who_and_leaves_nothing(market: Project, tmp_path: Path) -> None:
    run = Releasing(market.root, tmp_path / "journal")
    run.wait_for("graph")
    counts = (len(market.releases()), len(market.registry.events()))
    with pytest.raises(LeaseHeld, match=r"process \d+") as refused:
        market.release()
    assert refused.value.exit_code == 6
    assert refused.value.details["holder"] != ""
    assert counts == (len(market.releases()), len(market.registry.events()))
    assert run.join() == 0
    assert market.registry.active().number == 2


def test_resume_without_an_interruption_says_so(market: Project) -> None:
    with pytest.raises(RegistryError, match="no release was interrupted"):
        market.release(resume=True)


def test_resume_refuses_another_plan(market: Project, tmp_path: Path) -> None:
    run = Releasing(market.root, tmp_path / "journal")
    run.wait_for("train")
    run.kill()
    path = market.root / "signal_branches" / "skills.yaml"
    path.write_text(path.read_text().replace("dim: 32", "dim: 16"))
    with pytest.raises(RegistryError, match="cannot be resumed") as refused:
        market.release(resume=True)
    assert refused.value.code == "R020"
    assert market.registry.active().number == 1


def test_a_gate_stops_before_publishing(market: Project) -> None:
    path = market.root / "star.yaml"
    path.write_text(path.read_text().replace("max_examples: 200", "max_examples: 200, gate: {min_auc: 1.0}"))
    strict = Project.open(market.root)
    with pytest.raises(GateFailed) as stopped:
        strict.release()
    assert stopped.value.exit_code == 4
    assert strict.registry.active().number == 1
    assert 2 not in strict.published()


def test_a_wrong_online_row_stops_before_activation(market: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that changes one vector on its way in: nobody may ever read it."""
    from star_platform.publishing.writers import DirectWriter

    write = DirectWriter.write

    def tampered(self, view, ids, vectors, *rest):
        vectors = np.array(vectors)
        vectors[0, 0] += 1.0
        return write(self, view, ids, vectors, *rest)

    monkeypatch.setattr(DirectWriter, "write", tampered)
    with pytest.raises(PublishError):
        market.release()
    assert market.registry.active().number == 1


def test_rollback_and_forth(market: Project) -> None:
    assert market.release() is not None
    before, after = market.activate("r1", "r2 looks odd")
    assert (before.name, after.name, after.state) == ("r2", "r1", ReleaseState.ACTIVE)
    ids = _ids(market, 1, "job")[:5]
    np.testing.assert_array_equal(market.fetch("job", ids).vectors, np.load(_embedded(market, 1) / "job.npy")[:5])
    market.activate("r2", "it was not")
    assert market.registry.active().number == 2


def test_the_lease_is_free_afterwards(market: Project) -> None:
    assert market.registry.lease_info(LEASE) is None


def test_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    project = make_project(tmp_path / "market", postgres_url)
    assert project.release(only=FIRST).name == "r1"
    assert project.release().name == "r2"
    assert project.release() is None
    assert [release.state for release in project.releases()] == [ReleaseState.DEPRECATED, ReleaseState.ACTIVE]


def test_the_command_line_says_nothing_changed(market: Project) -> None:
    command = [sys.executable, "-m", "star_platform.cli.app", "release", "--json", "-p", str(market.root)]
    for name in FIRST:
        command += ["--branch", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"schema_version": 1, "changed": False, "latest": "r1"}
