"""From the vectors of a document and a request to a logit: linear layers over Hadamard products (STAR, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from star_platform.text.finetune.config import HeadConfig

_ENDS = {"dp": ("document", "profile"), "dc": ("document", "resume"), "pc": ("profile", "resume")}
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Vectors:
    """Unit vectors `[b, d]` of the rows of a batch.

    A tower that is not configured is None. Where a row lacks a part, `has_...` (bool `[b]`) is False and the vector is
    not read.
    """

    documents: Tensor
    profile: Tensor | None
    resume: Tensor | None
    has_profile: Tensor
    has_resume: Tensor

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Vectors of `document`, `profile` or `resume`, and which rows have one."""
        if name == "document":
            return self.documents, torch.ones_like(self.has_profile)
        vectors, present = (self.profile, self.has_profile) if name == "profile" else (self.resume, self.has_resume)
        if vectors is None:
            raise ValueError(f"there is no {name} tower")
        return vectors, present


class Head(nn.Module):
    """`w2 . phi( W1 [d*p ; d*c] )`; a block with a missing part is zero, and an indicator says so."""

    def __init__(self, config: HeadConfig, dim: int, towers: frozenset[str], seed: int) -> None:
        super().__init__()
        self.pairs = tuple(pair for pair in config.pairs if set(_ENDS[pair]) <= towers | {"document"})
        self.dim = dim
        inputs = len(self.pairs) * (dim + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = (
                nn.Sequential(
                    nn.Linear(inputs, config.hidden), _ACTIVATIONS[config.activation](), nn.Linear(config.hidden, 1)
                )
                if config.hidden
                else nn.Linear(inputs, 1)
            )

    def forward(self, vectors: Vectors) -> Tensor:
        """Logits `[b]`."""
        blocks: list[Tensor] = []
        for pair in self.pairs:
            (one, has_one), (other, has_other) = (vectors.part(end) for end in _ENDS[pair])
            present = (has_one & has_other)[:, None]
            # Entries of unit vectors are about d^-1/2, so products are scaled by d to be about 1 for the layer.
            product = torch.where(present, one * other * self.dim, 0.0)
            blocks += [product, present.to(product.dtype)]
        logits: Tensor = self.layers(torch.cat(blocks, 1)).squeeze(1)
        return logits
