"""From two vectors to the logit of a link."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """`scale * z_s . z_d + bias` of one objective.

    The scale is positive and the bias constant, so that the order of candidates is that of the dot product of the
    published vectors, which is all that a reader of them has. With vectors of length 1 it is the cosine.
    """

    def __init__(self, dim: int, *, cosine: bool) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(5.0 if cosine else dim**-0.5).log())
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, products: Tensor) -> Tensor:
        """Logits from dot products, any shape."""
        return products * self.log_scale.exp() + self.bias

    def pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        """`[n]` from `[n, dim]` and `[n, dim]`."""
        logits: Tensor = self((src * dst).sum(dim=1))
        return logits

    def all_pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        """`[n, m]` from `[n, dim]` and `[m, dim]`."""
        logits: Tensor = self(src @ dst.T)
        return logits
