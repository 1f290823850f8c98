"""The stage that computes edges from the graph, on the repository's own branches over generated tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from star_platform.compat.slices import degrees
from star_platform.evaluation.history import first_meetings
from star_platform.gnn.classification import boundary_moments
from star_platform.gnn.inference import _covered
from star_platform.gnn.model_io import load_model
from star_platform.graph.derived import ExtendedGraph, ppr_edge_types, ppr_edges
from star_platform.graph.storage import EdgeType, open_graph
from star_platform.project import Project
from star_platform.registry.artefacts import ArtefactStore
from star_platform.release.build import BUILDERS
from star_platform.release.model import Run
from tests.release.conftest import make_project

ASKED = "training: {strategy: ppr, ppr: {top_k: 8}, densify: {neighbours: 3}, "


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("derive") / "market")
    star = made.root / "star.yaml"
    star.write_text(star.read_text().replace("training: {", ASKED))
    return Project.open(made.root)


@pytest.fixture(scope="module")
def run(project: Project) -> Iterator[Run]:
    """A release that has come as far as training."""
    request = project.plan()
    with project._opened_engine(request.spec) as engine:
        under_way = Run(project.workshop(engine), request, 1, cast(Any, None))
        for stage in request.plan.stages:
            if stage.kind == "train":
                break
            under_way.done[stage.name] = BUILDERS[stage.kind](under_way, stage)
        yield under_way


def test_the_stage_is_planned_and_its_artefact_reused(project: Project, run: Run) -> None:
    names = [stage.name for stage in run.request.plan.stages]
    assert names.index("derive") == names.index("train") - 1
    assert run.done["derive"].kind == "derive"
    again = {stage.name: stage.action for stage in project.plan().plan.stages}
    assert (again["graph"], again["derive"], again["train"]) == ("reuse", "reuse", "build")
    star = project.root / "star.yaml"
    text = star.read_text()
    try:
        star.write_text(text.replace("top_k: 8", "top_k: 9"))
        changed = {stage.name: stage.action for stage in Project.open(project.root).plan().plan.stages}
    finally:
        star.write_text(text)
    assert (changed["graph"], changed["derive"]) == ("reuse", "build")


def test_later_stages_read_the_extended_graph(run: Run) -> None:
    graph = run.graph()
    assert isinstance(graph, ExtendedGraph)
    expected = {"ppr__member__member", "ppr__job__member", "ppr__member__job"}
    assert expected <= {name.relation for name in ppr_edge_types(graph)}
    assert graph.edges_named("similar_member").num_edges
    assert ppr_edges(graph).longest <= 8 * len(run.done["derive"].details["moments"])


def test_moments_are_those_of_the_split(run: Run) -> None:
    graph = run.graph()
    moments = run.done["derive"].details["moments"]
    bounds = boundary_moments(graph, run.spec.objectives, run.shop.training)
    assert set(bounds) < set(moments)
    assert moments[-1] == graph.as_of + 1
    assert sum(moment < bounds[0] for moment in moments) == run.shop.training.ppr.snapshots - 2
    dated = {int(time) + 1 for name in ppr_edge_types(graph) for time in np.unique(graph.edges(name).timestamps)}
    assert dated <= set(moments)
    assert len(dated) > 2


def test_training_reads_ranked_neighbours_alone(run: Run) -> None:
    for kind in ("train", "embed"):
        stage = next(stage for stage in run.request.plan.stages if stage.kind == kind)
        run.done[stage.name] = BUILDERS[kind](run, stage)
    model = load_model(run.done["train"].path, run.graph())
    assert tuple(model.spec.relations) == ppr_edge_types(run.graph())
    vectors = np.load(run.done["embed"].path / "member.npy")
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(4), axis=0)) > len(vectors) / 2


def test_what_is_derived_did_not_happen(run: Run) -> None:
    """Known pairs, degrees and coverage count declared edges alone."""
    graph, declared = run.graph(), open_graph(run.done["graph"].path)
    edge = EdgeType("member", "member-applies-job", "job")
    for found, expected in zip(first_meetings(graph, edge), first_meetings(declared, edge), strict=True):
        assert np.array_equal(found, expected)
    assert np.array_equal(degrees(graph, "member"), degrees(declared, "member"))
    moment = graph.as_of + 1
    assert np.array_equal(_covered(graph, "member", moment), _covered(declared, "member", moment))


def test_a_rebuild_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    stage = next(stage for stage in run.request.plan.stages if stage.kind == "derive")
    elsewhere = replace(run, shop=replace(run.shop, store=ArtefactStore(tmp_path)), done=dict(run.done))
    del elsewhere.done["derive"]
    assert BUILDERS["derive"](elsewhere, stage).content_hash == run.done["derive"].content_hash
