"""Between two releases: who is new or changed gets a vector of the active release's model, and nobody else."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.cli.app import main
from star_platform.cli.refresh import microseconds
from star_platform.demo.world import AS_OF
from star_platform.errors import LeaseHeld, PublishError, RegistryError
from star_platform.graph.storage import open_graph
from star_platform.project import Project
from star_platform.publishing.writers import DirectWriter
from star_platform.release import LEASE
from star_platform.release.refresh import Refreshed, RefreshWish
from tests.publishing.stores import use_store
from tests.release.conftest import FIRST, make_project

LATER = datetime.fromtimestamp(AS_OF / 1e6, UTC) + timedelta(days=3)
SINCE = AS_OF + 86_400_000_000
NEWCOMERS = [1, 555_555_555]
"""Ids before and after all others, so that the index of every member moves."""


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pq.read_table(path)
    whole = [{name: row.get(name) for name in table.column_names} for row in rows]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(whole, schema=table.schema)]), path)


def members(project: Project) -> list[int]:
    """Of the active release, with those who have left it aside."""
    made = {item.stage: item for item in project.registry.artefacts(1)}
    return open_graph(project.store.path("graph", made["graph"].fingerprint)).ids("member").to_pylist()


def vectors(project: Project, ids: list[int]) -> np.ndarray:
    fetched = Project.open(project.root).fetch("member", ids)
    assert fetched.found.all()
    return np.array(fetched.vectors)


def days_later(root: Path, ids: list[int]) -> None:
    """Two members join, one of whom applies; a third applies; a fourth changes the headline; a fifth opts out."""
    data = root / "data"
    joined = [{"member_id": i, "joined_at": LATER, "region": "west", "seniority": "mid"} for i in NEWCOMERS]
    append(data / "members.parquet", joined)
    said = [{"member_id": i, "headline": "Auditor", "title_id": "title-027", "updated_at": LATER} for i in NEWCOMERS]
    changed = {"member_id": ids[50], "headline": "Tutor, patient", "title_id": "title-020", "updated_at": LATER}
    append(data / "profiles.parquet", [*said, changed])
    applies = [{"member_id": i, "job_id": "job-000087", "applied_at": LATER} for i in (NEWCOMERS[1], ids[100])]
    append(data / "applies.parquet", applies)
    settings = pq.read_table(data / "settings.parquet").to_pylist()
    for row in settings:
        row["allow_modelling"] = row["allow_modelling"] and row["member_id"] != ids[200]
    schema = pq.read_schema(data / "settings.parquet")
    pq.write_table(pa.Table.from_pylist(settings, schema=schema), data / "settings.parquet")


@pytest.fixture
def market(market: Project) -> Project:
    """Feast's registry names the folder of the offline rows: that of the copy."""
    market.publisher.reconcile(market.feast_state())
    return market


@pytest.fixture
def ids(market: Project) -> list[int]:
    return members(market)


@pytest.fixture
def later(market: Project, ids: list[int]) -> Project:
    """The market some days later."""
    days_later(market.root, ids)
    return Project.open(market.root)


def refreshed_events(project: Project) -> list[dict[str, Any]]:
    return [dict(event.details) for event in project.registry.events(1) if event.kind == "refreshed"]


WISH = RefreshWish("member", SINCE)


def test_who_is_new_or_changed_is_published_and_nobody_else(market: Project, ids: list[int]) -> None:
    before = vectors(market, ids)
    days_later(market.root, ids)
    project = Project.open(market.root)
    done = project.refresh(WISH, reason="daily")
    assert (done.new, done.changed, done.neighbours, done.gone) == (2, 2, 0, 1)
    assert (done.embedded, done.written, done.removed, done.unchanged) == (4, 4, 1, len(ids) - 3)

    kept = [i for i in ids if i != ids[200]]
    after = dict(zip(kept, vectors(project, kept), strict=True))
    changed = {ids[50], ids[100]}
    for i, old in zip(ids, before, strict=True):
        if i in changed:
            assert not np.allclose(after[i], old, atol=1e-4)
        elif i in after:
            assert np.array_equal(after[i], old)
    assert not project.fetch("member", [ids[200]]).found.any()
    newcomers = vectors(project, NEWCOMERS)
    assert np.isfinite(newcomers).all()
    assert not np.allclose(newcomers[0], newcomers[1], atol=1e-4), "one of them has applied"

    (event,) = refreshed_events(project)
    assert (event["node"], event["since"], event["embedded"], event["written"]) == ("member", SINCE, 4, 4)
    assert project.published()[1].nodes["member"].rows == len(ids) + 1
    assert project.publisher.reconcile(project.feast_state()) == (), "Feast has followed"

    again = Project.open(market.root).refresh(WISH)
    assert (again.new, again.changed, again.embedded, again.written, again.removed) == (0, 4, 4, 0, 0)
    assert len(refreshed_events(project)) == 1, "nothing was written, so nothing happened"


