"""One step of training: a batch's loss and its gradient, by whichever way it gets through memory."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from star_platform.text.finetune.actions import Int64Array
from star_platform.text.finetune.batches import Batch, batch_of
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Data
from star_platform.text.finetune.distributed import Group
from star_platform.text.finetune.gradcache import accumulated, cached
from star_platform.text.finetune.heads import Head
from star_platform.text.finetune.lora import TunedEncoder
from star_platform.text.finetune.losses import Loss, objective


@dataclass
class Told:
    """Sums of what the losses of some steps say about themselves."""

    bce: float = 0.0
    contrastive: float = 0.0
    mined: int = 0
    contrasted: int = 0
    rows: int = 0

    def add(self, loss: Loss, rows: int) -> None:
        self.bce += loss.bce * rows
        self.contrastive += loss.contrastive * rows
        self.mined += loss.mined
        self.contrasted += loss.contrasted
        self.rows += rows

    def plus(self, other: Told) -> Told:
        return Told(*(mine + others for mine, others in zip(astuple(self), astuple(other), strict=True)))

    def summed(self, group: Group) -> Told:
        """Over all processes."""
        values = torch.tensor(astuple(self), dtype=torch.float64)
        group.sum_([values])
        bce, contrastive, *counts = values.tolist()
        return Told(bce, contrastive, *map(int, counts))

    def means(self) -> dict[str, float]:
        return {
            "bce": self.bce / max(1, self.rows),
            "contrastive": self.contrastive / max(1, self.rows),
            "with_negative": self.mined / max(1, self.contrasted),
        }


class Stepper:
    """Computes gradients of steps; what it was told by their losses is in `told`."""

    def __init__(self, encoder: TunedEncoder, head: Head, data: Data, config: FineTuneConfig, group: Group) -> None:
        self._encoder, self._head, self._data, self._config, self._group = encoder, head, data, config, group
        self._of_encoder = list(encoder.parameters().values())
        self.told = Told()

    def gradients(self, which: Int64Array, step: int) -> None:
        """Leave the gradient of the examples `which` of the training data in `.grad` of encoder and head."""
        key, mode = (self._config.seed, step), self._config.batch.mode
        if mode == "cached":
            batch = self._batch(which)
            cached(
                self._encoder,
                batch.chunks,
                lambda vectors: self._loss(batch, vectors),
                self._of_encoder,
                key=key,
                group=self._group,
            )
            return
        size = self._config.batch.micro if mode == "accumulate" else len(which)
        parts = [which[first : first + size] for first in range(0, len(which), size)]
        shares = [len(part) / len(which) for part in parts]
        every = [*self._of_encoder, *self._head.parameters()]
        before, self.told = self.told, Told()
        accumulated(self._whole, parts, shares, every, key=key, group=self._group)
        self.told = before.plus(self.told.summed(self._group))  # each process saw the losses of its own parts

    def _batch(self, which: Int64Array) -> Batch:
        return batch_of(self._data.training, which, self._data.tokens, self._config.batch.micro, self._encoder.device)

    def _whole(self, which: Int64Array) -> Tensor:
        """Encoder and loss of some examples, with one graph."""
        batch = self._batch(which)
        return self._loss(batch, torch.cat([self._encoder(chunk) for chunk in batch.chunks]))

    def _loss(self, batch: Batch, vectors: Tensor) -> Tensor:
        loss = objective(batch.vectors(vectors), batch.facts, self._head, self._config.loss)
        self.told.add(replace(loss, total=loss.total.detach()), len(batch.facts.labels))
        return loss.total


def schedule(step: int, total: int, warm_up: int) -> float:
    """Share of the learning rate in step `step` of `total`: linear up, then linear down to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (total - step) / max(1, total - warm_up))


def steps_per_epoch(data: Data, config: FineTuneConfig) -> int:
    """The last batch of an epoch may be ragged; a rest of a single example joins no other and is left out."""
    rows, size = len(data.training), config.batch.size
    return rows // size + (rows % size > 1)


def rows_of_step(order: Int64Array, step: int, size: int) -> Int64Array:
    """The examples of step `step` of an epoch."""
    return np.asarray(order[step * size : (step + 1) * size])
