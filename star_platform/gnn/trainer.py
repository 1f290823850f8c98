"""Train one encoder on all objectives of a graph, and stop when validation no longer improves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn import checkpoint, runtime
from star_platform.gnn.aligner import AlignBatch, Aligner
from star_platform.gnn.alignment import LOSS, NAME, Alignment, save_alignment, settled
from star_platform.gnn.batches import Batch, BatchMaker, Schedule, StepKey
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.model_io import ModelSpec, new_model, save_model
from star_platform.gnn.objectives import auc, drawn_loss, labelled_loss, score_drawn, score_pairs
from star_platform.gnn.split import TimeSplit, check_trainable, join, split
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import Graph
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress, Task
from star_platform.signals.model import LinkPrediction

MAX_NEGATIVES_SCORED = 64
"""Negatives per step whose scores enter the validation AUC."""
HISTORY = "history.json"


def train(
    graph: Graph,
    objectives: Mapping[str, LinkPrediction],
    config: TrainingConfig,
    work_dir: Path,
    out_dir: Path,
    progress: Progress = SILENT,
    alignment: Alignment | None = None,
) -> dict[str, Any]:
    """Train, and write `model.safetensors`, `config.json` and `history.json` into `out_dir`.

    With an `alignment` the model stays a linear map away from an old release, and `alignment.safetensors` holds the
    map. A checkpoint is kept in `work_dir`; a run that finds one there goes on from it and ends with the same bytes as
    one that was never interrupted. Equal inputs and an equal configuration give equal bytes on the same machine type.

    Returns:
        Facts for the manifest: examples per objective and part, boundaries, best validation, steps.

    Raises:
        TrainingError: M001-M004 for objectives that cannot be trained, M005 when the loss is not finite, M006 when an
            objective has no validation examples, M007 for a checkpoint of another run, M011 for an unusable alignment.
    """
    runtime.keep_freed_memory()
    with runtime.torch_threads(config.threads):
        return Trainer(graph, objectives, config, alignment).run(work_dir, out_dir, progress)


class Trainer:
    """One run: data, model and optimiser."""

    def __init__(
        self,
        graph: Graph,
        objectives: Mapping[str, LinkPrediction],
        config: TrainingConfig,
        alignment: Alignment | None = None,
    ) -> None:
        self.config = config
        self.splits = split(graph, objectives, config)
        self.weights = {name: objectives[name].weight for name in self.splits}
        active = {name: part for name, part in self.splits.items() if self.weights[name] > 0}
        if not active:
            raise TrainingError("M001", "every objective has weight 0", hint="give one of them a positive weight")
        for name, part in active.items():
            check_trainable(name, part)
        self.reader = reader = TreeReader(graph, config)
        self.model = new_model(_model_spec(graph, reader, self.splits), config)
        start = next(iter(self.splits.values())).validation_start
        self.aligner = Aligner.of(alignment, graph, reader, start, config)

        def schedule(validate: bool) -> Schedule:
            makers = {}
            for name, part in active.items():
                examples, known = part.train, part.train
                if validate:
                    examples, known = part.validation, join(part.train, part.validation)
                makers[name] = BatchMaker(graph, reader, objectives[name], part.edge, examples, known, config)
            return Schedule(makers, config.seed)

        self.training, self.validating = schedule(validate=False), schedule(validate=True)
        self.learned = nn.ModuleDict({"model": self.model})  # all that the optimiser moves and a checkpoint holds
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        key: dict[str, Any] = {"graph": graph.content_hash, "config": config, "objectives": dict(objectives)}
        if self.aligner is not None:
            self.learned[NAME] = self.aligner
            groups.append({"params": list(self.aligner.parameters()), "weight_decay": 0.0})
            key[NAME] = self.aligner.alignment.fingerprint
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        self.key = digest(key)

    def run(self, work_dir: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        """Train to the end, from the checkpoint in `work_dir` if there is one."""
        work_dir.mkdir(parents=True, exist_ok=True)
        restored = checkpoint.restore(work_dir, self.key, self.learned, self.optimizer)
        state, best = restored or (checkpoint.RunState(self.key), {})
        examples = sum(len(part.train) for name, part in self.splits.items() if self.weights[name] > 0)
        with progress.task("train", total=examples * self.config.max_epochs, unit="examples") as task:
            task.advance(examples * state.epoch)
            while not state.done:
                best = self._epoch(state, best, work_dir, task)
        save_model(out_dir, self.model, _part(best, "model."))
        if self.aligner is not None:
            save_alignment(out_dir, self.aligner.names, _part(best, f"{NAME}."))
        history = json.dumps({"validations": state.history}, indent=1, sort_keys=True) + "\n"
        (out_dir / HISTORY).write_text(history, encoding="utf-8")
        return self._details(state)

    def _epoch(
        self, state: checkpoint.RunState, best: dict[str, Tensor], work_dir: Path, task: Task
    ) -> dict[str, Tensor]:
        """The rest of the epoch that `state` is in, with its validations; returns the best weights so far."""
        steps = self.training.epoch(state.epoch)
        every = max(1, math.ceil(len(steps) * self.config.validate_every))
        while not state.done and state.step < len(steps):
            until = min(len(steps), (state.step // every + 1) * every)
            losses = self._stretch(steps[state.step : until], task)
            state.step = until
            best = self._validated(state, best, losses, at=state.epoch + state.step / len(steps), task=task)
            if state.step == len(steps):
                state.epoch, state.step = state.epoch + 1, 0
            state.done = state.epoch >= self.config.max_epochs or state.since_best >= self.config.patience
            checkpoint.save(work_dir, state, self.learned, best, self.optimizer)
            if state.step == 0:
                break
        return best

    def _stretch(self, steps: Sequence[StepKey], task: Task) -> dict[str, list[float]]:
        """The steps from one validation to the next; the losses by name."""
        losses: dict[str, list[float]] = {}
        size = self.config.gradient_batches
        for number, (batch, aligned) in enumerate(runtime.ahead(self._made, steps)):
            first = number - number % size
            share = 1.0 / (min(first + size, len(steps)) - first)
            found = self._step(batch, aligned, share=share, first=number == first, last=number + 1 == first + size)
            if number + 1 == len(steps) and (number + 1) % size:
                self._move()
            for name, value in found.items():
                losses.setdefault(name, []).append(value)
            task.advance(batch.size)
        return losses

    def _made(self, key: StepKey) -> tuple[Batch, AlignBatch | None]:
        return self.training.make(key), None if self.aligner is None else self.aligner.make(key.step)

    def _step(
        self,
        batch: Batch,
        aligned: AlignBatch | None = None,
        *,
        share: float = 1.0,
        first: bool = True,
        last: bool = True,
    ) -> dict[str, float]:
        """The gradients of one batch, and at the `last` of its group a step of the optimiser.

        `share`: of the batch in the mean of its group. Returns the losses by name, before their weights.
        """
        self.model.train()
        if first:
            self.optimizer.zero_grad(set_to_none=True)
        losses, weights = {batch.objective: self.loss(batch)}, {batch.objective: self.weights[batch.objective]}
        if self.aligner is not None and aligned is not None:
            losses[LOSS] = self.aligner.loss(self.model.encoder, aligned)
            weights[LOSS] = self.aligner.alignment.weight
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    "M005",
                    f"the loss of {name!r} is not finite",
                    hint="lower `lr`, and look for extreme values among the features",
                )
        total = torch.stack([loss * weights[name] for name, loss in losses.items()]).sum() * share
        total.backward()  # type: ignore[no-untyped-call]
        if last:
            self._move()
        return values

    def _move(self) -> None:
        nn.utils.clip_grad_norm_(self.learned.parameters(), 5.0)
        self.optimizer.step()

    def loss(self, batch: Batch) -> Tensor:
        """The loss of one batch, before the objective's weight."""
        if batch.labels is not None:
            return labelled_loss(score_pairs(self.model, batch), batch.labels)
        positive, negative, allowed = score_drawn(self.model, batch)
        return drawn_loss(positive, negative, allowed, batch.log_q, self.config.loss)

    def _validated(
        self,
        state: checkpoint.RunState,
        best: dict[str, Tensor],
        losses: Mapping[str, list[float]],
        at: float,
        task: Task,
    ) -> dict[str, Tensor]:
        aucs = self.validate()
        total = sum(self.weights[name] for name in aucs)
        mean = sum(self.weights[name] * value for name, value in aucs.items()) / total
        means = {name: float(np.mean(values)) for name, values in sorted(losses.items())}
        state.history.append({"epoch": round(at, 6), "auc": mean, "auc_by_objective": aucs, "train_loss": means})
        task.note(loss=float(np.mean(list(means.values()))), val_auc=mean)
        if not self._eligible(at):
            return best
        if mean > state.best:
            state.best, state.since_best = mean, 0
            return {name: tensor.detach().clone() for name, tensor in self.learned.state_dict().items()}
        state.since_best += 1
        return best

    def _eligible(self, at: float) -> bool:
        return self.aligner is None or settled(at, self.config.max_epochs)

    def validate(self) -> dict[str, float]:
        """AUC of each objective on its validation examples, point in time, with negatives drawn the same way."""
        self.model.eval()
        positives: dict[str, list[Tensor]] = {}
        negatives: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for batch in runtime.ahead(
                self.validating.make, self.validating.validation(self.config.validation_examples)
            ):
                if batch.labels is not None:
                    scores = score_pairs(self.model, batch)
                    positive, negative = scores[batch.labels > 0], scores[batch.labels <= 0]
                else:
                    positive, all_, allowed = score_drawn(self.model, batch)
                    stride = max(1, all_.shape[1] // MAX_NEGATIVES_SCORED)
                    negative = all_[:, ::stride][allowed[:, ::stride]]
                positives.setdefault(batch.objective, []).append(positive)
                negatives.setdefault(batch.objective, []).append(negative)
        return {
            name: auc(torch.cat(positives[name]).numpy(), torch.cat(negatives[name]).numpy())
            for name in sorted(positives)
        }

    def _details(self, state: checkpoint.RunState) -> dict[str, Any]:
        chosen = max(
            (entry for entry in state.history if self._eligible(entry["epoch"])), key=lambda entry: entry["auc"]
        )
        first = next(iter(self.splits.values()))
        return {
            "objectives": {
                name: {
                    "edge": list(part.edge),
                    "weight": self.weights[name],
                    "train": len(part.train),
                    "validation": len(part.validation),
                    "test": len(part.test),
                }
                for name, part in self.splits.items()
            },
            "validation_start": first.validation_start,
            "test_start": first.test_start,
            "best_epoch": chosen["epoch"],
            "validation_auc": chosen["auc"],
            "validation_auc_by_objective": chosen["auc_by_objective"],
            "validations": len(state.history),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            **({} if self.aligner is None else {NAME: self.aligner.details()}),
            "false_negatives": "known positives of training are never drawn as negatives; unknown ones may be",
        }


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _model_spec(graph: Graph, reader: TreeReader, splits: Mapping[str, TimeSplit]) -> ModelSpec:
    return ModelSpec(
        graph=graph.content_hash,
        inputs=reader.inputs.specs,
        relations=reader.relations,
        weighted=reader.weighted,
        objectives={name: part.edge for name, part in splits.items()},
    )
