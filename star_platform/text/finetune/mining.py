"""One semi-hard negative per document: the most similar request of the batch that is still less similar than its own.

Eq. 4 of STAR (arXiv 2507.09797) with the meaning of "semi-hard" of FaceNet (arXiv 1503.03832), by default without its
margin. No gradient flows through the choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONE = -1
"""In place of a column where a row has no negative."""


def allowed(members: Tensor, documents: Tensor, *, mask_same_entity: bool) -> Tensor:
    """Whether the request of row j may be a negative of the document of row i; bool `[b, b]`.

    A row is never its own negative. With `mask_same_entity` neither is a row of the same member or document.

    Args:
        members: int64 `[b]`.
        documents: int64 `[b]`.
        mask_same_entity: as said.
    """
    if not mask_same_entity:
        return ~torch.eye(len(members), dtype=torch.bool, device=members.device)
    return (members[:, None] != members) & (documents[:, None] != documents)


def mine(
    scores: Tensor, positive: Tensor, may: Tensor, margin: float | None = None, *, easiest: bool = False
) -> Tensor:
    """int64 `[b]`: column of each row's negative, `NONE` without one.

    Args:
        scores: `[b, m]`, dot products of documents and candidates.
        positive: `[b]`, dot product with the own request. A candidate that ties with it is not taken.
        may: bool `[b, m]`.
        margin: only candidates with `score > positive - margin`.
        easiest: take the least similar candidate where none is semi-hard.
    """
    with torch.no_grad():
        semi_hard = may & (scores < positive[:, None])
        if margin is not None:
            semi_hard &= scores > positive[:, None] - margin
        found = scores.masked_fill(~semi_hard, float("-inf")).argmax(1)
        found = torch.where(semi_hard.any(1), found, NONE)
        if easiest:
            least = scores.masked_fill(~may, float("inf")).argmin(1)
            found = torch.where((found == NONE) & may.any(1), least, found)
        return found
