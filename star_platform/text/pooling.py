"""Token states to one vector per text; padding on either side gives the same vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from star_platform.errors import TextError
from star_platform.text.config import Pooling

if TYPE_CHECKING:
    import torch


def pool(
    last: torch.Tensor,
    layers: tuple[torch.Tensor, ...] | None,
    mask: torch.Tensor,
    how: Pooling,
    *,
    decoder: bool,
) -> torch.Tensor:
    """float32 `[b, d]`, unit norm.

    Args:
        last: `[b, t, d]`, the model's last hidden state.
        layers: all hidden states, embeddings first, each `[b, t, d]`; needed by `layer_mean_cls` only.
        mask: `[b, t]`, 1 for tokens and 0 for padding.
        how: `mean` over tokens; `cls` the first token; `last` the last token; `layer_mean_cls` (STAR, arXiv
            2507.09797, section 3) the mean over layers 1..L of the first token, of the last one for a decoder, whose
            first token has seen nothing.
        decoder: whether the model reads left to right.

    Raises:
        TextError: T006 for a row without tokens, or a vector that is not finite.
    """
    import torch

    if not bool(mask.any(dim=1).all()):
        raise TextError("T006", "a text without any token reached the encoder")
    if how == "mean":
        weights = mask.unsqueeze(-1).to(torch.float32)
        vectors = (last.to(torch.float32) * weights).sum(1) / weights.sum(1)
    elif how == "layer_mean_cls":
        if layers is None:
            raise ValueError("layer_mean_cls needs the hidden states of every layer")
        token = _last_token(mask) if decoder else _first_token(mask)
        vectors = torch.stack([_take(layer, token).to(torch.float32) for layer in layers[1:]]).mean(0)
    else:
        vectors = _take(last, _first_token(mask) if how == "cls" else _last_token(mask)).to(torch.float32)
    return _unit(vectors)


def pool_packed(
    last: torch.Tensor, layers: Sequence[torch.Tensor], lengths: Sequence[int], how: Pooling
) -> torch.Tensor:
    """As `pool`, of an encoder's texts laid end to end: states `[t, d]`, and how many tokens each text has."""
    import torch

    sizes = torch.tensor(lengths, device=last.device)
    ends = sizes.cumsum(0)
    if how == "mean":
        vectors = torch.segment_reduce(last.to(torch.float32), "mean", lengths=sizes)
    elif how == "layer_mean_cls":
        vectors = torch.stack([layer[ends - sizes].to(torch.float32) for layer in layers[1:]]).mean(0)
    else:
        vectors = last[ends - (sizes if how == "cls" else 1)].to(torch.float32)
    return _unit(vectors)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    import torch

    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    if not bool(torch.isfinite(vectors).all()):
        raise TextError("T006", "the encoder returned a vector that is not finite", hint="check the model's weights")
    return vectors


def _first_token(mask: torch.Tensor) -> torch.Tensor:
    return mask.to(dtype=mask.new_zeros(()).long().dtype).argmax(dim=1)


def _last_token(mask: torch.Tensor) -> torch.Tensor:
    return mask.shape[1] - 1 - _first_token(mask.flip(1))


def _take(states: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    return states.gather(1, token.view(-1, 1, 1).expand(-1, 1, states.shape[-1])).squeeze(1)
