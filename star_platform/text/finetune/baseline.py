"""What fine-tuning is compared with: the frozen encoder and the same head on top, trained alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from star_platform.progress import SILENT, Progress
from star_platform.text.finetune.batches import epoch_order
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Data
from star_platform.text.finetune.heads import Head
from star_platform.text.finetune.lora import TunedEncoder
from star_platform.text.finetune.metrics import auc
from star_platform.text.finetune.scoring import Encoded, encode_samples, scores

ROWS = 100_000
"""The head of the frozen encoder learns from at most so many examples: it has few weights."""
EPOCHS = 20
BATCH = 256


@dataclass(frozen=True)
class Baseline:
    """A head on the frozen encoder, and its logits on the validation examples."""

    head: Head
    auc: float | None
    scores: np.ndarray[tuple[int], np.dtype[np.float64]]


def train_baseline(encoder: TunedEncoder, data: Data, config: FineTuneConfig, progress: Progress = SILENT) -> Baseline:
    """The head that is best on the validation examples, of one per epoch: a choice in the baseline's favour."""
    encoder.train(False)
    training = data.training
    if len(training) > ROWS:
        training = training.take(np.sort(epoch_order(len(training), config.seed, -1 & 0xFFFF)[:ROWS]))
    with encoder.frozen():
        learned = encode_samples(encoder, training, data.tokens, encoder.device, progress)
        held = encode_samples(encoder, data.validation, data.tokens, encoder.device, progress)
    return fit_head(learned, held, new_head(encoder, config), config, data.validation.labels)


def new_head(encoder: TunedEncoder, config: FineTuneConfig) -> Head:
    """A head as it is before training: of the seed alone."""
    return Head(config.head, encoder.dim, frozenset(config.towers), config.seed).to(encoder.device)


def fit_head(
    learned: Encoded,
    held: Encoded,
    head: Head,
    config: FineTuneConfig,
    labels: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> Baseline:
    """Cross-entropy alone, AdamW, learning rate falling to zero."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.head.lr, weight_decay=config.weight_decay)
    steps = EPOCHS * -(-len(learned) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / steps)
    best: tuple[float, dict[str, torch.Tensor]] | None = None
    for epoch in range(EPOCHS):
        order = epoch_order(len(learned), config.seed, epoch)
        for first in range(0, len(order), BATCH):
            vectors, targets = learned.part(order[first : first + BATCH])
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(head(vectors), targets).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        found = auc(labels, scores(held, head))
        if best is None or (found is not None and found > best[0]):
            state = {name: value.clone() for name, value in head.state_dict().items()}
            best = (float("-inf") if found is None else found, state)
    if best is not None:
        head.load_state_dict(best[1])
    logits = scores(held, head)
    return Baseline(head, auc(labels, logits), logits)
