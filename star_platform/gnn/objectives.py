"""Losses of link prediction, and the AUC that stops training.

    (6) L_t = -sum over pairs of y log p + (1 - y) log(1 - p)        (7) L = sum over objectives of lambda_t L_t

of STAR (arXiv 2507.09797). Drawn negatives are averaged per positive, so that their number does not change the balance.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from star_platform.gnn.attention import MASKED
from star_platform.gnn.batches import Batch
from star_platform.gnn.model_io import Model


def score_pairs(model: Model, batch: Batch) -> Tensor:
    """Logits `[n]` of the batch's pairs."""
    vectors = model.encoder(batch.trees)
    seeds, n = functional.embedding(batch.trees.seeds, vectors), batch.size
    return model.decoder(batch.objective).pairs(seeds[:n], seeds[n:])


def score_drawn(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the positives `[n]` and of the negatives `[n, m]`, and which of these count."""
    assert batch.allowed is not None  # noqa: S101 - set wherever negatives are drawn
    vectors = functional.embedding(batch.trees.seeds, model.encoder(batch.trees))
    n = batch.size
    src, dst = vectors[:n], vectors[n : 2 * n]
    decoder = model.decoder(batch.objective)
    return decoder.pairs(src, dst), decoder.all_pairs(src, dst if batch.in_batch else vectors[2 * n :]), batch.allowed


def labelled_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits `[n]` against labels `[n]`."""
    return functional.binary_cross_entropy_with_logits(logits, labels)


def drawn_loss(
    positive: Tensor, negative: Tensor, allowed: Tensor, log_q: Tensor | None, kind: Literal["bce", "softmax"]
) -> Tensor:
    """Loss of positives against drawn negatives.

    Args:
        positive: logits `[n]`.
        negative: logits `[n, m]`.
        allowed: bool `[n, m]`, False where the negative is a known positive or later than the example.
        log_q: `(positive [n], negative [m])` log of the chance of each to be drawn, relative to a uniform draw. It is
            taken off the logits, so that what they converge to does not depend on how negatives are drawn
            (logQ correction; Yi et al., RecSys 2019).
        kind: `bce`, or `softmax` over the positive and its negatives.
    """
    if log_q is not None:
        n = len(positive)
        positive, negative = positive - log_q[:n], negative - log_q[n:]
    some = allowed.any(dim=1)
    if kind == "softmax":
        rivals = torch.cat([positive.unsqueeze(1), negative.masked_fill(~allowed, MASKED)], dim=1)
        losses = torch.logsumexp(rivals, dim=1) - positive
        return (losses * some).sum() / some.sum().clamp(min=1)
    against = (functional.softplus(negative) * allowed).sum(dim=1) / allowed.sum(dim=1).clamp(min=1)
    return (functional.softplus(-positive) + against).mean()


def auc(positive: NDArray[np.float32], negative: NDArray[np.float32]) -> float:
    """Chance that a positive scores above a negative, ties counted half; 0.5 when either is empty."""
    p, n = len(positive), len(negative)
    if not p or not n:
        return 0.5
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:p].sum() - p * (p + 1) / 2) / (p * n))
