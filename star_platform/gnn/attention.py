"""One layer of an encoder: each item with its sampled neighbours of several relations.

For node v with neighbours u over relations r and heads h (STAR, arXiv 2507.09797, section 3; the form of keys, values
and skip as in reference/graph_learning, section 2):

    a_u = softmax over u of (q_vh . W_kh (x_u + rho_r) / sqrt(d_h) + b_rh + c_rh log(1 + hours) + w_rh log(1 + weight))
    h'_v = LeakyReLU(norm(W_o concat_h(W_vh sum_u a_u g_rh (x_u + rho_r)) + W_s x_v + bias))

W_q, W_o, W_s and bias belong to the node type of v; rho, g, b, c and w to the relation; W_k and W_v to the layer: keys
and values are one product per item, and the part of a relation, W_k rho_r, one per relation. With `mean` a_u is
1 / neighbours, there is one head, and W_v is left out (GraphSAGE, Hamilton et al. 2017). The inner width of keys and
values is `multiplier` times the outer one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.linear import TypedLinear, alike, project
from star_platform.gnn.neighbours import neighbour_attention, neighbour_mean, own_rows
from star_platform.gnn.precision import layer_norm, matmul
from star_platform.gnn.trees import BlockTensors

MASKED = -1e9
NEGATIVE_SLOPE = 0.2


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
            self.scale = (inner // self.heads) ** -0.5
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
                self.key_value = nn.Parameter(torch.cat([alike(1, dim, inner)[0], alike(1, dim, inner)[0]], dim=1))
        self.norm = _norm(config.norm, dim) if not last else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, block: BlockTensors | None, slices: Sequence[int]) -> Tensor:
        """`[n, dim]` for the items of a hop, from `hidden [m, dim]` of the next-deeper hop; float32 or bfloat16."""
        if block is None or not self.relations:
            return self._finished(project([hidden], [self.own], slices, self.bias))
        itself, rest = own_rows(hidden, block.self_positions)
        return self.mixed(itself, self.messages(rest), block, slices)

    def messages(self, hidden: Tensor) -> Tensor:
        """What an item is to those whose neighbour it is: keys and values `[m, 2 inner]`, or with `mean` its state."""
        if self.mean:
            return hidden
        return matmul(hidden, self.key_value, "bf16" if hidden.dtype == torch.bfloat16 else "float32")

    def mixed(self, itself: Tensor, messages: Tensor, block: BlockTensors, slices: Sequence[int]) -> Tensor:
        """`[n, dim]` from the items' own states `[n, dim]` and the messages of whom the block's `neighbours` count."""
        if self.mean:
            taken = neighbour_mean(messages, self.rho, self.terms[0, :, 0], block).to(itself.dtype)
        else:
            query, shifts = project([itself], [self.query], slices), self.rho @ self.key_value
            taken = neighbour_attention(messages, query, shifts, self.terms * self.used, block, self.scale)
        return self._finished(project([itself, taken], [self.own, self.output], slices, self.bias))

    def _finished(self, out: Tensor) -> Tensor:
        if self.last:
            return out
        if isinstance(self.norm, nn.LayerNorm):
            out = layer_norm(out, self.norm, NEGATIVE_SLOPE)
        else:
            out = functional.leaky_relu(self.norm(out), NEGATIVE_SLOPE)
        dropped: Tensor = self.dropout(out)
        return dropped


def _norm(kind: str, dim: int) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(dim)
    return nn.BatchNorm1d(dim) if kind == "batch" else nn.Identity()
