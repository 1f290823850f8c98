"""BERT and its kin without padding: texts lie end to end, and only attention sees where one ends.

Everything but attention works on single tokens, so a batch is one matrix of tokens and nothing is computed for padding;
attention runs over texts of equal length together, without a mask. The sums of a text's tokens are the same whoever its
companions are, as long as a matrix has `MIN_ROWS` rows and one thread computes it: below that, and with more threads,
the libraries choose kernels by the number of rows and add in another order. For bfloat16 they do so at any number, so
there every matrix is filled up to a multiple of `BFLOAT16_ROWS`. (Measured for MKL and oneDNN at widths 24 to 4,096;
the tests measure it again. Several cores are used by several batches, see `workers`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.nn import functional

from star_platform.text.int8 import Int8Linear
from star_platform.text.pooling import pool_packed
from star_platform.text.transformer import Transformer

MIN_ROWS = 16
BFLOAT16_ROWS = 512
_TYPES = {"bert", "roberta", "xlm-roberta", "camembert"}
_FIRST_POSITION_IS_AFTER_PADDING = _TYPES - {"bert"}

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Layer:
    """Maps of `[t, ...]` tokens; `qkv` gives queries, keys and values side by side."""

    qkv: Map
    mixed: Map
    attention_norm: Map
    up: Map
    activation: Map
    down: Map
    norm: Map


class Packed:
    """The inference of one model over packed texts."""

    def __init__(self, transformer: Transformer) -> None:
        model: Any = transformer.module
        self._pooling = transformer.pooling
        self._pad_id = transformer.tokeniser.pad_id
        self._heads = int(model.config.num_attention_heads)
        after_padding = model.config.model_type in _FIRST_POSITION_IS_AFTER_PADDING
        self._first_position = int(model.config.pad_token_id) + 1 if after_padding else 0
        self._rows = BFLOAT16_ROWS if transformer.config.precision == "bfloat16" else None
        self._embeddings = model.embeddings
        self._layers = [_layer(layer, gelu=model.config.hidden_act == "gelu") for layer in model.encoder.layer]

    @staticmethod
    def fits(transformer: Transformer) -> bool:
        """Whether this model is one that is computed as here, on a CPU."""
        config = transformer.folder.config
        return (
            config.get("model_type") in _TYPES
            and not transformer.folder.is_decoder
            and config.get("position_embedding_type", "absolute") == "absolute"
            and transformer.device.type == "cpu"
        )

    def vectors(self, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """float32 `[b, d]`, unit norm, of texts laid end to end: ids int64 `[t]`, and how many tokens each has.

        Texts of equal length should be neighbours: they share the calls of attention.

        Raises:
            TextError: T006 for a vector that is not finite.
        """
        texts = len(lengths)
        lengths = list(lengths)
        fill = -len(ids) % self._rows if self._rows else max(0, MIN_ROWS - len(ids))
        if fill:  # more texts, of padding, that nobody reads
            lengths += [MIN_ROWS] * (fill // MIN_ROWS) + ([fill % MIN_ROWS] if fill % MIN_ROWS else [])
            ids = functional.pad(ids, (0, fill), value=self._pad_id)
        positions = torch.cat([torch.arange(n) for n in lengths]) + self._first_position
        states = self._embeddings(input_ids=ids[None], position_ids=positions[None])[0]
        layers = [states]
        runs = [(length, len(list(group))) for length, group in groupby(lengths)]
        for layer in self._layers:
            states = self._through(layer, states, runs)
            if self._pooling == "layer_mean_cls":
                layers.append(states)
        return pool_packed(states, layers, lengths, self._pooling)[:texts]

    def _through(self, layer: _Layer, states: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
        mixed = layer.mixed(self._attend(layer.qkv(states), runs))
        states = layer.attention_norm(mixed.add_(states))
        return layer.norm(layer.down(layer.activation(layer.up(states))).add_(states))

    def _attend(self, qkv: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
        width = qkv.shape[1] // 3
        out = qkv.new_empty(len(qkv), width)
        at = 0
        for length, texts in runs:
            rows = slice(at, at + texts * length)
            q, k, v = qkv[rows].view(texts, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            heads = functional.scaled_dot_product_attention(q, k, v)
            out[rows].view(texts, length, self._heads, -1).copy_(heads.transpose(1, 2))
            at = rows.stop
        return out


def _layer(layer: Any, *, gelu: bool) -> _Layer:
    own, up, activation = layer.attention.self, layer.intermediate.dense, layer.intermediate.intermediate_act_fn
    if gelu and isinstance(up, Int8Linear):
        up, activation = up.with_gelu(), torch.nn.Identity()
    return _Layer(
        qkv=_side_by_side([own.query, own.key, own.value]),
        mixed=layer.attention.output.dense,
        attention_norm=layer.attention.output.LayerNorm,
        up=up,
        activation=activation,
        down=layer.output.dense,
        norm=layer.output.LayerNorm,
    )


def _side_by_side(maps: Sequence[Any]) -> Map:
    """One map whose output is that of all of them: a product with a wide matrix beats three with narrow ones."""
    if isinstance(maps[0], Int8Linear):
        return Int8Linear.side_by_side(maps)
    weight = torch.cat([each.weight for each in maps]).contiguous()
    bias = torch.cat([each.bias for each in maps]).contiguous()
    return lambda states: functional.linear(states, weight, bias)
