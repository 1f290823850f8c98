"""One layer of multi-head attention over sampled neighbours of several relations.

For node v with neighbours u over relations r (STAR, arXiv 2507.09797, section 3, with keys and values per relation as
in reference/graph_learning, section 2):

    a_u = softmax over u of (q_v . k_ru / sqrt(d) + b_r + c_r log(1 + hours) + w_r log(1 + weight))
    h'_v = LeakyReLU(norm(W_o [sum_u a_u v_ru] + W_s h_v))

q, W_o and W_s belong to the node type of v; b, c and w are a number per relation and head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.trees import BlockTensors

MASKED = -1e9


def alike(count: int, dim: int) -> Tensor:
    """`[count, dim, dim]` identities with a little noise: the start of every projection between hidden states.

    So nodes of all types and messages of all relations share one space from the first step, and two nodes that
    have something in common, a text or a neighbour, begin with a positive dot product.
    """
    start: Tensor = torch.eye(dim).repeat(count, 1, 1) + torch.randn(count, dim, dim) * (0.1 * dim**-0.5)
    return start


class TypedLinear(nn.Module):
    """A bias-free projection per node type, over rows sorted by type."""

    def __init__(self, num_types: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(alike(num_types, dim))

    def forward(self, rows: Tensor, slices: Sequence[int]) -> Tensor:
        """`[n, out]` of rows `[n, width]`; the rows of type t are `slices[t]:slices[t + 1]`."""
        return segment_matmul(rows, self.weight, slices)


def segment_matmul(rows: Tensor, weights: Tensor, slices: Sequence[int]) -> Tensor:
    """Each segment of `rows [n, width]` times its own matrix of `weights [segments, width, out]`."""
    parts = [rows[first:last] @ weights[place] for place, (first, last) in enumerate(pairwise(slices)) if last > first]
    return torch.cat(parts) if parts else rows.new_zeros(0, weights.shape[2])


class AttentionLayer(nn.Module):
    """Mixes each item with its sampled neighbours; with `relations` 0 each item with itself alone."""

    def __init__(
        self, dim: int, heads: int, types: int, relations: int, *, ages: bool, weights: bool, last: bool, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.relations, self.last = heads, relations, last
        self.own = TypedLinear(types, dim)
        self.bias = nn.Parameter(torch.zeros(types, dim))
        if relations:
            self.query = TypedLinear(types, dim)
            self.output = TypedLinear(types, dim)
            self.key_value = nn.Parameter(torch.cat([alike(relations, dim), alike(relations, dim)], dim=2))
            self.relation_bias = nn.Parameter(torch.zeros(relations, heads))
            self.age = nn.Parameter(torch.zeros(relations, heads)) if ages else None
            self.weight = nn.Parameter(torch.zeros(relations, heads)) if weights else None
        self.norm = nn.Identity() if last else nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, block: BlockTensors | None, slices: Sequence[int]) -> Tensor:
        """`[n, dim]` for the items of a hop, from `hidden [m, dim]` of the next-deeper hop."""
        itself = hidden if block is None else functional.embedding(block.self_positions, hidden)
        out: Tensor = self.own(itself, slices)
        types = torch.repeat_interleave(torch.arange(len(slices) - 1), torch.tensor(slices).diff())
        out = out + functional.embedding(types, self.bias)
        if block is not None and self.relations:
            query = self.query(itself, slices)
            out = out + self.output(self.attend(query, hidden, block), slices)
        if self.last:
            return out
        activated: Tensor = self.dropout(functional.leaky_relu(self.norm(out), 0.2))
        return activated

    def attend(self, query: Tensor, hidden: Tensor, block: BlockTensors) -> Tensor:
        """The weighted sum of neighbour values, heads side by side: `[n, dim]`; zero without neighbours."""
        n, dim = query.shape
        width = dim // self.heads
        pairs = segment_matmul(functional.embedding(block.pair_sources, hidden), self.key_value, block.pair_slices)
        pairs = functional.pad(pairs, (0, 0, 0, 1))  # the row of slots without a neighbour
        keys, values = functional.embedding(block.index, pairs).view(n, -1, 2, self.heads, width).unbind(2)
        scores = torch.einsum("nhd,nkhd->nkh", query.view(n, self.heads, width), keys) * width**-0.5
        scores = scores + self._edge_terms(block)
        empty = (block.index == len(block.pair_sources)).unsqueeze(-1)
        shares = torch.softmax(scores.masked_fill(empty, MASKED), dim=1).masked_fill(empty, 0.0)
        return torch.einsum("nkh,nkhd->nhd", shares, values).reshape(n, dim)

    def _edge_terms(self, block: BlockTensors) -> Tensor:
        """`[n, K, heads]`: what the relation, the age and the weight of an edge add to its score."""
        terms = functional.embedding(block.relations, self.relation_bias)
        if self.age is not None:
            terms = terms + functional.embedding(block.relations, self.age) * block.ages.unsqueeze(-1)
        if self.weight is not None and block.weights is not None:
            terms = terms + functional.embedding(block.relations, self.weight) * block.weights.unsqueeze(-1)
        return terms
