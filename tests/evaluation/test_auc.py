"""AUC and its variance against published vectors and against plain counting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets, linear_model, model_selection

from star_platform.evaluation.auc import auc, delong


def test_four_rows() -> None:
    found = delong([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1])
    assert found is not None
    assert found.auc[0] == 0.75
    assert found.covariance[0, 0] == pytest.approx(0.125)


def test_two_scores_of_the_same_rows() -> None:
    labels = [1, 1, 1, 0, 0, 0, 0]
    found = delong(labels, [[0.9, 0.8, 0.3, 0.7, 0.4, 0.3, 0.1], [0.6, 0.9, 0.5, 0.2, 0.55, 0.1, 0.3]])
    assert found is not None
    assert found.auc == pytest.approx([0.791667, 0.916667], abs=1e-6)
    assert found.covariance == pytest.approx(np.array([[0.049769, 0.020833], [0.020833, 0.013889]]), abs=1e-6)
    difference = found.difference()
    assert difference.z == pytest.approx(-0.842927, abs=1e-6)
    assert difference.p == pytest.approx(0.399269, abs=1e-6)


def test_iris_as_published() -> None:
    """The example of yandexdataschool/roc_comparison."""
    iris = datasets.load_iris()
    split: Any = model_selection.train_test_split(iris.data, iris.target == 1, test_size=0.8, random_state=42)
    model = linear_model.LogisticRegression(solver="lbfgs").fit(split[0], split[2])
    found = delong(split[3], model.predict_proba(split[1])[:, 1])
    assert found is not None
    assert found.auc[0] == pytest.approx(0.8176638, abs=1e-7)
    assert found.covariance[0, 0] == pytest.approx(0.0015359814789736538, rel=1e-9)


rows = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(rows)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    positive = [score for label, score in rows if label]
    negative = [score for label, score in rows if not label]
    found, variance = (
        auc([r[0] for r in rows], [r[1] for r in rows]),
        delong([r[0] for r in rows], [r[1] for r in rows]),
    )
    if not positive or not negative:
        assert found is None
        assert variance is None
        return
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert found == pytest.approx(np.mean(pairs))
    assert variance is not None
    assert variance.auc[0] == pytest.approx(np.mean(pairs))
    if len(positive) > 1 and len(negative) > 1:  # DeLong by its definition, pair by pair
        table = np.array(pairs).reshape(len(positive), len(negative))
        expected = table.mean(axis=1).var(ddof=1) / len(positive) + table.mean(axis=0).var(ddof=1) / len(negative)
        assert variance.covariance[0, 0] == pytest.approx(expected, abs=1e-12)


def test_a_perfect_score_has_no_interval() -> None:
    found = delong([1, 1, 0, 0], [4, 3, 2, 1])
    assert found is not None
    assert found.auc[0] == 1.0
    assert found.interval() is None


def test_bounds_stay_in_range() -> None:
    found = delong([1, 1, 1, 0, 0, 0], [6, 5, 3, 4, 2, 1])
    assert found is not None
    bounds = found.interval()
    assert bounds is not None
    assert 0.0 <= bounds[0] < bounds[1] == 1.0


def test_identical_scores_do_not_differ() -> None:
    scores = [0.2, 0.9, 0.5, 0.4]
    found = delong([1, 1, 0, 0], [scores, scores])
    assert found is not None
    assert found.difference().p == 1.0


def test_large_counts_do_not_overflow() -> None:
    n = 200_000
    labels = np.arange(n) % 2
    found = delong(labels, labels + np.linspace(0, 3, n))
    assert found is not None
    assert 0.5 < found.auc[0] < 1.0
    assert found.auc[0] == pytest.approx(auc(labels, labels + np.linspace(0, 3, n)))
