"""Figures against their definitions, computed the slow way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.compat.geometry import (
    RBO_P,
    agreement,
    errors,
    mean_old,
    measure,
    nearest,
    neighbours,
    rank_biased_overlap,
)
from star_platform.compat.model import Vectors, unit_rows
from star_platform.compat.pairs import Pairs, pair

from .worlds import factors, linear_map, seen

RNG = np.random.default_rng(0)


def pairs(new: np.ndarray, old: np.ndarray) -> Pairs:
    ids = pa.array(np.arange(len(new)))
    return pair(Vectors(ids, new.astype(np.float32)), Vectors(ids, old.astype(np.float32)), "member")


def test_errors_are_what_their_names_say() -> None:
    new, old = RNG.normal(size=(2, 300, 6))
    fitted = linear_map(2, 1, RNG.normal(size=(6, 6)))
    both = pairs(new, old)
    found = errors(fitted, both, mean_old(both))
    mapped = new @ fitted.weights
    cosine = (mapped * old).sum(axis=1) / np.linalg.norm(mapped, axis=1) / np.linalg.norm(old, axis=1)
    figures = found.figures()
    assert figures["n"] == 300
    assert figures["cosine_mean"] == pytest.approx(cosine.mean(), abs=1e-6)
    assert figures["cosine_p5"] == pytest.approx(np.percentile(cosine, 5), abs=1e-6)
    sse, sst = np.square(mapped - old).sum(), np.square(old - old.mean(axis=0)).sum()
    assert figures["r2"] == pytest.approx(1 - sse / sst, abs=1e-6)
    part = found.figures(np.arange(300) < 40)
    assert part["cosine_mean"] == pytest.approx(cosine[:40].mean(), abs=1e-6)
    assert found.figures(np.zeros(300, dtype=bool))["r2"] is None


def test_vectors_of_zeros_agree_with_zeros_only() -> None:
    new, old = np.array([[0.0, 0], [1, 0], [0, 0]]), np.array([[0.0, 0], [0, 0], [1, 0]])
    both = pairs(new, old)
    assert errors(linear_map(2, 1, np.eye(2)), both, mean_old(both)).cosine.tolist() == [1, 0, 0]


def test_the_nearest_are_those_of_a_full_sort_and_equals_come_by_row() -> None:
    vectors = unit_rows(RNG.normal(size=(200, 5)).astype(np.float32))
    vectors[50:60] = vectors[7]
    found = nearest(vectors, np.arange(200), 12)
    for query in range(200):
        cosine = np.rint(vectors[query] @ vectors.T * 1e5)
        cosine[query] = -np.inf
        assert found[query].tolist() == np.lexsort((np.arange(200), -cosine))[:12].tolist()


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_agreement_and_rank_biased_overlap_by_definition(one: list[int], other: list[int]) -> None:
    k = 8
    agreed = agreement(np.array([one[:k]]), np.array([other[:k]]))
    expected = [len(set(one[:d]) & set(other[:d])) for d in range(1, k + 1)]
    assert agreed[0].tolist() == expected
    weights = [(x / d) * RBO_P**d for d, x in enumerate(expected, 1)]
    by_hand = expected[-1] / k * RBO_P**k + (1 - RBO_P) / RBO_P * sum(weights)
    assert rank_biased_overlap(agreed)[0] == pytest.approx(by_hand)
    assert 0.0 <= rank_biased_overlap(agreed)[0] <= 1.0 + 1e-12


def test_an_identical_space_agrees_in_everything() -> None:
    vectors = seen(factors(600), 16, 1)
    figures = measure(linear_map(2, 1, np.eye(16)), pairs(vectors, vectors), np.zeros(16)).figures()
    for name in ("r2", "cosine_mean", "cosine_p5", "overlap_10", "overlap_50", "rbo"):
        assert figures[name] == pytest.approx(1.0, abs=1e-6), name


def test_a_stretched_space_has_the_same_neighbours_and_another_one_has_not() -> None:
    vectors, other = seen(factors(600), 16, 1), RNG.normal(size=(600, 16))
    assert neighbours(linear_map(2, 1, 3 * np.eye(16)), pairs(vectors, vectors)).figures()["overlap_10"] == 1.0
    found = neighbours(linear_map(2, 1, np.eye(16)), pairs(other, vectors)).figures()
    assert found["overlap_10"] == pytest.approx(10 / 599, abs=0.02)


def test_overlap_is_not_given_among_too_few() -> None:
    vectors = seen(factors(60), 8, 1)
    figures = neighbours(linear_map(2, 1, np.eye(8)), pairs(vectors, vectors)).figures()
    assert "overlap_10" in figures
    assert "overlap_50" not in figures
    few = neighbours(linear_map(2, 1, np.eye(8)), pairs(vectors[:20], vectors[:20])).figures()
    assert few == {"queries": 20, "candidates": 20}


def test_large_releases_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_platform.compat.geometry.CANDIDATES", 300)
    monkeypatch.setattr("star_platform.compat.geometry.QUERIES", 40)
    vectors = seen(factors(2000), 8, 1)
    found = neighbours(linear_map(2, 1, np.eye(8)), pairs(vectors, vectors), seed=3)
    assert found.figures() == {"queries": 40, "candidates": 300, "overlap_10": 1.0, "overlap_50": 1.0, "rbo": 1.0}
    assert len(np.unique(found.queries)) == 40
    assert found.queries.max() > 300  # positions among all, not among the sample
