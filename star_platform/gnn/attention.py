"""One layer of an encoder: each item with its sampled neighbours of several relations.

For node v with neighbours u over relations r and heads h (STAR, arXiv 2507.09797, section 3; the form of keys, values
and skip as in reference/graph_learning, section 2):

    a_u = softmax over u of (q_vh . W_kh (x_u + rho_r) / sqrt(d_h) + b_rh + c_rh log(1 + hours) + w_rh log(1 + weight))
    h'_v = LeakyReLU(norm(W_o concat_h(W_vh sum_u a_u g_rh (x_u + rho_r)) + W_s x_v + bias))

W_q, W_o, W_s and bias belong to the node type of v; rho, g, b, c and w to the relation; W_k and W_v to the layer. With
`mean` a_u is 1 / neighbours, there is one head, and W_v is left out (GraphSAGE, Hamilton et al. 2017). The inner width
of keys and values is `multiplier` times the outer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.neighbours import neighbour_attention, neighbour_mean, own_rows
from star_platform.gnn.precision import layer_norm
from star_platform.gnn.trees import BlockTensors

MASKED = -1e9
NEGATIVE_SLOPE = 0.2


def alike(count: int, width: int, out: int) -> Tensor:
    """`[count, width, out]` identities, repeated or cut to shape, with a little noise: the start of every projection.

    So nodes of all types and messages of all relations share one space from the first step, and two nodes that
    have something in common, a text or a neighbour, begin with a positive dot product.
    """
    copies = -(-max(width, out) // min(width, out))
    eye = torch.eye(min(width, out))
    start = eye.repeat(1, copies)[:, :out] if out >= width else eye.repeat(copies, 1)[:width] / copies
    noisy: Tensor = start.repeat(count, 1, 1) + torch.randn(count, width, out) * (0.1 * width**-0.5)
    return noisy


class TypedLinear(nn.Module):
    """A bias-free projection per node type, over rows sorted by type."""

    def __init__(self, num_types: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(alike(num_types, width, out))

    def forward(self, rows: Tensor, slices: Sequence[int], bias: Tensor | None = None) -> Tensor:
        """`[n, out]` of rows `[n, width]`, in their dtype; the rows of type t are `slices[t]:slices[t + 1]`.

        `bias`: `[num_types, out]`.
        """
        weights = self.weight.to(rows.dtype).unbind()
        shifts = None if bias is None else bias.to(rows.dtype).unbind()
        segments = torch.split(rows, [last - first for first, last in pairwise(slices)])  # whose gradient is one `cat`
        parts = [
            part @ weights[t] if shifts is None else torch.addmm(shifts[t], part, weights[t])
            for t, part in enumerate(segments)
            if len(part)
        ]
        return torch.cat(parts) if parts else rows.new_zeros(0, self.weight.shape[2])


class Layer(nn.Module):
    """Mixes each item with its sampled neighbours; with `relations` 0 each item with itself alone."""

    def __init__(self, config: TrainingConfig, types: int, relations: int, *, weighted: bool, last: bool) -> None:
        super().__init__()
        dim, self.relations, self.last = config.dim, relations, last
        self.mean = config.encoder == "mean"
        self.heads = 1 if self.mean else config.heads
        self.own = TypedLinear(types, dim, dim)
        self.bias = nn.Parameter(torch.zeros(types, dim))
        if relations:
            inner = dim * (1 if self.mean else config.multiplier)
            self.rho = nn.Parameter(torch.zeros(relations, dim))
            self.output = TypedLinear(types, inner, dim)
            # What a relation does to values and scores. Terms for which a layer has no use stay 0 and are not learned.
            terms = torch.zeros(4, relations, self.heads)
            terms[0] = 1.0
            self.terms = nn.Parameter(terms)
            used = torch.ones(4, 1, 1)
            if not config.age_encoding:
                used[2] = 0.0
            if not weighted:
                used[3] = 0.0
            self.used: Tensor
            self.register_buffer("used", used, persistent=False)
            if not self.mean:
                self.query = TypedLinear(types, dim, inner)
                width = inner // self.heads
                self.key = nn.Parameter(
                    alike(1, dim, inner)[0].view(dim, self.heads, width).permute(1, 2, 0).contiguous()
                )
                self.value = nn.Parameter(
                    alike(1, dim, inner)[0].view(dim, self.heads, width).transpose(0, 1).contiguous()
                )
        self.norm = _norm(config.norm, dim) if not last else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, block: BlockTensors | None, slices: Sequence[int]) -> Tensor:
        """`[n, dim]` for the items of a hop, from `hidden [m, dim]` of the next-deeper hop; float32 or bfloat16."""
        itself, rest = (hidden, hidden) if block is None else own_rows(hidden, block.self_positions)
        out: Tensor = self.own(itself, slices, self.bias)
        if block is not None and self.relations:
            taken = self._mean(rest, block) if self.mean else self._attended(itself, rest, block, slices)
            out = out + self.output(taken, slices)
        if self.last:
            return out
        normed = layer_norm(out, self.norm) if isinstance(self.norm, nn.LayerNorm) else self.norm(out)
        activated: Tensor = self.dropout(functional.leaky_relu(normed, NEGATIVE_SLOPE))
        return activated

    def _mean(self, hidden: Tensor, block: BlockTensors) -> Tensor:
        return neighbour_mean(hidden, self.rho, self.terms[0, :, 0], block)[0]

    def _attended(self, itself: Tensor, hidden: Tensor, block: BlockTensors, slices: Sequence[int]) -> Tensor:
        """The weighted sum of neighbour values, heads side by side: `[n, inner]`."""
        n, width = len(itself), self.value.shape[2]
        query = self.query(itself, slices).view(n, self.heads, width).transpose(0, 1)
        absorbed = torch.bmm(query, self.key.to(hidden.dtype))
        sums = neighbour_attention(hidden, absorbed, self.rho, self.terms * self.used, block, width**-0.5)
        values = torch.bmm(sums, self.value.to(hidden.dtype))
        return values.transpose(0, 1).reshape(n, -1)


def _norm(kind: str, dim: int) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(dim)
    return nn.BatchNorm1d(dim) if kind == "batch" else nn.Identity()
