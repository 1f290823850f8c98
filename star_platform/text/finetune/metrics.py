"""AUC of scores, whole and by length of the document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Scores = npt.NDArray[np.floating[Any]]

Judge = Callable[[npt.NDArray[np.bool_], Mapping[str, Scores], npt.NDArray[np.int64]], dict[str, Any]]
"""From labels, scores by name (`finetuned`, `frozen`) and members to figures; intervals come from whoever has them."""

LENGTHS = (0, 64, 128, 256, 512, 1024, 2048, 1 << 30)
"""Tokens of the document, limits of the buckets."""


def auc(labels: npt.NDArray[np.bool_], scores: Scores) -> float | None:
    """Chance that a positive scores above a negative, ties counted half; None where a class is missing."""
    m = int(labels.sum())
    n = len(labels) - m
    if m == 0 or n == 0:
        return None
    ranks = rankdata(scores)
    return float((ranks[labels].mean() - (m + 1) / 2) / n)


def auc_by_length(
    labels: npt.NDArray[np.bool_], scores: Scores, lengths: npt.NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Rows and AUC by number of tokens: a limit cuts long texts, and this shows what that costs."""
    found: dict[str, dict[str, Any]] = {}
    for low, high in pairwise(LENGTHS):
        inside = (lengths > low) & (lengths <= high)
        if inside.any():
            name = f"{low + 1}-{high}" if high < LENGTHS[-1] else f"{low + 1}-"
            found[name] = {"rows": int(inside.sum()), "auc": auc(labels[inside], scores[inside])}
    return found


def judge_plainly(
    labels: npt.NDArray[np.bool_],
    scores: Mapping[str, Scores],
    members: npt.NDArray[np.int64],  # noqa: ARG001 - part of the interface: intervals need them
) -> dict[str, Any]:
    """AUC of each score, without intervals."""
    return {name: {"auc": auc(labels, values)} for name, values in scores.items()}