def test_a_day_later_only_the_day_counts(later: Project) -> None:
    later.refresh(WISH)
    done = later.refresh(RefreshWish("member", microseconds(LATER.isoformat()) + 1))
    assert (done.new, done.changed, done.embedded, done.written) == (0, 0, 0, 0)


def test_the_same_data_gives_the_same_vectors(market: Project, ids: list[int]) -> None:
    """Everybody is embedded again, over the same graph at the same moment: nothing differs by more than noise."""
    done = market.refresh(RefreshWish("member", 0))
    assert (done.new, done.embedded) == (0, done.changed)
    assert done.changed > 250
    assert (done.written, done.removed, refreshed_events(market)) == (0, 0, [])


def test_the_model_sees_texts_as_it_has_learned_them(later: Project) -> None:
    """The encoder is fitted to the texts of the release, not to today's: old texts keep their vectors to the bit."""
    later.refresh(WISH)
    made = {item.stage: item for item in later.registry.artefacts(1)}
    before = later.store.path("text", made["text/member.headline"].fingerprint) / "values.npy"
    others = [path / "values.npy" for path in (later.store.root / "text").iterdir()]
    old = {row.tobytes() for row in np.load(before)}
    shapes = [len(old & {row.tobytes() for row in np.load(path)}) for path in others if path != before]
    assert len(old) - 1 in shapes, "one has gone with who said it, all others are there"


def test_somebody_to_whom_nothing_has_happened(market: Project) -> None:
    """No event is newer than those of the release: the rows are dated just after it, and no clock is asked."""
    before = market.published()[1].nodes["member"].as_of
    longer_ago = LATER - timedelta(days=90)
    append(market.root / "data" / "members.parquet", [{"member_id": 2, "joined_at": longer_ago, "region": "west"}])
    done = Project.open(market.root).refresh(WISH)
    assert (done.new, done.changed, done.written, done.as_of) == (1, 0, 1, before)
    assert vectors(market, [2]).any()
    assert market.published()[1].nodes["member"].as_of == before + 1
    assert Project.open(market.root).refresh(WISH).written == 0


def test_neighbours(later: Project) -> None:
    alone = later.refresh(WISH, agreed=lambda _: False)
    wider = later.refresh(RefreshWish("member", SINCE, neighbours=True), agreed=lambda _: False)
    assert (wider.new, wider.changed) == (alone.new, alone.changed)
    assert 0 < wider.neighbours <= wider.entities - wider.new - wider.changed
    done = later.refresh(RefreshWish("member", SINCE, neighbours=True))
    assert done.embedded == wider.wanted


def test_who_does_not_agree_has_nothing_written(later: Project, ids: list[int]) -> None:
    before, asked = vectors(later, ids), []

    def no(found: Refreshed) -> bool:
        asked.append(found)
        return False

    found = later.refresh(WISH, agreed=no)
    assert asked == [found]
    assert (found.wanted, found.embedded, found.done) == (4, 0, False)
    assert np.array_equal(vectors(later, ids), before)
    assert refreshed_events(later) == []


def test_a_refresh_that_failed_between_the_stores_is_finished(
    later: Project, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise PublishError("F050", "the online store does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(DirectWriter, "write", down)
        with pytest.raises(PublishError, match="does not answer"):
            later.refresh(WISH)
    assert refreshed_events(later) == []
    assert later.registry.lease_info(LEASE) is None
    done = Project.open(later.root).refresh(WISH)
    assert (done.written, done.removed) == (4, 1)
    assert len(refreshed_events(later)) == 1
    assert vectors(later, [*NEWCOMERS, ids[50]]).any(axis=1).all()
    assert Project.open(later.root).refresh(WISH).written == 0


def test_redis(market: Project, ids: list[int], redis_url: str) -> None:
    """Moved to Redis, the store is empty: a refresh brings it all, the next one only what is new."""
    before = np.load(_embedded(market) / "member.npy")
    use_store(market.feature_repo, "star-redis", redis_url, f"refresh_{os.getpid()}")
    assert Project.open(market.root).refresh(WISH).written == len(ids)
    assert np.array_equal(vectors(market, ids), before)
    days_later(market.root, ids)
    done = Project.open(market.root).refresh(WISH)
    assert (done.new, done.changed, done.written, done.removed) == (2, 2, 4, 1)
    assert Project.open(market.root).refresh(WISH).written == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        "inference: layer-wise, densify: {neighbours: 3}",
        "inference: layer-wise, strategy: ppr, towers: dual, window: 400d",
        "precision: bf16, sequence: {activities: 4, heads: 2}",
    ],
)
def test_other_models(tmp_path: Path, training: str) -> None:
    """Derived edges are computed anew; neighbours, towers and activities are seen as the release saw them."""
    project = make_project(tmp_path / "market")
    path = project.root / "star.yaml"
    path.write_text(path.read_text().replace("threads: 1}\nev", f"threads: 1, {training}}}\nev"))
    assert training in path.read_text()
    assert Project.open(project.root).release(only=FIRST) is not None
    same = Project.open(project.root).refresh(RefreshWish("member", 0))
    assert (same.embedded, same.written) == (same.changed, 0)
    assert same.embedded > 250
    ids = members(project)
    days_later(project.root, ids)
    done = Project.open(project.root).refresh(WISH)
    assert (done.new, done.changed, done.written, done.removed) == (2, 2, 4, 1)
    assert Project.open(project.root).refresh(WISH).written == 0


