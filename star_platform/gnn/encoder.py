"""From sampled neighbourhoods to vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.attention import AttentionLayer
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputSpec, TypeEncoder
from star_platform.gnn.trees import Trees

SELF_LAYERS = 2
"""Layers of an encoder without a graph: as deep as the usual one with it."""


class Encoder(nn.Module):
    """Input encoders per node type, then one attention layer per hop. All published vectors come out of here."""

    def __init__(
        self,
        specs: Mapping[str, Sequence[InputSpec]],
        num_relations: int,
        config: TrainingConfig,
        *,
        weighted: bool,
    ) -> None:
        super().__init__()
        self.cosine = config.decoder == "cosine"
        self.inputs = nn.ModuleList(TypeEncoder(specs[node], config.dim, config.id_dropout) for node in sorted(specs))
        hops = len(config.fan_outs)
        depth = hops or SELF_LAYERS
        self.layers = nn.ModuleList(
            AttentionLayer(
                config.dim,
                config.heads,
                len(specs),
                num_relations if hops else 0,
                ages=config.age_encoding,
                weights=weighted,
                last=place == depth - 1,
                dropout=config.dropout,
            )
            for place in range(depth)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, trees: Trees) -> Tensor:
        """`[items of hop 0, dim]`; `trees.seeds` says which item each seed is."""
        parts = [encode(inputs) for encode, inputs in zip(self.inputs, trees.inputs, strict=True)]
        hidden = self.dropout(torch.cat(parts))
        hops = len(trees.blocks)
        for place, layer in enumerate(self.layers):
            hop = max(hops - 1 - place, 0)
            hidden = layer(hidden, trees.blocks[hop] if hops else None, trees.slices[hop])
        return functional.normalize(hidden, dim=1) if self.cosine else hidden
