"""From two vectors to the logit of a link (STAR, arXiv 2507.09797, section 3: dot product, cosine, MLP or Hadamard).

    dot, cosine     scale * z_s . z_d + bias
    hadamard        w . (z_s * z_d) + bias                             one learned weight per dimension
    mlp             v . LeakyReLU(W [z_s; z_d; z_s * z_d] + b) + bias   one hidden layer as wide as the vectors

Whoever reads published vectors from a store has nothing but the vectors: only `dot` and `cosine` rank candidates as
their dot products do, so that a nearest-neighbour index over them returns what the model would. After `hadamard` a
reader must multiply one side by the decoder's weights first; after `mlp` there is no such index at all, every pair is
to be scored by the model. Both are for models that score here, in evaluation or ranking; `dot` is the default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.precision import Precision, matmul

CHUNK = 1 << 24
"""Numbers of the hidden layer of `mlp` that exist at a time: 64 MiB."""
NEGATIVE_SLOPE = 0.2


class PairDecoder(nn.Module, ABC):
    """Logits of pairs of vectors, of one objective."""

    @abstractmethod
    def pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        """`[n]` from `[n, dim]` and `[n, dim]`."""

    @abstractmethod
    def all_pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        """`[n, m]` from `[n, dim]` and `[m, dim]`."""


class Decoder(PairDecoder):
    """`scale * z_s . z_d + bias`.

    The scale is positive and the bias constant, so that the order of candidates is that of the dot product of the
    published vectors, which is all that a reader of them has. With vectors of length 1 it is the cosine.
    """

    def __init__(self, dim: int, *, cosine: bool, precision: Precision = "float32") -> None:
        """`precision`: of the products of all pairs in training; scores that are compared stay float32."""
        super().__init__()
        self.precision: Precision = precision
        self.log_scale = nn.Parameter(torch.tensor(5.0 if cosine else dim**-0.5).log())
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, products: Tensor) -> Tensor:
        """Logits from dot products, any shape."""
        return products * self.log_scale.exp() + self.bias

    def pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        logits: Tensor = self((src * dst).sum(dim=1))
        return logits

    def all_pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        logits: Tensor = self(matmul(src, dst.T, self.precision if self.training else "float32").float())
        return logits


class HadamardDecoder(PairDecoder):
    """`w . (z_s * z_d) + bias`; it begins as the dot decoder does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), dim**-0.5))
        self.bias = nn.Parameter(torch.zeros(()))

    def pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        return (src * dst) @ self.weight + self.bias

    def all_pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        return (src * self.weight) @ dst.T + self.bias


class MlpDecoder(PairDecoder):
    """`v . LeakyReLU(W_s z_s + W_d z_d + W_p (z_s * z_d) + b) + bias`.

    W_s z_s and W_d z_d are computed once per vector and not per pair; the third term costs `2 n m dim^2` operations.
    Pairs are taken some at a time, and their hidden layer is computed again for the gradient instead of being kept.
    It begins near the sum of LeakyReLU(z_s * z_d), so that pairs that have something in common score higher at once.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        spread = 0.1 * dim**-0.5
        self.source, self.target, self.product = (nn.Parameter(torch.randn(dim, dim) * spread) for _ in range(3))
        with torch.no_grad():
            self.product.add_(torch.eye(dim))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.output = nn.Parameter(torch.full((dim,), dim**-0.5))
        self.bias = nn.Parameter(torch.zeros(()))

    def pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        before = src @ self.source + dst @ self.target + (src * dst) @ self.product + self.shift
        return functional.leaky_relu(before, NEGATIVE_SLOPE) @ self.output + self.bias

    def all_pairs(self, src: Tensor, dst: Tensor) -> Tensor:
        mine, theirs = src @ self.source + self.shift, dst @ self.target
        width = max(1, CHUNK // max(1, src.numel()))
        cuts = [slice(first, first + width) for first in range(0, max(1, len(dst)), width)]
        parts = [self._block(src, mine, dst[cut], theirs[cut]) for cut in cuts]
        return torch.cat(parts, dim=1)

    def _block(self, src: Tensor, mine: Tensor, dst: Tensor, theirs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._logits(src, mine, dst, theirs)
        logits: Tensor = checkpoint(self._logits, src, mine, dst, theirs, use_reentrant=False, preserve_rng_state=False)
        return logits

    def _logits(self, src: Tensor, mine: Tensor, dst: Tensor, theirs: Tensor) -> Tensor:
        """`[n, m]` of sources and some of the destinations, with their terms of the hidden layer."""
        before = (src.unsqueeze(1) * dst) @ self.product + mine.unsqueeze(1) + theirs
        return functional.leaky_relu(before, NEGATIVE_SLOPE) @ self.output + self.bias


def decoder_for(config: TrainingConfig) -> PairDecoder:
    """The decoder that a configuration asks for, one per objective; cosine expects vectors of length 1."""
    if config.decoder == "hadamard":
        return HadamardDecoder(config.dim)
    if config.decoder == "mlp":
        return MlpDecoder(config.dim)
    return Decoder(config.dim, cosine=config.decoder == "cosine", precision=config.precision)