def _embedded(project: Project) -> Path:
    made = {item.stage: item for item in project.registry.artefacts(1)}
    return project.store.path("embed", made["embed"].fingerprint)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_another_declaration_is_refused(later: Project) -> None:
    path = later.root / "signal_branches" / "skills.yaml"
    path.write_text(path.read_text().replace("dim: 32", "dim: 16"))
    with pytest.raises(RegistryError, match=r"feature skill\.vector changed since r1") as refused:
        later.refresh(WISH)
    assert refused.value.code == "R030"
    assert refreshed_events(later) == []


def test_another_owner_is_not_refused(later: Project) -> None:
    path = later.root / "signal_branches" / "skills.yaml"
    path.write_text(path.read_text().replace("skills-graph@", "skills-team@"))
    assert later.refresh(WISH, agreed=lambda _: False).wanted == 4


def test_other_settings_of_training_are_refused(later: Project) -> None:
    path = later.root / "star.yaml"
    path.write_text(path.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    with pytest.raises(RegistryError, match="settings training") as refused:
        Project.open(later.root).refresh(WISH)
    assert refused.value.code == "R030"


def test_a_branch_that_is_gone_is_refused(later: Project) -> None:
    (later.root / "signal_branches" / "skills.yaml").unlink()
    with pytest.raises(RegistryError, match="skills") as refused:
        later.refresh(WISH)
    assert refused.value.code == "R030"


@pytest.mark.parametrize("node", ["skill", "nobody"])
def test_a_node_type_without_vectors_is_refused(market: Project, node: str) -> None:
    with pytest.raises(RegistryError, match="job, member") as refused:
        market.refresh(RefreshWish(node, SINCE))
    assert refused.value.code == "R031"


def test_a_dataset_that_is_not_whole_is_refused(market: Project) -> None:
    (market.publisher.offline_root / "r1" / "member.json").unlink()
    with pytest.raises(RegistryError) as refused:
        market.refresh(WISH)
    assert refused.value.code == "R032"


def test_while_somebody_releases_it_is_refused(market: Project, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["refresh", "--node", "member", "--changed-since", "2025-01-01", "-p", str(market.root)]
    with market.registry.lease(LEASE, holder="ada@build-1"):
        with pytest.raises(LeaseHeld):
            Project.open(market.root).refresh(WISH)
        assert main(arguments) == 6
    assert "ada@build-1" in capsys.readouterr().err


def test_without_a_release_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new"), "--name", "new"]) == 0
    code = main(["refresh", "--node", "member", "--changed-since", "2025-01-01", "-p", str(tmp_path / "new")])
    assert code == 1
    assert "R022" in capsys.readouterr().err


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line(later: Project, capsys: pytest.CaptureFixture[str]) -> None:
    since = datetime.fromtimestamp(SINCE / 1e6, UTC).isoformat()
    arguments = ["refresh", "--node", "member", "--changed-since", since, "-p", str(later.root)]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert (dry["schema_version"], dry["release"], dry["dry_run"]) == (1, "r1", True)
    assert (dry["new"], dry["changed"], dry["gone"], dry["embedded"], dry["written"]) == (2, 2, 1, 0, 0)
    assert refreshed_events(later) == []
    assert main([*arguments, "--dry-run"]) == 0
    assert "2 new, 2 changed; 1 gone" in capsys.readouterr().out
    assert main([*arguments, "--yes"]) == 0
    assert "4 embedded, 4 written, 1 removed" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["new"], again["written"], again["removed"], again["done"]) == (0, 0, 0, True)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "01.11.2026"])
def test_a_moment_that_is_none(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["refresh", "--node", "member", "--changed-since", text]) == 64
    assert "U015" in capsys.readouterr().err


def test_moments_are_in_utc_unless_they_say_otherwise() -> None:
    assert microseconds("1970-01-02") == 86_400_000_000
    assert microseconds("1970-01-01T01:00+01:00") == 0
    assert microseconds("2026-11-01T00:00:00.000001Z") == microseconds("2026-11-01T00:00") + 1
