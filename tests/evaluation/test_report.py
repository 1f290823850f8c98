"""The whole report on a graph with a planted structure, and what each method may see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_platform.evaluation.baselines import Popularity, TextCosine, TextProfiles
from star_platform.evaluation.cases import build_cases, draw_negatives
from star_platform.evaluation.config import EvaluationConfig, Gate
from star_platform.evaluation.error_pages import ERROR_PAGES
from star_platform.evaluation.history import edges_before, first_meetings, interactions_before
from star_platform.evaluation.measure import choose_ranked
from star_platform.evaluation.render import render
from star_platform.evaluation.report import evaluate, gate_failures
from star_platform.gnn.split import split
from star_platform.gnn.trainer import train
from star_platform.graph.storage import Graph
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import FAST, applied, planted_graph, views

CONFIG = EvaluationConfig(resamples=200, negatives=5)
TEXT = np.eye(4, dtype=np.float32)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("judged")
    graph = planted_graph(folder / "graph")
    model = folder / "model"
    model.mkdir()
    train(graph, {"views": views(), "applied": applied()}, FAST, folder / "work", model)
    report = evaluate(graph, model, {"views": views(), "applied": applied()}, CONFIG, folder / "evaluation")
    return graph, model, report


def test_the_release_finds_what_was_planted(judged: Any) -> None:
    objective = judged[2]["objectives"]["views"]
    for baseline in ("popularity", "text-cosine", "no-graph"):
        assert objective["differences"][baseline]["auc"]["low"] > 0, baseline
        assert objective["methods"][baseline]["auc"]["value"] < 0.6, baseline


def test_every_figure_has_its_interval_and_its_cases(judged: Any) -> None:
    for objective in judged[2]["objectives"].values():
        assert objective["positives"] > 50
        assert 0 < objective["members"] <= objective["positives"] + objective["negatives"]
        for figures in objective["methods"].values():
            for name in ("auc", "auc_matched", "recall", "mrr"):
                assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"], name
    views_ = judged[2]["objectives"]["views"]
    assert views_["negatives"] == 5 * views_["positives"]
    assert "may still be a match" in views_["negatives_are"]
    assert "none was drawn" in judged[2]["objectives"]["applied"]["negatives_are"]


def test_small_groups_say_so_and_groups_add_up(judged: Any) -> None:
    for objective in judged[2]["objectives"].values():
        for parts in objective["groups"].values():
            assert sum(part["positives"] for part in parts.values()) == objective["positives"]
            assert sum(part["negatives"] for part in parts.values()) == objective["negatives"]
            for part in parts.values():
                small = min(part["positives"], part["negatives"]) < 50
                assert part.get("insufficient", False) == small
                assert ("methods" in part) != small


def test_the_report_is_json_and_repeats_itself(judged: Any, tmp_path: Path) -> None:
    graph, model, report = judged
    config = CONFIG.model_copy(update={"baselines": ("popularity", "text-cosine")})
    objectives = {"views": views(), "applied": applied()}
    one = evaluate(graph, model, objectives, config, tmp_path)
    other = evaluate(graph, model, objectives, config, tmp_path)
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)
    assert one["objectives"]["views"]["methods"]["release"] == report["objectives"]["views"]["methods"]["release"]


def test_the_text_shows_all_methods(judged: Any) -> None:
    text = render(judged[2], groups=True)
    for word in ("release", "popularity", "text-cosine", "no-graph", "Recall@20", "insufficient", "release - no-graph"):
        assert word in text
    assert max(map(len, text.splitlines())) < 260


def test_without_neighbours_but_with_activity_is_a_baseline_of_its_own(judged: Any, tmp_path: Path) -> None:
    graph, model, report = judged
    config = CONFIG.model_copy(update={"baselines": ("no-graph", "no-neighbours")})
    found = evaluate(graph, model, {"views": views(), "applied": applied()}, config, tmp_path)["objectives"]["views"]
    again = report["objectives"]["views"]["methods"]["no-graph"]
    assert found["methods"]["no-graph"] == again, "the baseline trains the same way every time"
    assert found["methods"]["no-neighbours"]["auc"]["value"] != again["auc"]["value"]
    assert found["differences"]["no-neighbours"]["auc"]["low"] > 0


def test_the_gate(judged: Any) -> None:
    report = {"objectives": {"views": judged[2]["objectives"]["views"]}}
    low = report["objectives"]["views"]["methods"]["release"]["auc"]["low"]
    assert gate_failures(report, Gate()) == []
    assert gate_failures(report, Gate(min_auc=low - 0.01, beat_baselines=True)) == []
    assert "below" in gate_failures(report, Gate(min_auc=min(1.0, low + 0.01)))[0]
    worse = json.loads(json.dumps(report))
    worse["objectives"]["views"]["differences"]["popularity"]["auc"]["low"] = -0.01
    assert "popularity" in gate_failures(worse, Gate(beat_baselines=True))[0]
    worse["objectives"]["views"]["methods"]["release"]["auc"]["low"] = None
    assert "undefined" in gate_failures(worse, Gate(min_auc=0.1))[0]
    assert "E001" in ERROR_PAGES


# --- cases ------------------------------------------------------------------------------------------------------------


def test_cases_are_later_than_training_and_new(judged: Any) -> None:
    graph = judged[0]
    part = split(graph, {"views": views()}, FAST)["views"]
    cases = build_cases(graph, "views", views(), part, CONFIG)
    keys, first = first_meetings(graph, part.edge)
    key = cases.src * graph.num_nodes("job") + cases.dst
    assert cases.times.min() >= part.test_start > part.train.times.max()
    for i, label in enumerate(cases.labels):
        place = np.searchsorted(keys, key[i])
        known = place < len(keys) and keys[place] == key[i]
        assert known == (label > 0), "a positive is an edge, and a negative is none, of any time"
        if known:
            assert first[place] == cases.times[i]
    assert (cases.times[cases.labels <= 0] == cases.times[cases.example[cases.labels <= 0]]).all()
    assert (cases.src[cases.labels <= 0] == cases.src[cases.example[cases.labels <= 0]]).all()


def test_pairs_that_met_before_in_any_way_are_left_out(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("job", list(range(10)))
    writer.node("member", list(range(2)))
    jobs = np.arange(10)
    writer.edge("views", "member", "job", (np.zeros(10, int), jobs), times=100 + jobs)
    writer.edge("saves", "member", "job", ([0, 0], [9, 8]), times=[50, 109])
    graph = writer.finish()
    objective = views().model_copy(update={"edge": "views"})
    part = split(graph, {"v": objective}, FAST.model_copy(update={"test_share": 0.3}))["v"]
    new = build_cases(graph, "v", objective, part, CONFIG)
    every = build_cases(graph, "v", objective, part, CONFIG.model_copy(update={"new_pairs_only": False}))
    assert new.met_before == 1
    assert set(new.dst[new.labels > 0]) == set(every.dst[every.labels > 0]) - {9}
    assert new.without_negative == new.positives, "member 0 knows every job"
    query, column = every.excluded_of(np.flatnonzero(every.labels > 0))
    assert len(query) == every.positives * 9
    assert (column != every.dst[query]).all()


def test_drawn_negatives_exist_are_unknown_and_even() -> None:
    part = split_like(200, 40)
    created = np.arange(40) * 10
    known = np.sort(part.src * 40 + part.dst)
    drawn, allowed = draw_negatives(part, 500, known, 40, created, np.random.default_rng(0))
    assert allowed.all()
    assert (created[drawn] <= part.times[:, None]).all()
    assert not np.isin(part.src[:, None] * 40 + drawn, known).any()
    late = drawn[part.times >= 390]  # all 40 exist
    counts = np.bincount(late.ravel(), minlength=40)
    assert counts.max() / counts.mean() < 1.3


def split_like(n: int, width: int) -> Any:
    from star_platform.gnn.split import Examples

    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(200, 500, n))
    return Examples(np.arange(n), rng.integers(0, 20, n), times, np.ones(n, np.float32))


def test_ranking_is_cut_into_groups_by_time(judged: Any) -> None:
    part = split(judged[0], {"views": views()}, FAST)["views"]
    cases = build_cases(judged[0], "views", views(), part, CONFIG)
    ranked = choose_ranked(cases, 90, CONFIG)
    times = cases.times[ranked.queries]
    assert (np.diff(times) >= 0).all()
    assert len(ranked.queries) == cases.positives
    assert [int(times[group].min()) for group in ranked.groups] == [int(times[group[0]]) for group in ranked.groups]
    assert len(choose_ranked(cases, 10**9, CONFIG).groups) == 1


# --- point in time ----------------------------------------------------------------------------------------------------


def _small(path: Path, late: bool = False) -> Graph:
    """Member 0 saw job 0 at 10 and job 1 at 20; `late` adds what happens at 20 and after."""
    writer = GraphWriter(path)
    writer.node("job", [0, 1, 2, 3])
    writer.node("member", [0, 1])
    src, dst, times = ([0, 0], [0, 1], [10, 20])
    if late:
        src, dst, times = [*src, 0, 1, 1], [*dst, 2, 2, 3], [*times, 20, 20, 25]
    writer.edge("views", "member", "job", (src, dst), times=times, labels={"liked": [1, 0, 1, 1, 0][: len(src)]})
    writer.feature("job.text", "text", TEXT, present=[True, True, True, False])
    return writer.finish()


def test_counts_stop_before_the_moment(tmp_path: Path) -> None:
    graph = _small(tmp_path / "g")
    edges = graph.edges_named("rev_views")
    assert edges_before(edges, np.zeros(4, int), np.array([10, 11, 20, 21])).tolist() == [0, 1, 1, 2]
    assert interactions_before(graph, "member", np.zeros(2, int), np.array([20, 21])).tolist() == [1, 2]


def test_baselines_see_nothing_of_the_moment_itself(tmp_path: Path) -> None:
    early, late = _small(tmp_path / "a"), _small(tmp_path / "b", late=True)
    src, dst, times = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([20, 20, 20, 20])
    edge = early.edges_named("views").type
    for make in (
        lambda graph: Popularity(graph, edge, None),
        lambda graph: TextCosine(TextProfiles(graph), edge, 4),
    ):
        one, other = make(early), make(late)
        np.testing.assert_array_equal(one.score(src, dst, times), other.score(src, dst, times))
        np.testing.assert_array_equal(one.rank(src, times, 20), other.rank(src, times, 20))
        after = np.full(4, 30)
        assert (one.score(src, dst, after) != other.score(src, dst, after)).any()


def test_text_profiles_by_hand(tmp_path: Path) -> None:
    graph = _small(tmp_path / "g")
    cosine = TextCosine(TextProfiles(graph), graph.edges_named("views").type, 4)
    zero = np.zeros(4, int)
    jobs = np.arange(4)
    assert cosine.score(zero, jobs, np.full(4, 10)).tolist() == [0, 0, 0, 0]
    assert cosine.score(zero, jobs, np.full(4, 11)).tolist() == [1, 0, 0, 0]
    assert cosine.score(zero, jobs, np.full(4, 21)) == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])
    assert cosine.rank(np.array([0]), np.array([21]), 21)[0] == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])


def test_popularity_counts_positive_labels_only(tmp_path: Path) -> None:
    graph = _small(tmp_path / "g", late=True)
    edge = graph.edges_named("views").type
    src, jobs, times = np.zeros(4, int), np.arange(4), np.full(4, 30)
    assert Popularity(graph, edge, None).score(src, jobs, times).tolist() == [1, 1, 2, 1]
    assert Popularity(graph, edge, "liked").score(src, jobs, times).tolist() == [1, 0, 2, 0]


def test_no_text_is_a_note_and_no_baseline(judged: Any, tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path / "graph")
    rng = np.random.default_rng(0)
    writer.node("job", list(range(30)))
    writer.node("member", list(range(40)))
    writer.edge("views", "member", "job", (rng.integers(0, 40, 600), rng.integers(0, 30, 600)), times=np.arange(600))
    writer.feature("job.level", "categorical", np.arange(30) % 3, dim=3)
    graph = writer.finish()
    objective = views().model_copy(update={"edge": "views"})
    model = tmp_path / "model"
    model.mkdir()
    train(graph, {"v": objective}, FAST.model_copy(update={"max_epochs": 1}), tmp_path / "work", model)
    config = CONFIG.model_copy(update={"baselines": ("popularity", "text-cosine")})
    report = evaluate(graph, model, {"v": objective}, config, tmp_path / "evaluation")
    assert list(report["objectives"]["v"]["methods"]) == ["release", "release-frozen", "popularity"]
    assert "no text feature" in report["notes"][0]
    assert "note: " in render(report)


def test_without_a_test_period_figures_are_undefined_and_the_gate_fails(judged: Any, tmp_path: Path) -> None:
    graph = judged[0]
    model = tmp_path / "model"
    model.mkdir()
    config = FAST.model_copy(update={"test_share": 0.0, "max_epochs": 1})
    train(graph, {"views": views()}, config, tmp_path / "work", model)
    plain = CONFIG.model_copy(update={"baselines": ("popularity",)})
    report = evaluate(graph, model, {"views": views()}, plain, tmp_path / "evaluation")
    assert report["objectives"]["views"]["methods"]["release"]["auc"]["value"] is None
    assert gate_failures(report, Gate(min_auc=0.5)) == ["views: the lower end of the AUC is undefined, below 0.5"]
    assert "undefined" in render(report)


def test_an_untrained_objective_is_not_judged(judged: Any, tmp_path: Path) -> None:
    graph, model, _ = judged
    config = CONFIG.model_copy(update={"baselines": ("popularity",)})
    report = evaluate(graph, model, {"views": views(), "applied": applied(weight=0.0)}, config, tmp_path)
    assert list(report["objectives"]) == ["views"]
