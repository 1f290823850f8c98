"""Examples of one source that share its tree: fewer seeds, and nobody sees what came after it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.gnn.batches import GROUPED, BatchMaker, Schedule, StepKey, grouped_steps
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.split import Examples, objective_examples
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import EdgeType, Graph
from star_platform.signals.model import LinkPrediction
from tests.gnn.planted import FAST, applied, planted_graph, views

EDGE = EdgeType("member", "member-views-job", "job")


class Recorder:
    """A tree reader that remembers what it is asked for, before it reads."""

    def __init__(self, reader: TreeReader) -> None:
        self.reader, self.asked = reader, []  # type: ignore[var-annotated]

    def gids(self, node: str, indices: np.ndarray) -> np.ndarray:
        return self.reader.gids(node, indices)

    def read(self, gids: np.ndarray, times: np.ndarray, step: int, exclude: np.ndarray | None = None) -> Any:
        self.asked.append((gids, times))
        return self.reader.read(gids, times, step, exclude=exclude)


def maker_of(graph: Graph, objective: LinkPrediction, config: TrainingConfig) -> tuple[BatchMaker, Recorder]:
    reader = Recorder(TreeReader(graph, config))
    examples = objective_examples(graph, objective, config)
    return BatchMaker(graph, cast(TreeReader, reader), objective, EDGE, examples, examples, config), reader


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=150), st.integers(1, 7), st.integers(0, 9))
def test_steps_hold_every_example_once_and_groups_whole(src: list[int], size: int, seed: int) -> None:
    steps = grouped_steps(np.array(src, dtype=np.int64), size, np.random.default_rng(seed))
    assert np.sort(np.concatenate(steps)).tolist() == list(range(len(src)))
    assert all(0 < len(step) <= size and (np.diff(step) > 0).all() for step in steps)
    assert all(step[-1] - step[0] < GROUPED * size for step in steps)
    # Of a stretch, a source is in more than one step only where it has more examples than fit into one.
    phase = int(np.random.default_rng(seed).integers(GROUPED * size)) if len(src) > GROUPED * size else 0
    cuts = [0, *range(phase or GROUPED * size, len(src), GROUPED * size), len(src)]
    for low, high in pairwise(cuts):
        for source in set(src[low:high]):
            within = [step for step in steps if any(low <= at < high and src[at] == source for at in step)]
            assert len(within) == 1 or src[low:high].count(source) > size


def seeds_of_an_epoch(graph: Graph, objective: LinkPrediction, config: TrainingConfig) -> tuple[int, int]:
    """Distinct source seeds, and examples."""
    maker, _ = maker_of(graph, objective, config)
    seeds = examples = 0
    for chunk in maker.epoch(np.random.default_rng(0)):
        part = maker.examples.take(chunk)
        seen, _ = maker._seen(part, 0)
        seeds += len(np.unique(np.stack([part.src, seen]), axis=1).T)
        examples += len(part)
    return seeds, examples


def test_grouping_saves_seeds(tmp_path: Path) -> None:
    graph = planted_graph(tmp_path)
    for objective in (views(), applied()):
        alone, n = seeds_of_an_epoch(graph, objective, FAST)
        grouped, same = seeds_of_an_epoch(graph, objective, FAST.model_copy(update={"grouping": True}))
        assert n == same
        assert alone > 0.9 * n
        assert grouped < 0.55 * alone


def test_no_example_sees_its_own_future(tmp_path: Path) -> None:
    """Every edge of every tree is strictly earlier than all the examples that use the tree."""
    graph = planted_graph(tmp_path)
    config = FAST.model_copy(update={"grouping": True, "batch_size": 64})
    maker, recorder = maker_of(graph, views(), config)
    reader = recorder.reader
    for step, chunk in enumerate(maker.epoch(np.random.default_rng(1))[:6]):
        maker.make(StepKey("views", chunk, step))
        examples, (gids, times) = maker.examples.take(chunk), recorder.asked[-1]
        n = len(examples)
        assert (times[:n] <= examples.times).all()
        assert (times[n : 2 * n] == examples.times).all()
        for source in np.unique(examples.src):
            group = examples.src == source
            assert set(times[:n][group].tolist()) == {int(examples.times[group].min())}
        for place in range(n):
            sample = reader.sampler.sample(gids[place : place + 1], times[place : place + 1], step)
            for block in sample.blocks:
                assert ((block.ages > 0) | (block.ages == -1)).all()
            assert (sample.times <= examples.times[place]).all()


def test_moments_of_a_step_are_its_earliest(tmp_path: Path) -> None:
    maker, recorder = maker_of(planted_graph(tmp_path), views(), FAST.model_copy(update={"moment": "step"}))
    for step, chunk in enumerate(maker.epoch(np.random.default_rng(1))[:3]):
        batch = maker.make(StepKey("views", chunk, step))
        assert set(recorder.asked[-1][1].tolist()) == {int(maker.examples.times[chunk].min())}
        assert batch.allowed is not None
        assert batch.allowed.any(dim=1).all()


@pytest.mark.parametrize("saving", [{"grouping": True}, {"moment": "step"}])
def test_validation_sees_every_example_at_its_own_moment(tmp_path: Path, saving: dict[str, Any]) -> None:
    maker, recorder = maker_of(planted_graph(tmp_path), views(), FAST.model_copy(update=saving))
    (key, *_) = Schedule({"views": maker}, 0).validation(200)
    maker.make(key)
    own = maker.examples.times[key.examples]
    assert recorder.asked[-1][1][: 2 * len(own)].tolist() == [*own.tolist(), *own.tolist()]


def test_grouped_epochs_repeat_themselves_and_differ(tmp_path: Path) -> None:
    maker, _ = maker_of(planted_graph(tmp_path), views(), FAST.model_copy(update={"grouping": True}))
    one, same, next_ = (Schedule({"views": maker}, 3).epoch(number) for number in (0, 0, 1))
    assert [key.examples.tolist() for key in one] == [key.examples.tolist() for key in same]
    assert [key.examples.tolist() for key in one] != [key.examples.tolist() for key in next_]


def test_examples_without_negatives_are_grouped_too(tmp_path: Path) -> None:
    maker, recorder = maker_of(planted_graph(tmp_path), applied(), FAST.model_copy(update={"grouping": True}))
    chunk = maker.epoch(np.random.default_rng(0))[0]
    batch = maker.make(StepKey("applied", chunk, 0))
    examples: Examples = maker.examples.take(chunk)
    assert batch.labels is not None
    assert batch.labels.tolist() == examples.labels.tolist()
    assert (recorder.asked[-1][1][: batch.size] <= examples.times).all()
