"""From sampled neighbourhoods to vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.attention import Layer
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputSpec, TypeEncoder
from star_platform.gnn.trees import Trees

SELF_LAYERS = 2
"""Layers of an encoder without a graph: as deep as the usual one with it."""


class Encoder(nn.Module):
    """Input encoders per node type, then one layer per hop. All published vectors come out of here.

    A dual encoder has two towers of layers over the same inputs; the vectors of a node type come out of its own.
    """

    def __init__(
        self,
        specs: Mapping[str, Sequence[InputSpec]],
        num_relations: int,
        config: TrainingConfig,
        *,
        weighted: bool,
        towers: Sequence[int] = (),
    ) -> None:
        """`towers`: for a dual encoder the tower of each node type, 0 or 1; empty: one tower for all."""
        super().__init__()
        self.cosine = config.decoder == "cosine"
        self.bf16 = config.precision == "bf16"
        """Whether hidden states are bfloat16."""
        sparse = config.id_optimizer == "sparse"
        self.inputs = nn.ModuleList(
            TypeEncoder(specs[node], config.dim, config.id_dropout, config.precision, sparse=sparse)
            for node in sorted(specs)
        )
        self.tower_of = tuple(towers) or (0,) * len(specs)
        depth = config.hops or SELF_LAYERS
        relations = (num_relations + config.target_in_attention) if config.hops else 0
        self.towers = nn.ModuleList(
            nn.ModuleList(
                Layer(config, len(specs), relations, weighted=weighted, last=place == depth - 1)
                for place in range(depth)
            )
            for _ in range(1 + max(self.tower_of, default=0))
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, trees: Trees) -> Tensor:
        """float32 `[items of hop 0, dim]`; `trees.seeds` says which item each seed is."""
        parts = [encode(inputs) for encode, inputs in zip(self.inputs, trees.inputs, strict=True)]
        hidden = self.dropout(torch.cat(parts))
        found = [self._tower(number, hidden, trees) for number in range(len(self.towers))]
        return self.finish(found, trees.slices[0])

    def _tower(self, number: int, hidden: Tensor, trees: Trees) -> Tensor:
        hops = len(trees.blocks)
        for depth in range(self.depth):
            hop = max(hops - 1 - depth, 0)
            hidden = self.layer(number, depth)(hidden, trees.blocks[hop] if hops else None, trees.slices[hop])
        return hidden

    def compile_layers(self) -> None:
        """Through `torch.compile`, for sizes that change from step to step; input encoders stay as they are."""
        for tower in self.towers:
            assert isinstance(tower, nn.ModuleList)  # noqa: S101 - for the type checker
            for layer in tower:
                layer.compile(dynamic=True)

    @property
    def depth(self) -> int:
        """Layers of a tower."""
        tower = self.towers[0]
        assert isinstance(tower, nn.ModuleList)  # noqa: S101 - for the type checker
        return len(tower)

    def layer(self, tower: int, depth: int) -> Layer:
        """A layer of a tower, deepest hop first."""
        layers = self.towers[tower]
        assert isinstance(layers, nn.ModuleList)  # noqa: S101 - for the type checker
        found = layers[depth]
        assert isinstance(found, Layer)  # noqa: S101 - for the type checker
        return found

    def finish(self, towers: Sequence[Tensor], slices: Sequence[int]) -> Tensor:
        """The vectors float32 `[n, dim]` out of the last layer of each tower; rows of type t are `slices[t:t + 2]`."""
        out = towers[0]
        if len(towers) > 1:
            out = torch.cat([towers[self.tower_of[t]][slices[t] : slices[t + 1]] for t in range(len(slices) - 1)])
        out = out.float()
        return functional.normalize(out, dim=1) if self.cosine else out
