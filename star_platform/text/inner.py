"""The encoder inside a GNN, as STAR's table 9 compares it (arXiv 2507.09797): run on the texts of every training step.

Frozen it gives the vectors that the `text` stage gives, and only costs more. Trained along, its low-rank adapter gets
the gradient of the GNN's loss. Texts go through it in chunks whose activations are recomputed when their gradient comes
(Chen et al. 2016, arXiv 1604.06174), so that neither the batch nor the neighbours have to shrink to what memory holds:
a chunk's activations are all that there is of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from star_platform.text.adapters import MANIFEST
from star_platform.text.batching import plan
from star_platform.text.config import CoTrainConfig, TextConfig
from star_platform.text.encoder import TextEncoder
from star_platform.text.huggingface import HuggingFaceEncoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from star_platform.text.finetune.lora import TunedEncoder

TokenRows = npt.NDArray[np.int32]
"""`[n, longest]` token ids, -1 after the last one of each row."""


@dataclass(frozen=True)
class InnerText:
    """Which encoder runs inside the GNN, and how; light, and opened by each training anew."""

    encoder: HuggingFaceEncoder
    mode: Literal["frozen", "co-train"]
    cotrain: CoTrainConfig
    token_budget: int
    """Tokens, padding included, of a chunk that learns."""

    @property
    def learns(self) -> bool:
        return self.mode == "co-train"

    def open(self, device: torch.device, seed: int) -> FrozenTexts | LearningTexts:
        """The encoder of one training; `seed` starts a new adapter."""
        return LearningTexts(self, device, seed) if self.learns else FrozenTexts(self.encoder, device)


def inner_text(config: TextConfig, encoder: TextEncoder) -> InnerText | None:
    """What star.yaml says of `text.mode`; None where texts are encoded before the GNN trains."""
    if config.mode == "embedding":
        return None
    assert isinstance(encoder, HuggingFaceEncoder)  # noqa: S101 - TextConfig refuses others
    return InnerText(encoder, config.mode, config.cotrain, config.token_budget)


class FrozenTexts:
    """Vectors without gradient, by the same inference as that of the `text` stage."""

    def __init__(self, encoder: HuggingFaceEncoder, device: torch.device) -> None:
        self._encoder, self._device = encoder, device

    def parameters(self) -> dict[str, nn.Parameter]:
        return {}

    def __call__(self, tokens: TokenRows) -> Tensor:
        """float32 `[n, dim]` on the device, unit norm."""
        import torch

        return torch.from_numpy(vectors_of(self._encoder, tokens)).to(self._device)


class LearningTexts:
    """Vectors whose gradient reaches the adapter."""

    def __init__(self, inner: InnerText, device: torch.device, seed: int) -> None:
        """Goes on from the adapter that star.yaml names, or from one that changes nothing yet."""
        from star_platform.text.finetune.lora import TunedEncoder

        transformer, start = inner.encoder.plain(device.type)
        self._tuned: TunedEncoder = TunedEncoder(transformer, inner.cotrain.lora, seed=seed, start=start)
        self._budget = inner.token_budget

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those of the adapter, by name."""
        return self._tuned.parameters()

    def __call__(self, tokens: TokenRows) -> Tensor:
        """float32 `[n, dim]`, unit norm; with the adapter's dropout where a gradient is wanted."""
        import torch
        from torch.utils.checkpoint import checkpoint

        learns = torch.is_grad_enabled()
        self._tuned.train(learns)
        lengths = (tokens >= 0).sum(1)
        encode, found, order = self._tuned.encode, [], []
        for chunk in plan(lengths, self._budget, int(lengths.max())):
            rows = _rows(tokens[chunk.positions])
            found.append(checkpoint(encode, rows, use_reentrant=False) if learns else encode(rows))
            order.append(chunk.positions)
        places = np.argsort(np.concatenate(order))
        return torch.cat(found).index_select(0, torch.from_numpy(places).to(found[0].device))

    def save(self, folder: Path) -> None:
        """The adapter as `star-platform text finetune` leaves one, so that `text.adapter` may name it."""
        transformer = self._tuned.transformer
        self._tuned.save(folder)
        base = {
            "encoder": transformer.folder.name,
            "weights_sha256": transformer.folder.weights,
            "pooling": transformer.pooling,
        }
        content = {"schema_version": 1, "kind": "text-adapter", "base": base}
        (folder / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def vectors_of(encoder: HuggingFaceEncoder, tokens: TokenRows) -> npt.NDArray[np.float32]:
    """float32 `[n, dim]`, unit norm, each distinct text encoded once."""
    distinct, inverse = np.unique(tokens, axis=0, return_inverse=True)
    vectors = np.empty((len(distinct), encoder.dim), np.float32)
    for batch in encoder.encoded(_rows(distinct)):
        vectors[batch.positions] = batch.vectors
    return vectors[inverse.reshape(-1)]


def _rows(tokens: TokenRows) -> list[npt.NDArray[np.int32]]:
    return [row[row >= 0] for row in tokens]
