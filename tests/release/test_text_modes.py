"""Releases whose text encoder runs inside the GNN."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import SignalErrors
from star_platform.gnn.model_io import TEXT_FOLDER
from star_platform.graph.storage import open_graph
from star_platform.project import Project
from star_platform.project.encoding import encode_features
from star_platform.project.settings import stage_seconds
from star_platform.release.refresh import RefreshWish
from tests.release.conftest import FIRST, make_project
from tests.release.test_refresh import NEWCOMERS, SINCE, days_later, members
from tests.text.tiny import save_tiny_bert

SHORT = "text: {encoder: %s, mode: %s, max_tokens: 12, cotrain: {lr: 0.001}}"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


def with_mode(project: Project, bert: Path, mode: str) -> Project:
    path = project.root / "star.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("text:")]
    path.write_text("\n".join([*lines, SHORT % (bert, mode)]) + "\n")
    return Project.open(project.root)


@pytest.fixture(scope="module")
def cotrained(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = with_mode(make_project(tmp_path_factory.mktemp("modes") / "market"), bert, "co-train")
    assert project.release(only=FIRST) is not None
    return project.root


def path_of(project: Project, stage: str) -> Path:
    made = {item.stage: item for item in project.registry.artefacts(1)}
    return project.store.path(made[stage].kind, made[stage].fingerprint)


def test_a_release_is_made_of_the_texts_as_the_trained_encoder_reads_them(cotrained: Path) -> None:
    project = Project.open(cotrained)
    model = path_of(project, "train")
    stored = np.load(model / TEXT_FOLDER / "vectors" / "member.headline.npy")
    before = open_graph(path_of(project, "graph")).features("member")
    profile = next(feature for feature in before if feature.name == "headline")
    assert profile.values is not None
    assert profile.tokens is not None
    assert profile.tokens.shape[1] == 12
    assert stored.shape == profile.values.shape
    assert np.abs(stored - profile.values).max() > 1e-4
    assert project.fetch("member", members(project)[:5]).found.all()


def test_nothing_changed_is_nothing_to_do_and_another_mode_trains_anew(cotrained: Path, bert: Path) -> None:
    project = Project.open(cotrained)
    assert not project.plan(FIRST).plan.changes
    yaml = (cotrained / "star.yaml").read_text()
    assert "train" in stage_seconds(project)
    try:
        other = with_mode(project, bert, "frozen")
        plan = other.plan(FIRST).plan
        assert "train" not in stage_seconds(other), "a training of another mode tells nothing of this one"
    finally:
        (cotrained / "star.yaml").write_text(yaml)
    assert [change.name for change in plan.changes] == ["text"]
    built = {stage.name for stage in plan.stages if not project.store.find(stage.kind, stage.fingerprint)}
    assert "train" in built
    assert not [name for name in built if name.startswith(("text/", "graph"))]


def test_texts_that_were_encoded_before_the_release_have_their_tokens(cotrained: Path, tmp_path: Path) -> None:
    """`text encode` leaves what a release finds: without tokens it would train as if nothing were inside."""
    shutil.copytree(cotrained, tmp_path / "market")
    project = Project.open(tmp_path / "market")
    shutil.rmtree(project.artefacts / "text")
    for feature in encode_features(project, only=FIRST):
        assert feature.artefact is not None
        assert (feature.artefact / "tokens.npy").is_file()


def test_a_refresh_reads_new_texts_with_the_trained_encoder(cotrained: Path) -> None:
    project = Project.open(cotrained)
    ids = members(project)
    days_later(cotrained, ids)

    found = Project.open(cotrained).refresh(RefreshWish("member", SINCE))
    assert (found.new, found.changed) == (2, 2)
    assert Project.open(cotrained).fetch("member", NEWCOMERS).found.all()


def test_texts_do_not_go_into_an_ltgnn(cotrained: Path) -> None:
    path = cotrained / "star.yaml"
    yaml = path.read_text()
    path.write_text(yaml.replace("training: {", "training: {encoder: ltgnn, "))
    try:
        with pytest.raises(SignalErrors, match="has no place"):
            Project.open(cotrained)
    finally:
        path.write_text(yaml)
