"""Losses of link prediction and node classification, their weights, and the AUC that stops training.

    (6) L_t = -sum over pairs of y log p + (1 - y) log(1 - p)        (7) L = sum over objectives of lambda_t L_t

of STAR (arXiv 2507.09797). Drawn negatives are averaged per positive, so that their number does not change the balance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.attention import MASKED
from star_platform.gnn.batches import Batch
from star_platform.gnn.model_io import Model


def score_pairs(model: Model, batch: Batch, vectors: Tensor) -> Tensor:
    """Logits `[n]` of the batch's pairs, from the vectors `[b, dim]` of its seeds."""
    n = batch.size
    return model.decoder(batch.objective).pairs(vectors[:n], vectors[n:])


def score_drawn(model: Model, batch: Batch, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the positives `[n]` and of the negatives `[n, m]`, and which of these count."""
    assert batch.allowed is not None  # noqa: S101 - set wherever negatives are drawn
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


def classification_logits(model: Model, batch: Batch, vectors: Tensor) -> Tensor:
    """Logits `[n, classes]` of the batch's nodes, from the linear head `model.heads[objective]`."""
    logits: Tensor = model.head(batch.objective)(vectors)
    return logits


def classification_loss(model: Model, batch: Batch, vectors: Tensor) -> Tensor:
    """Mean cross-entropy of the batch's nodes against their class."""
    assert batch.targets is not None  # noqa: S101 - set for nodes with a class
    return functional.cross_entropy(classification_logits(model, batch, vectors).float(), batch.targets)


class UncertaintyWeights(nn.Module):
    """Weights of objectives that are learned with them (Kendall, Gal, Cipolla 2018, equation 10).

        L = sum over objectives of lambda_t (exp(-s_t) L_t + s_t),        s_t = log sigma_t^2

    in the form for classification losses. s_t = log L_t at the optimum, so that each objective pulls with the same
    force whatever the size of its loss, times the lambda_t that was declared. An objective of weight 0 is left out.
    A step holds one objective: then only its own s_t moves. Weight decay would pull every s_t to 0: train it without.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """`weights`: lambda of each objective."""
        super().__init__()
        self.declared = {name: weights[name] for name in sorted(weights) if weights[name] > 0}
        self.log_variances = nn.Parameter(torch.zeros(len(self.declared)))
        self._places = {name: place for place, name in enumerate(self.declared)}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The total of scalar losses by objective; those of weight 0 do not count."""
        terms = []
        for name, loss in losses.items():
            if name in self._places:
                s = self.log_variances[self._places[name]]
                terms.append(self.declared[name] * (torch.exp(-s) * loss + s))
        return torch.stack(terms).sum() if terms else self.log_variances.new_zeros(())

    def learned(self) -> dict[str, float]:
        """exp(-s) of each objective: what its loss is multiplied by, before the declared weight."""
        found = torch.exp(-self.log_variances.detach()).tolist()
        return {name: float(found[place]) for name, place in self._places.items()}


def macro_auc(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Mean over classes of the AUC of "this class" against the rest; 0.5 where no class can be told from another.

    Args:
        logits: float32[n, classes].
        targets: int64[n]; a class that none or all of them have does not count.
    """
    scores = log_chances(logits)
    found = [
        auc(scores[targets == place, place], scores[targets != place, place])
        for place in np.unique(targets)
        if (targets != place).any()
    ]
    return float(np.mean(found)) if found else 0.5


def log_chances(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-softmax of logits `[n, classes]`: scores of a class that are comparable between nodes."""
    lower = logits - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float32] = lower - np.log(np.exp(lower).sum(axis=1, keepdims=True))
    return found


def auc(positive: NDArray[np.float32], negative: NDArray[np.float32]) -> float:
    """Chance that a positive scores above a negative, ties counted half; 0.5 when either is empty."""
    p, n = len(positive), len(negative)
    if not p or not n:
        return 0.5
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:p].sum() - p * (p + 1) / 2) / (p * n))
