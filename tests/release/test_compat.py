"""Maps in a release: who is asked, what stops it, and what joint training adds."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from star_platform.cli.app import main
from star_platform.project import Project
from star_platform.registry.states import ReleaseState
from tests.release.conftest import FIRST

pytestmark = pytest.mark.slow

PINNED = "consumer: ranker\nowner: ads@example.com\nnodes: [member, job]\nrelease: r1\n"


def with_settings(project: Project, text: str) -> Project:
    file = project.root / "star.yaml"
    file.write_text(file.read_text() + text)
    return Project.open(project.root)


def with_consumer(project: Project, text: str = PINNED) -> Project:
    folder = project.root / "consumers"
    folder.mkdir(exist_ok=True)
    (folder / "ranker.yaml").write_text(text)
    return project


def test_a_release_that_would_break_a_consumer_stops_before_it_is_published(
    market: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with_consumer(market)
    strict = with_settings(market, "compat: {gate: {min_r2: 0.9999}}\n")
    assert main(["release", "--json", "--project", str(strict.root)]) == 4
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "C020"
    assert "ranker (ads@example.com) reads r1" in error["message"]
    assert "compat.mode: joint-multi" in error["message"]
    assert "compat.keep: [r1]" in error["message"]
    assert strict.registry.active().number == 1
    assert strict.registry.release(2).state is ReleaseState.FAILED
    assert set(strict.published()) == {1}
    trained = {item.stage: item.content_hash for item in strict.registry.artefacts(2)}

    file = strict.root / "star.yaml"
    file.write_text(file.read_text().replace("compat: {", "compat: {keep: [r1], "))
    kept = Project.open(strict.root)
    finished = kept.release(resume=True)
    assert finished is not None
    assert (finished.number, finished.state) == (2, ReleaseState.ACTIVE)
    after = {item.stage: item.content_hash for item in kept.registry.artefacts(2)}
    assert after == trained, "saying that r1 stays trains and fits nothing again"
    names = {item.name for item in kept.serving.maps()}
    assert names == {f"{node}:r2->r1" for node in kept.published()[2].nodes if node in kept.published()[1].nodes}


def test_who_follows_latest_and_who_reads_nothing_older_stops_nothing(market: Project) -> None:
    with_consumer(market, PINNED.replace("r1", "latest"))
    strict = with_settings(market, "compat: {gate: {min_r2: 0.9999}}\n")
    assert strict.release() is not None
    assert strict.registry.active().number == 2


def test_no_maps_where_nobody_wants_them(market: Project) -> None:
    plain = with_settings(market, "compat: {mode: none}\n")
    assert plain.release() is not None
    assert plain.serving.maps() == ()


def test_joint_training_brings_maps_of_its_own(market: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from star_platform.gnn import inference

    moments: list[int | None] = []
    embed = inference.embed

    def watched(*arguments: object, at: int | None = None, **options: object) -> object:
        moments.append(at)
        return embed(*arguments, at=at, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "embed", watched)
    joint = with_settings(market, "compat: {mode: joint-multi, align_batch: 64}\n")
    plan = joint.plan().plan
    train = next(stage for stage in plan.stages if stage.name == "train")
    assert "aligned with r1" in train.what
    assert joint.release() is not None
    details = {item.stage: item for item in joint.registry.artefacts(2)}
    report = joint.store.open("compat", details["compat"].fingerprint).details
    assert report["mode"] == "joint-multi"
    methods = {candidate["method"] for item in report["maps"] for candidate in item["candidates"]}
    assert {"ridge", "joint"} <= methods
    trained = joint.store.open("train", details["train"].fingerprint).details
    assert moments[0] == trained["validation_start"], "targets know nothing of what the model is judged on"
    assert not list((joint.store.root / ".work").glob("train-*"))
    assert joint.release() is None, "the same target again is no change"


def test_a_consumer_of_a_named_release_changes_the_gate_and_not_the_model(market: Project) -> None:
    before = {stage.name: stage.fingerprint for stage in market.plan().plan.stages}
    after = {stage.name: stage.fingerprint for stage in with_consumer(market).plan().plan.stages}
    assert {name for name in before if before[name] != after[name]} == {"compat", "publish", "activate"}


def test_the_first_release_has_nobody_to_map_to(first_release: object, market: Project) -> None:
    assert "compat" not in {item.stage for item in market.registry.artefacts(1)}
    assert market.serving.maps() == market.serving.routes() == ()


def test_after_a_drift_maps_are_fitted_as_of_the_older_release(
    market: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_platform.gnn import inference

    path = market.root / "data" / "applies.parquet"
    table = pq.read_table(path)
    last = table.slice(table.num_rows - 40)
    later = pc.add(last["applied_at"], pa.scalar(30 * 86_400_000_000, pa.duration("us")))
    later = later.cast(table.schema.field("applied_at").type)
    drifted = last.set_column(last.schema.get_field_index("applied_at"), "applied_at", later)
    pq.write_table(pa.concat_tables([table, drifted]), path)
    moments: list[int | None] = []
    embed = inference.embed

    def watched(*arguments: object, at: int | None = None, **options: object) -> object:
        moments.append(at)
        return embed(*arguments, at=at, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "embed", watched)
    old = _as_of(market, 1)
    assert market.release(only=FIRST) is not None
    assert _as_of(market, 2) > old
    assert moments == [None, old + 1]
    assert not list((market.store.root / ".work").glob("compat-*")), "the scratch is gone"


def _as_of(project: Project, number: int) -> int:
    from star_platform.graph.storage import open_graph

    made = next(item for item in project.registry.artefacts(number) if item.kind == "graph")
    return open_graph(project.store.path("graph", made.fingerprint)).as_of
