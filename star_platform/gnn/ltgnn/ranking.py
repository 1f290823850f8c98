"""Recall and NDCG over all items, exactly: no sampled candidates, known items masked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn.ltgnn import _batch_kernels as kernels
from star_platform.gnn.ltgnn.interactions import Interactions
from star_platform.gnn.ltgnn.matrix import ALONE, Float32Array, Int64Array, Workers

BLOCK = 1024
"""Users scored at a time."""


@dataclass(frozen=True)
class Ranked:
    """Means over the users who have something to find."""

    recall: float
    ndcg: float
    users: int


def top_items(
    user_vectors: Float32Array,
    item_vectors: Float32Array,
    users: Int64Array,
    known: Interactions,
    k: int,
    workers: Workers = ALONE,
) -> NDArray[np.int32]:
    """int32 `[len(users), k]`: items by falling dot product, without those in `known`; -1 where none is left."""
    out = np.empty((len(users), k), dtype=np.int32)
    items = torch.from_numpy(item_vectors)
    for start in range(0, len(users), BLOCK):
        some, found = users[start : start + BLOCK], out[start : start + BLOCK]
        scores = (torch.from_numpy(user_vectors[some]) @ items.T).numpy()

        def work(
            first: int,
            last: int,
            scores: Float32Array = scores,
            some: Int64Array = some,
            found: NDArray[np.int32] = found,
        ) -> None:
            kernels.top_k(scores, known.indptr, known.items, some, found, first, last)

        workers.over(len(some), work)
    return out


def ranked(
    user_vectors: Float32Array,
    item_vectors: Float32Array,
    known: Interactions,
    wanted: Interactions,
    k: int = 20,
    workers: Workers = ALONE,
) -> Ranked:
    """Recall@k and NDCG@k of `wanted`, as published for LightGCN.

    Recall is the share of a user's wanted items among its k best; the gain of NDCG is 1, its ideal has min(k, wanted)
    hits. Users without a wanted item do not count.
    """
    counts = np.diff(wanted.indptr)
    users = np.flatnonzero(counts)
    best = top_items(user_vectors, item_vectors, users, known, k, workers)
    keys = wanted.users * wanted.num_items + wanted.items
    asked = users[:, None] * wanted.num_items + best
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    hits = (keys[places] == asked) & (best >= 0)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(counts[users], k) - 1]
    recall = hits.sum(axis=1) / counts[users]
    ndcg = (hits * discounts).sum(axis=1) / ideal
    return Ranked(float(recall.mean()), float(ndcg.mean()), len(users))
