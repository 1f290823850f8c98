"""Figures of node classification: against scikit-learn, beside the majority, paired."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from star_platform.evaluation.classification import judge
from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.render import render
from star_platform.gnn.classification import LabelSplit, NodeExamples
from star_platform.gnn.objectives import log_chances

CONFIG = EvaluationConfig(resamples=200)
RNG = np.random.default_rng(5)
CLASSES = RNG.choice(3, size=300, p=[0.5, 0.3, 0.2])
GOOD = RNG.normal(size=(300, 4)).astype(np.float32)
GOOD[np.arange(300), CLASSES] += 1.5
NOISE = RNG.normal(size=(300, 4)).astype(np.float32)


def part_of(classes: np.ndarray = CLASSES) -> LabelSplit:
    def examples(found: np.ndarray) -> NodeExamples:
        return NodeExamples(np.arange(len(found)), np.full(len(found), 9), found)

    return LabelSplit("a", "a.level", "hash", 4, 3, 6, examples(CLASSES), examples(CLASSES[:9]), examples(classes))


def by_table(table: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda nodes, times: table[nodes]


def test_figures_are_those_of_scikit_learn_and_lie_in_their_intervals() -> None:
    report = judge("level", part_of(), {"release": by_table(GOOD), "no-graph": by_table(NOISE)}, CONFIG)
    for method, table in (("release", GOOD), ("no-graph", NOISE)):
        figures = report["methods"][method]
        assert figures["accuracy"]["value"] == pytest.approx(accuracy_score(CLASSES, table.argmax(axis=1)))
        chances = log_chances(table)
        expected = np.mean([roc_auc_score(each == CLASSES, chances[:, each]) for each in range(3)])
        assert figures["macro_auc"]["value"] == pytest.approx(expected)
        for figure in figures.values():
            assert figure["low"] < figure["value"] < figure["high"]
            assert figure["high"] - figure["low"] < 0.15
    majority = report["methods"]["majority"]
    assert majority["accuracy"]["value"] == pytest.approx(np.bincount(CLASSES).max() / 300)
    assert majority["macro_auc"]["value"] == 0.5
    assert report["differences"]["majority"]["accuracy"]["low"] > 0
    assert report["differences"]["no-graph"]["macro_auc"]["low"] > 0
    assert report["test"] == {"available": 300, "scored": 300, "text": report["test"]["text"]}


def test_noise_does_not_beat_the_majority() -> None:
    report = judge("level", part_of(), {"release": by_table(NOISE)}, CONFIG)
    assert report["differences"]["majority"]["accuracy"]["high"] < 0
    macro = report["differences"]["majority"]["macro_auc"]
    assert macro["low"] < 0 < macro["high"]


def test_at_most_so_many_examples_and_the_same_every_time() -> None:
    config = CONFIG.model_copy(update={"max_examples": 50})
    one, other = (judge("level", part_of(), {"release": by_table(GOOD)}, config) for _ in range(2))
    assert one["test"]["scored"] == 50
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)


@pytest.mark.parametrize("classes", [CLASSES[:0], np.zeros(4, np.int64)])
def test_nothing_to_tell_apart(classes: np.ndarray) -> None:
    report = judge("level", part_of(classes), {"release": by_table(GOOD)}, CONFIG)
    assert report["methods"]["release"]["macro_auc"] == {"value": None, "low": None, "high": None}
    assert (report["methods"]["release"]["accuracy"]["value"] is None) == (len(classes) == 0)


def test_the_text_shows_it() -> None:
    judged = judge("level", part_of(), {"release": by_table(GOOD), "no-graph": by_table(NOISE)}, CONFIG)
    report = {"k": 20, "objectives": {}, "classification": {"objectives": {"level": judged}}, "notes": []}
    text = render(report)
    for word in ("level: a.level, 4 classes; 300 examples", "macro AUC", "release - majority", "hash of their id"):
        assert word in text
