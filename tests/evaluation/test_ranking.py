"""Ranks with ties, against all orders that ties allow."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.evaluation.ranking import recall_at, reciprocal_rank, rivals


@pytest.mark.parametrize(("above", "equal"), [(0, 0), (2, 0), (0, 3), (1, 2), (3, 1), (4, 3)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_ties_are_worth_their_average_over_all_orders(above: int, equal: int, k: int) -> None:
    ranks = [above + 1 + order.index(0) for order in permutations(range(equal + 1))]
    a, e = np.array([above]), np.array([equal])
    assert recall_at(k, a, e)[0] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert reciprocal_rank(a, e)[0] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_constant_scores_get_what_chance_gets() -> None:
    scores = np.zeros((300, 100), dtype=np.float32)
    none = np.empty(0, dtype=np.int64)
    above, equal = rivals(scores, np.arange(300) % 100, (none, none))
    assert recall_at(20, above, equal) == pytest.approx(0.2)


@st.composite
def rankings(draw: Any) -> tuple[Any, Any, Any, Any]:
    q, n = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    scores = np.array(draw(st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=q, max_size=q)))
    relevant = np.array(draw(st.lists(st.integers(0, n - 1), min_size=q, max_size=q)))
    excluded = draw(st.sets(st.tuples(st.integers(0, q - 1), st.integers(0, n - 1)), max_size=12))
    excluded = sorted(pair for pair in excluded if pair[1] != relevant[pair[0]])
    created = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    times = np.array(draw(st.lists(st.integers(0, 4), min_size=q, max_size=q)))
    return scores.astype(np.float32), relevant, excluded, (created, times)


@settings(max_examples=200, deadline=None)
@given(rankings(), st.booleans())
def test_rivals_are_counted_one_by_one(case: Any, dated: bool) -> None:
    scores, relevant, excluded, alive = case
    pairs = tuple(np.array([pair[side] for pair in excluded], dtype=np.int64) for side in (0, 1))
    above, equal = rivals(scores, relevant, pairs, alive if dated else None)  # type: ignore[arg-type]
    for i, own in enumerate(relevant):
        others = [
            scores[i, j]
            for j in range(scores.shape[1])
            if j != own and (i, j) not in excluded and (not dated or alive[0][j] <= alive[1][i])
        ]
        assert above[i] == sum(score > scores[i, own] for score in others)
        assert equal[i] == sum(score == scores[i, own] for score in others)
