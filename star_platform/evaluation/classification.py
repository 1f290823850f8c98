"""Judge node classification: accuracy and macro AUC on test nodes, beside the majority class and the features alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.evaluation.bootstrap import ClusterBootstrap, interval
from star_platform.evaluation.config import EvaluationConfig
from star_platform.gnn.classification import LabelSplit
from star_platform.gnn.objectives import log_chances, macro_auc
from star_platform.gnn.scoring import Scorer

Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Classifier = Callable[[Int64Array, Int64Array], Float32Array]
"""Logits float32[n, classes] of nodes int64[n], each at its moment int64[n]."""
MAJORITY = "majority"
MOST_CLASSES = 50
"""Beyond so many classes macro AUC has no interval: it would cost more than the release."""
FIGURES = {
    "accuracy": "share of test nodes whose most likely class is theirs",
    "macro_auc": "mean over classes of the chance that a node of the class scores above one of another",
}
SPLIT_TEXT = {
    "valid_from": "versions of the label that became true when the test had begun, each predicted from before",
    "created_at": "nodes created when the test had begun, seen after everything",
    "hash": "nodes chosen by a hash of their id, seen after everything",
}


def classifier(scorer: Scorer, objective: str, node: str) -> Classifier:
    """The head of an objective over the encoder of a model."""
    head = scorer.model.get_submodule(f"heads.{objective}")

    def logits(nodes: Int64Array, times: Int64Array) -> Float32Array:
        vectors = torch.from_numpy(scorer.embedder.vectors(node, nodes, times).astype(np.float32, copy=False))
        with torch.inference_mode():
            found: Float32Array = head(vectors).float().numpy()
        return found

    return logits


def judge(
    name: str, part: LabelSplit, classifiers: Mapping[str, Classifier], config: EvaluationConfig
) -> dict[str, Any]:
    """Figures of every classifier, and of the class that is most frequent in training, on the same test nodes.

    Intervals are 95 %, by drawing nodes again (a node may have several versions); differences, of the first classifier
    to every other and to the majority, are paired.
    """
    test = part.test
    if len(test) > config.max_examples:
        rng = np.random.default_rng((config.seed, zlib.crc32(name.encode())))
        test = test.take(np.sort(rng.choice(len(test), size=config.max_examples, replace=False)))
    bootstrap = ClusterBootstrap(test.nodes, config.resamples, config.seed)
    counts = np.bincount(part.train.classes, minlength=part.num_classes)
    majority = np.zeros((len(test), part.num_classes), dtype=np.float32)
    majority[:, int(counts.argmax())] = 1.0
    logits = {method: score(test.nodes, test.times) if len(test) else majority for method, score in classifiers.items()}
    logits[MAJORITY] = majority
    found = {method: _figures(values, test.classes, bootstrap) for method, values in logits.items()}
    first = next(iter(classifiers))
    return {
        "node": part.node,
        "feature": part.feature,
        "classes": part.num_classes,
        "split_by": part.by,
        "test": {"available": len(part.test), "scored": len(test), "text": SPLIT_TEXT[part.by]},
        "methods": {
            method: {figure: interval(value, samples).as_json() for figure, (value, samples) in figures.items()}
            for method, figures in found.items()
        },
        "differences": {
            method: {
                figure: interval(
                    _minus(found[first][figure][0], found[method][figure][0]),
                    found[first][figure][1] - found[method][figure][1],
                ).as_json()
                for figure in FIGURES
            }
            for method in found
            if method != first
        },
    }


def _figures(
    logits: Float32Array, classes: Int64Array, bootstrap: ClusterBootstrap
) -> dict[str, tuple[float | None, Float64Array]]:
    """By figure: its value, and one per resample."""
    nothing = np.full(len(bootstrap.weights), np.nan)
    if not len(classes):
        return {"accuracy": (None, nothing), "macro_auc": (None, nothing)}
    right = (logits.argmax(axis=1) == classes).astype(np.float64)
    chances = log_chances(logits)
    present = [each for each in np.unique(classes) if (classes != each).any()]
    resampled = nothing
    if 0 < len(present) <= MOST_CLASSES:
        by_class = np.stack([bootstrap.auc(classes == each, chances[:, each]) for each in present])
        some = np.isfinite(by_class)
        sums = np.where(some, by_class, 0.0).sum(axis=0)
        resampled = np.divide(sums, some.sum(axis=0), out=nothing.copy(), where=some.any(axis=0))
    value = macro_auc(logits, classes) if present else None
    return {"accuracy": (float(right.mean()), bootstrap.mean(right)), "macro_auc": (value, resampled)}


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
