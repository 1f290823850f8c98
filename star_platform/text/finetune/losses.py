"""The objective: binary cross-entropy on Hadamard products, and a contrastive term per part of the request.

Eqs. 1 to 4 as in the reference of this room, after STAR (arXiv 2507.09797), section 3:

    L = w_bce L_bce + w_p L_con(d, p) + w_c L_con(d, c)
    L_con = -log( e^{d.r/tau} / (e^{d.r/tau} + e^{d.r-/tau}) ) = softplus( (d.r- - d.r) / tau )

Both are computed from logits: the exponentials would overflow at a temperature of 0.02.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from star_platform.text.finetune.config import LossConfig
from star_platform.text.finetune.heads import Head, Vectors
from star_platform.text.finetune.mining import NONE, allowed, mine


@dataclass(frozen=True)
class Facts:
    """What is known about the rows of a batch besides their vectors; tensors `[b]`."""

    labels: Tensor
    """float, 1 acted and 0 did not."""
    members: Tensor
    """int64."""
    documents: Tensor
    """int64, the document as an entity: two versions of its text are one document."""

    def part(self, rows: slice) -> Facts:
        return Facts(self.labels[rows], self.members[rows], self.documents[rows])


@dataclass(frozen=True)
class Loss:
    """A loss with its terms; `mined` of `contrasted` rows found a negative."""

    total: Tensor
    bce: float
    contrastive: float
    mined: int
    contrasted: int


def objective(vectors: Vectors, facts: Facts, head: Head, config: LossConfig) -> Loss:
    """Eq. 1 over all rows of a batch, negatives from all of them."""
    weights = config.weights
    total = vectors.documents.new_zeros(())
    bce = contrastive = 0.0
    if weights.bce:
        term = binary_cross_entropy_with_logits(head(vectors), facts.labels.to(vectors.documents.dtype))
        total, bce = total + weights.bce * term, float(term.detach())
    mined = contrasted = 0
    for part, weight in (("profile", weights.profile), ("resume", weights.resume)):
        if not weight or getattr(vectors, part) is None:
            continue
        term, found, of = contrast(vectors, facts, part, config)
        total, contrastive = total + weight * term, contrastive + float(term.detach())
        mined, contrasted = mined + found, contrasted + of
    return Loss(total, bce, contrastive, mined, contrasted)


def contrast(vectors: Vectors, facts: Facts, part: str, config: LossConfig) -> tuple[Tensor, int, int]:
    """L_con of one part of the request, how many rows found a negative, and how many have the term."""
    request, present = vectors.part(part)
    documents = vectors.documents
    rows = present if config.contrastive_rows == "all" else present & (facts.labels > 0)
    positive = (documents * request).sum(1)
    scores, may = _candidates(vectors, facts, part, config)
    negative = mine(scores, positive, may, config.margin, easiest=config.no_semihard == "easiest")
    found = rows & (negative != NONE)
    at = found.nonzero().squeeze(1)
    terms = softplus((scores[at, negative[at]] - positive[at]) / config.temperature)
    of, mined = int(rows.sum()), len(at)
    return terms.sum() / max(1, of if config.normaliser == "positives" else mined), mined, of


def _candidates(vectors: Vectors, facts: Facts, part: str, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Dot products `[b, m]` with everything that may be a negative, and bool `[b, m]` where it may."""
    may = allowed(facts.members, facts.documents, mask_same_entity=config.mask_same_entity)
    others = ("profile", "resume") if config.pool == "both" else (part,)
    parts = [vectors.part(other) for other in others if getattr(vectors, other) is not None]
    scores = [vectors.documents @ request.T for request, _ in parts]
    return torch.cat(scores, 1), torch.cat([may & present for _, present in parts], 1)
