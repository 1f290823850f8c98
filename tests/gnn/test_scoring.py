from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import TrainingError
from star_platform.gnn.inference import Embedder
from star_platform.gnn.model_io import Model, load_model
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.trainer import train
from star_platform.graph.storage import Graph
from tests.gnn.planted import DAY, FAST, JOBS, MEMBERS, START, planted_graph, views

CONFIG = FAST.model_copy(update={"max_epochs": 1, "identity_codes": 4})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("scoring") / "graph")


@pytest.fixture(scope="module")
def model_dir(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(graph, {"views": views()}, CONFIG, folder / "work", folder)
    return folder


@pytest.fixture(scope="module")
def model(graph: Graph, model_dir: Path) -> Model:
    return load_model(model_dir, graph)


def all_at(moment: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.full(count, moment)


@pytest.mark.parametrize("at", [START + 10 * DAY, START + 31 * DAY])
def test_injected_edges_change_nothing_up_to_their_own_moment(
    graph: Graph, model: Model, tmp_path: Path, at: int
) -> None:
    injected = planted_graph(tmp_path / "graph", extra=500, at=at)
    before, after = Embedder(graph, model), Embedder(injected, model)
    for node, count in (("member", MEMBERS), ("job", JOBS)):
        for moment in (START + 5 * DAY, at):  # an edge at the moment itself is not seen
            assert np.array_equal(
                before.vectors(node, *all_at(moment, count)), after.vectors(node, *all_at(moment, count))
            )
        seen = all_at(at + 1, count)
        assert not np.array_equal(before.vectors(node, *seen), after.vectors(node, *seen))


def test_scores_do_not_depend_on_their_company(graph: Graph, model_dir: Path) -> None:
    scorer = Scorer(graph, model_dir)
    rng = np.random.default_rng(0)
    src, dst, times = (
        rng.integers(MEMBERS, size=50),
        rng.integers(JOBS, size=50),
        START + rng.integers(30 * DAY, size=50),
    )
    together = scorer.score("views", src, dst, times)
    assert together.dtype == np.float32
    for i in (0, 17, 49):
        alone = scorer.score("views", src[i : i + 1], dst[i : i + 1], times[i : i + 1])
        assert alone[0] == pytest.approx(together[i], abs=1e-5)


def test_ranking_sees_no_candidate_later_than_its_query(graph: Graph, model_dir: Path) -> None:
    scorer = Scorer(graph, model_dir)
    rng = np.random.default_rng(1)
    src, times = rng.integers(MEMBERS, size=40), START + rng.integers(30 * DAY, size=40)
    ranked = np.full((40, JOBS), np.nan, dtype=np.float32)
    for positions, scores in scorer.rank_blocks("views", src, times, buckets=8):
        ranked[positions] = scores
        moment = times[positions].min()
        decoder = scorer.model.decoder("views")
        targets = scorer.embedder.vectors("job", *all_at(int(moment), JOBS))
        query = scorer.embedder.vectors("member", src[positions[:1]], times[positions[:1]])
        expected = query @ targets.T * decoder.log_scale.exp().item() + decoder.bias.item()
        assert np.allclose(scores[0], expected[0], atol=1e-4)
    assert np.isfinite(ranked).all()
    exact = scorer.score("views", src, np.zeros(40, dtype=np.int64), times)
    each = np.concatenate([block[:, 0] for _, block in scorer.rank_blocks("views", src, times, buckets=40)])
    assert np.allclose(each, exact[np.argsort(times, kind="stable")], atol=1e-4)


def test_frozen_scores_come_from_one_moment(graph: Graph, model_dir: Path) -> None:
    scorer = Scorer(graph, model_dir)
    at = START + 20 * DAY
    src, dst = np.arange(10), np.arange(10)
    frozen = scorer.frozen(at)
    assert np.allclose(frozen.score("views", src, dst), scorer.score("views", src, dst, np.full(10, at)), atol=1e-5)
    blocks = list(frozen.rank_blocks("views", src, block=4))
    assert [len(positions) for positions, _ in blocks] == [4, 4, 2]
    assert np.allclose(np.concatenate([s for _, s in blocks])[src, dst], frozen.score("views", src, dst), atol=1e-4)


def test_an_unknown_objective_is_named(graph: Graph, model_dir: Path) -> None:
    with pytest.raises(TrainingError, match="M010"):
        Scorer(graph, model_dir).score("applies", np.array([0]), np.array([0]), np.array([START]))
