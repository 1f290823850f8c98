"""The temporal encoder: a node's graph vector and its latest activities through a transformer (LiGNN, section 3.5).

    tokens        the graph vector, cut into H pieces, each projected to the hidden width
    activities    input vector of the node at the seed's moment + relation + age + position, counted from the newest
    mask          the H tokens see each other; activity i sees the H tokens and the activities up to i
    vector        graph vector + W (state of the newest activity, or of the last token where there is none)
    long term     the state of activity i predicts the nodes of the next ones by a softmax over nodes of the batch

The mask makes the state of an activity a summary of the past up to it, so that every one of them can learn from what
came later. W begins at 0: before the first step the encoder is the graph encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.gathering import expand
from star_platform.gnn.precision import Precision, dtype_of, layer_norm, matmul
from star_platform.gnn.sequence import LongTerm, SequenceTensors

INNER = 2
"""Width of the inner layer of a block, in units of dim."""


def prefix_causal_mask(tokens: int, activities: int) -> Tensor:
    """`[T, T]`, T = tokens + activities: whether the row sees the column."""
    total = tokens + activities
    mask = torch.ones(total, total, dtype=torch.bool).tril()
    mask[:tokens, :tokens] = True
    return mask


class SequenceEncoder(nn.Module):
    """Vectors of seeds from their graph vectors and their activities."""

    def __init__(self, config: TrainingConfig, relations: int, inputs: nn.ModuleList) -> None:
        """`inputs`: the `TypeEncoder`s of the graph encoder, which stay its own.

        Raises:
            TrainingError: M027 when the heads of the transformer do not divide dim.
        """
        super().__init__()
        dim, given = config.dim, config.sequence
        if dim % given.heads:
            raise TrainingError(
                "M027",
                f"dim {dim} is not a multiple of the {given.heads} heads of the temporal encoder",
                hint="set `training.sequence.heads` to a divisor of `training.dim`",
            )
        self._inputs = (inputs,)  # in a tuple, so that they are not registered here again
        self.precision: Precision = config.precision
        self.tokens, self.weight = given.tokens, given.long_term_weight
        self.cosine = config.decoder == "cosine"
        self.piece = -(-dim // self.tokens)
        self.cut = nn.Parameter(torch.randn(self.tokens, self.piece, dim) * self.piece**-0.5)
        self.token = nn.Parameter(torch.randn(self.tokens, dim) * 0.02)
        self.relation = nn.Parameter(torch.randn(relations, dim) * 0.02)
        self.position = nn.Parameter(torch.randn(given.activities, dim) * 0.02)
        self.age = nn.Parameter(torch.randn(dim) * 0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, given.heads, config.dropout, config.precision) for _ in range(given.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Parameter(torch.zeros(dim, dim))
        if given.long_term:
            self.foretell = nn.Parameter(torch.randn(dim, dim) * dim**-0.5)

    def forward(self, graph_vectors: Tensor, sequence: SequenceTensors) -> tuple[Tensor, Tensor | None]:
        """float32 `[b, dim]` from float32 `[b, dim]` of the same seeds, and in training the weighted long-term loss."""
        dtype, counts = dtype_of(self.precision), sequence.counts
        items = torch.cat([encode(given) for encode, given in zip(self._inputs[0], sequence.inputs, strict=True)]).to(
            dtype
        )
        states = torch.cat([self._cut(graph_vectors).to(dtype), self._activities(items, sequence)], dim=1)
        mask = self._mask(counts, sequence.items.shape[1])
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, mask)
        newest = (counts + self.tokens - 1).view(-1, 1, 1).expand(-1, 1, states.shape[2])
        summary = layer_norm(states.gather(1, newest).squeeze(1), self.norm)
        vectors = graph_vectors + matmul(summary, self.output, self.precision).float()
        loss = None
        if self.training and sequence.long_term is not None and len(sequence.long_term.rows):
            loss = self.weight * self._long_term(states, items, sequence.long_term)
        return functional.normalize(vectors, dim=1) if self.cosine else vectors, loss

    def _cut(self, vectors: Tensor) -> Tensor:
        """`[b, H, dim]`: the pieces of each vector, projected."""
        padded = functional.pad(vectors, (0, self.tokens * self.piece - vectors.shape[1]))
        pieces = padded.view(len(vectors), self.tokens, self.piece).transpose(0, 1)
        return torch.bmm(pieces, self.cut).transpose(0, 1) + self.token

    def _activities(self, items: Tensor, sequence: SequenceTensors) -> Tensor:
        """`[b, L, dim]`."""
        (b, longest), dim = sequence.items.shape, items.shape[1]
        if not b * longest:
            return items.new_zeros(b, longest, dim)
        nodes = expand(items, sequence.items.reshape(-1)).view(b, longest, dim)
        back = sequence.counts.unsqueeze(1) - 1 - torch.arange(longest, device=items.device)
        where = expand(self.position, back.clamp(min=0).reshape(-1)).view(b, longest, dim)
        how = expand(self.relation, sequence.relations.reshape(-1)).view(b, longest, dim)
        return nodes + (where + how + sequence.ages.unsqueeze(2) * self.age).to(items.dtype)

    def _mask(self, counts: Tensor, longest: int) -> Tensor:
        """`[b, 1, T, T]`: prefix-causal, and padding is seen by nobody."""
        real = torch.arange(longest, device=counts.device) < counts.unsqueeze(1)
        seen = functional.pad(real, (self.tokens, 0), value=True)
        mask = prefix_causal_mask(self.tokens, longest).to(counts.device)
        return (mask & seen.unsqueeze(1)).unsqueeze(1)

    def _long_term(self, states: Tensor, items: Tensor, asked: LongTerm) -> Tensor:
        """Mean over predicting activities of the cross-entropy of their later nodes, which count alike."""
        places = asked.rows * states.shape[1] + self.tokens + asked.columns
        queries = layer_norm(expand(states.reshape(-1, states.shape[2]), places), self.norm)
        candidates = expand(items, asked.candidates)
        logits = matmul(queries, self.foretell, self.precision) @ candidates.T
        chances = functional.log_softmax(logits.float() * candidates.shape[1] ** -0.5, dim=1)
        real = asked.targets >= 0
        found = chances.gather(1, asked.targets.clamp(min=0)) * real
        return -(found.sum(dim=1) / real.sum(dim=1)).mean()


class Block(nn.Module):
    """Attention and an inner layer, each behind a norm and beside a shortcut (pre-norm, Xiong et al. 2020)."""

    def __init__(self, dim: int, heads: int, dropout: float, precision: Precision) -> None:
        super().__init__()
        self.heads, self.precision = heads, precision
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.mixed = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, INNER * dim), nn.Linear(INNER * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`[b, T, dim]` of `[b, T, dim]`; mask bool `[b, 1, T, T]`, True where the row sees the column."""
        b, total, dim = states.shape
        parts = self._linear(layer_norm(states, self.before), self.qkv).view(b, total, 3, self.heads, dim // self.heads)
        query, key, value = (parts[:, :, place].transpose(1, 2) for place in range(3))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        states = states + self.dropout(self._linear(mixed.transpose(1, 2).reshape(b, total, dim), self.mixed))
        inner = functional.gelu(self._linear(layer_norm(states, self.between), self.widen))
        out: Tensor = states + self.dropout(self._linear(inner, self.narrow))
        return out

    def _linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        return matmul(x, layer.weight.T, self.precision) + layer.bias.to(dtype_of(self.precision))
