"""How good a model is on examples between training and test; it decides when training stops, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn import runtime
from star_platform.gnn.batches import Batch, StepKey
from star_platform.gnn.model_io import Model
from star_platform.gnn.objectives import auc, classification_logits, macro_auc, score_drawn, score_pairs

MAX_NEGATIVES_SCORED = 64
"""Negatives per step whose scores enter the AUC."""


def validate(
    model: Model, make: Callable[[StepKey], Batch], keys: Iterable[StepKey], ready: Callable[[Batch], Batch]
) -> dict[str, float]:
    """AUC of each objective, point in time, negatives drawn as in training; of classes the mean over one-vs-rest.

    `ready` does to a batch what has to be done on the thread that computes.
    """
    positives: dict[str, list[NDArray[np.float32]]] = {}
    negatives: dict[str, list[NDArray[np.float32]]] = {}
    logits: dict[str, list[NDArray[np.float32]]] = {}
    targets: dict[str, list[NDArray[np.int64]]] = {}
    model.eval()
    with torch.inference_mode():
        for made in runtime.ahead(make, keys):
            batch = ready(made)
            name, vectors = batch.objective, model(batch.trees)
            if batch.targets is not None:
                logits.setdefault(name, []).append(classification_logits(model, batch, vectors).float().cpu().numpy())
                targets.setdefault(name, []).append(batch.targets.cpu().numpy())
                continue
            positive, negative = _scores(model, batch, vectors)
            positives.setdefault(name, []).append(positive)
            negatives.setdefault(name, []).append(negative)
    found = {name: auc(np.concatenate(positives[name]), np.concatenate(negatives[name])) for name in positives}
    found |= {name: macro_auc(np.concatenate(logits[name]), np.concatenate(targets[name])) for name in logits}
    return dict(sorted(found.items()))


def _scores(model: Model, batch: Batch, vectors: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of positives and of negatives."""
    if batch.labels is not None:
        scores = score_pairs(model, batch, vectors)
        positive, negative = scores[batch.labels > 0], scores[batch.labels <= 0]
    else:
        positive, all_, allowed = score_drawn(model, batch, vectors)
        stride = max(1, all_.shape[1] // MAX_NEGATIVES_SCORED)
        negative = all_[:, ::stride][allowed[:, ::stride]]
    return positive.cpu().numpy(), negative.cpu().numpy()
