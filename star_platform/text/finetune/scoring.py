"""Scores of examples: their texts encoded without a gradient, then the head, or dot products where none is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from star_platform.progress import SILENT, Progress
from star_platform.text.finetune.batches import Batch, Chunk, batch_of, row_vectors
from star_platform.text.finetune.heads import Head, Vectors
from star_platform.text.finetune.samples import Samples
from star_platform.text.finetune.tokens import TokenTable

_ROWS = 4096
_TEXTS = 32


@dataclass(frozen=True)
class Encoded:
    """Examples with the vectors of their distinct texts."""

    batch: Batch
    texts: Tensor
    """`[texts, d]`, of all chunks in order."""

    def __len__(self) -> int:
        return len(self.batch.facts.labels)

    def part(self, rows: npt.NDArray[np.int64]) -> tuple[Vectors, Tensor]:
        """Vectors and labels of some rows."""
        at = {tower: places[rows] for tower, places in self.batch.at.items()}
        return row_vectors(at, self.texts), self.batch.facts.labels[torch.from_numpy(rows).to(self.texts.device)]


def encode_samples(
    encode: Callable[[Chunk], Tensor],
    samples: Samples,
    tokens: Mapping[str, TokenTable],
    device: torch.device,
    progress: Progress = SILENT,
) -> Encoded:
    """Vectors of every distinct text of `samples`; `encode` must be without dropout."""
    batch = batch_of(samples, np.arange(len(samples)), tokens, _TEXTS, device)
    total = sum(len(chunk.rows) for chunk in batch.chunks)
    pieces: list[Tensor] = []
    with torch.no_grad(), progress.task("encode", total, "texts") as task:
        for chunk in batch.chunks:
            pieces.append(encode(chunk))
            task.advance(len(chunk.rows))
    return Encoded(batch, torch.cat(pieces))


def scores(encoded: Encoded, head: Head | None) -> npt.NDArray[np.float64]:
    """float64 `[n]`: logits of the head, or the mean dot product of the document with the parts of the request."""
    found: list[Tensor] = []
    with torch.no_grad():
        for first in range(0, len(encoded), _ROWS):
            vectors, _ = encoded.part(np.arange(first, min(first + _ROWS, len(encoded))))
            found.append(_dots(vectors) if head is None else head(vectors))
    return torch.cat(found).double().cpu().numpy() if found else np.zeros(0)


def _dots(vectors: Vectors) -> Tensor:
    total = vectors.documents.new_zeros(len(vectors.documents))
    count = total.clone()
    for request, present in ((vectors.profile, vectors.has_profile), (vectors.resume, vectors.has_resume)):
        if request is not None:
            total = total + torch.where(present, (vectors.documents * request).sum(1), 0.0)
            count = count + present
    return total / count.clamp(min=1)
