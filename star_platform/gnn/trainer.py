"""Train one encoder on all objectives of a graph, and stop when validation no longer improves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from star_platform.errors import TrainingError
from star_platform.gnn import checkpoint, runtime
from star_platform.gnn.batches import Batch, BatchMaker, Schedule
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.model_io import Model, ModelSpec, new_model, save_model
from star_platform.gnn.objectives import auc, drawn_loss, labelled_loss
from star_platform.gnn.split import TimeSplit, join, split
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
) -> dict[str, Any]:
    """Train, and write `model.safetensors`, `config.json` and `history.json` into `out_dir`.

    A checkpoint is kept in `work_dir`; a run that finds one there goes on from it and ends with the same bytes as one
    that was never interrupted. Equal inputs and an equal configuration give equal bytes on the same machine type.

    Returns:
        Facts for the manifest: examples per objective and part, boundaries, best validation, steps.

    Raises:
        TrainingError: M001-M004 for objectives that cannot be trained, M005 when the loss is not finite, M006 when an
            objective has no validation examples, M007 for a checkpoint of another run.
    """
    runtime.keep_freed_memory()
    with runtime.torch_threads(config.threads):
        return Trainer(graph, objectives, config).run(work_dir, out_dir, progress)


class Trainer:
    """One run: data, model and optimiser."""

    def __init__(self, graph: Graph, objectives: Mapping[str, LinkPrediction], config: TrainingConfig) -> None:
        self.config = config
        self.splits = split(graph, objectives, config)
        self.weights = {name: objectives[name].weight for name in self.splits}
        active = {name: part for name, part in self.splits.items() if self.weights[name] > 0}
        if not active:
            raise TrainingError("M001", "every objective has weight 0", hint="give one of them a positive weight")
        for name, part in active.items():
            _check(name, part)
        reader = TreeReader(graph, config)
        self.model = new_model(_model_spec(graph, reader, self.splits), config)
        self.training = Schedule(
            {
                name: BatchMaker(graph, reader, objectives[name], part.edge, part.train, part.train, config)
                for name, part in active.items()
            },
            config.seed,
        )
        self.validating = Schedule(
            {
                name: BatchMaker(
                    graph,
                    reader,
                    objectives[name],
                    part.edge,
                    part.validation,
                    join(part.train, part.validation),
                    config,
                )
                for name, part in active.items()
            },
            config.seed,
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.key = digest({"graph": graph.content_hash, "config": config, "objectives": dict(objectives)})

    def run(self, work_dir: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        """Train to the end, from the checkpoint in `work_dir` if there is one."""
        work_dir.mkdir(parents=True, exist_ok=True)
        restored = checkpoint.restore(work_dir, self.key, self.model, self.optimizer)
        state, best = restored or (checkpoint.RunState(self.key), {})
        examples = sum(len(part.train) for name, part in self.splits.items() if self.weights[name] > 0)
        with progress.task("train", total=examples * self.config.max_epochs, unit="examples") as task:
            task.advance(examples * state.epoch)
            while not state.done:
                best = self._epoch(state, best, work_dir, task)
        save_model(out_dir, self.model, best)
        history = json.dumps({"validations": state.history}, indent=1, sort_keys=True) + "\n"
        (out_dir / HISTORY).write_text(history, encoding="utf-8")
        return self._details(state)

    def _epoch(
        self, state: checkpoint.RunState, best: dict[str, Tensor], work_dir: Path, task: Task
    ) -> dict[str, Tensor]:
        """The rest of the epoch that `state` is in, with its validations; returns the best weights so far."""
        steps = self.training.epoch(state.epoch)
        every = max(1, math.ceil(len(steps) * self.config.validate_every))
        losses: dict[str, list[float]] = {}
        seen, began = 0, time.perf_counter()
        for batch in runtime.ahead(self.training.make, steps[state.step :]):
            losses.setdefault(batch.objective, []).append(self._step(batch))
            state.step += 1
            seen += batch.size
            task.advance(batch.size)
            if state.step % every == 0 or state.step == len(steps):
                task.note(examples_per_s=seen / (time.perf_counter() - began))
                best = self._validated(state, best, losses, at=state.epoch + state.step / len(steps), task=task)
                if state.step == len(steps):
                    state.epoch, state.step = state.epoch + 1, 0
                state.done = state.epoch >= self.config.max_epochs or state.since_best >= self.config.patience
                checkpoint.save(work_dir, state, self.model, best, self.optimizer)
                losses, seen, began = {}, 0, time.perf_counter()
                if state.done or state.step == 0:
                    break
        return best

    def _step(self, batch: Batch) -> float:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                "M005",
                f"the loss of objective {batch.objective!r} is not finite",
                hint="lower `lr`, and look for extreme values among the features",
            )
        (loss * self.weights[batch.objective]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        return value

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
        if mean > state.best:
            state.best, state.since_best = mean, 0
            return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        state.since_best += 1
        return best

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
        chosen = max(state.history, key=lambda entry: entry["auc"])
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
            "false_negatives": "known positives of training are never drawn as negatives; unknown ones may be",
        }


def score_pairs(model: Model, batch: Batch) -> Tensor:
    """Logits `[n]` of the batch's pairs."""
    vectors = model.encoder(batch.trees)
    seeds, n = functional.embedding(batch.trees.seeds, vectors), batch.size
    return model.decoder(batch.objective).pairs(seeds[:n], seeds[n:])


def score_drawn(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the positives `[n]` and of the negatives `[n, m]`, and which of these count."""
    assert batch.allowed is not None  # noqa: S101 - set wherever negatives are drawn
    vectors = functional.embedding(batch.trees.seeds, model.encoder(batch.trees))
    n = batch.size
    src, dst = vectors[:n], vectors[n : 2 * n]
    decoder = model.decoder(batch.objective)
    return decoder.pairs(src, dst), decoder.all_pairs(src, dst if batch.in_batch else vectors[2 * n :]), batch.allowed


def _check(name: str, part: TimeSplit) -> None:
    if not len(part.train):
        raise TrainingError("M001", f"objective {name!r} has no training example before the validation starts")
    if not len(part.validation):
        raise TrainingError(
            "M006",
            f"objective {name!r} has no example between {part.validation_start} and {part.test_start} to validate on",
            hint="raise validation_share, or leave the objective out",
        )
    if float(part.train.labels.max()) <= 0:
        raise TrainingError("M003", f"objective {name!r} has only negative training examples")


def _model_spec(graph: Graph, reader: TreeReader, splits: Mapping[str, TimeSplit]) -> ModelSpec:
    return ModelSpec(
        graph=graph.content_hash,
        inputs=reader.inputs.specs,
        relations=reader.adjacency.relation_names,
        weighted=reader.weighted,
        objectives={name: part.edge for name, part in splits.items()},
    )
