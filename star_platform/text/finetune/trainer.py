"""The loop: steps, validations, checkpoints. A killed and resumed run ends with the bytes of one that was not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from star_platform.progress import SILENT, Progress, Task
from star_platform.text.finetune.baseline import new_head
from star_platform.text.finetune.batches import epoch_order
from star_platform.text.finetune.checkpoint import Keeper, State
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Data
from star_platform.text.finetune.distributed import ALONE, Group
from star_platform.text.finetune.heads import Head
from star_platform.text.finetune.lora import TunedEncoder
from star_platform.text.finetune.metrics import auc, auc_by_length
from star_platform.text.finetune.scoring import encode_samples, scores
from star_platform.text.finetune.steps import Stepper, Told, rows_of_step, schedule, steps_per_epoch

_SAVE_SECONDS = 60.0
"""A killed run loses at most about this much work."""


@dataclass(frozen=True)
class Trained:
    """The best encoder and head of a run, in place, and what was seen on the way."""

    encoder: TunedEncoder
    head: Head
    scores: npt.NDArray[np.float64]
    """Of the validation examples."""
    report: dict[str, Any]


class Trainer:
    """Trains an encoder's adapter and a head on `data`; its scratch is in `folder`."""

    def __init__(
        self,
        encoder: TunedEncoder,
        data: Data,
        config: FineTuneConfig,
        folder: Path,
        *,
        group: Group = ALONE,
        progress: Progress = SILENT,
    ) -> None:
        self._encoder, self._data, self._config = encoder, data, config
        self._group, self._progress = group, progress
        self._head = new_head(encoder, config)
        adapter = encoder.parameters()
        heads = {f"head:{name}": value for name, value in self._head.named_parameters()}
        self._rates = (config.lr, config.head.lr)
        self._optimiser = torch.optim.AdamW(
            [{"params": list(adapter.values())}, {"params": list(heads.values())}],
            lr=config.lr,
            weight_decay=config.weight_decay,
        )
        self._keeper = Keeper(folder, {**adapter, **heads}, self._optimiser)
        self._per_epoch = steps_per_epoch(data, config)
        self._total = self._per_epoch * config.epochs
        self._warm_up = config.warm_up_steps(self._total)
        self._every = max(1, self._per_epoch // config.validations)

    def run(self, key: str) -> Trained:
        """Train, or go on where a run of the same key stopped.

        Raises:
            TextError: T025 when the checkpoint in the folder is damaged or of another run.
        """
        state = self._keeper.restore(key)
        stepper = Stepper(self._encoder, self._head, self._data, self._config, self._group)
        stepper.told = Told(**state.told)
        rows = len(self._data.training) * self._config.epochs
        with self._progress.task("finetune", rows, "examples") as task:
            task.advance(min(rows, state.steps * self._config.batch.size))
            self._steps(state, stepper, task)
        self._keeper.take_best()
        found = self._scores()
        return Trained(self._encoder, self._head, found, self._report(state))

    def _steps(self, state: State, stepper: Stepper, task: Task) -> None:
        size, seed = self._config.batch.size, self._config.seed
        began = saved = time.monotonic()
        done, order, of_epoch = 0, np.zeros(0, np.int64), -1
        while state.steps < self._total:
            epoch, within = divmod(state.steps, self._per_epoch)
            if epoch != of_epoch:
                order, of_epoch = epoch_order(len(self._data.training), seed, epoch), epoch
            which = rows_of_step(order, within, size)
            self._step(stepper, which, state.steps)
            state.steps += 1
            done += len(which)
            task.advance(len(which))
            task.note(examples_per_s=round(done / (time.monotonic() - began), 1))
            if (within + 1) % self._every == 0 or state.steps == self._total:
                self._validate(state, stepper, task)
            elif time.monotonic() - saved < _SAVE_SECONDS:
                continue
            if self._group.rank == 0:
                state.told = vars(stepper.told).copy()
                self._keeper.save(state)
            saved = time.monotonic()

    def _step(self, stepper: Stepper, which: npt.NDArray[np.int64], step: int) -> None:
        share = schedule(step, self._total, self._warm_up)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimiser.zero_grad()
        self._encoder.train()
        stepper.gradients(which, step)
        self._optimiser.step()

    def _validate(self, state: State, stepper: Stepper, task: Task) -> None:
        labels = self._data.validation.labels
        found = auc(labels, self._scores()) if len(labels) else None
        told, stepper.told = stepper.told.means(), Told()
        state.history.append({"step": state.steps, "epoch": state.steps / self._per_epoch, "auc": found, **told})
        task.note(auc="none" if found is None else round(found, 4), **{k: round(v, 4) for k, v in told.items()})
        if found is None or found > state.best:
            state.best, state.best_step = state.best if found is None else found, state.steps
            self._keeper.keep_best()

    def _scores(self) -> npt.NDArray[np.float64]:
        self._encoder.train(False)
        if not len(self._data.validation):
            return np.zeros(0)
        encoded = encode_samples(self._encoder, self._data.validation, self._data.tokens, self._encoder.device)
        return scores(encoded, self._head if self._config.loss.weights.bce else None)

    def _report(self, state: State) -> dict[str, Any]:
        return {
            "steps": state.steps,
            "steps_per_epoch": self._per_epoch,
            "warm_up": self._warm_up,
            "best_step": state.best_step,
            "validations": state.history,
        }


def lengths_report(data: Data, found: npt.NDArray[np.float64]) -> dict[str, Any]:
    """AUC of the validation examples by the length of their document."""
    table = data.tokens["document"]
    lengths = table.lengths[table.slots(data.validation.rows["document"])]
    return auc_by_length(data.validation.labels, found, lengths)
