"""Train one encoder on all objectives of a graph, and stop when validation no longer improves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn import checkpoint, runtime
from star_platform.gnn.adaptive import rows
from star_platform.gnn.aligner import AlignBatch, Aligner
from star_platform.gnn.alignment import LOSS, NAME, Alignment, save_alignment
from star_platform.gnn.batches import Batch, StepKey
from star_platform.gnn.classification import label_features
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.course import Course
from star_platform.gnn.inner_texts import InnerTexts, save_texts
from star_platform.gnn.mlp_init import features_only, warm_start
from star_platform.gnn.model_io import WEIGHTS, ModelSpec, new_model, save_model
from star_platform.gnn.objectives import (
    UncertaintyWeights,
    classification_loss,
    drawn_loss,
    labelled_loss,
    score_drawn,
    score_pairs,
)
from star_platform.gnn.optimiser import UNDECAYED, Optimiser, Options
from star_platform.gnn.tasks import Tasks
from star_platform.gnn.trees import TreeReader
from star_platform.gnn.validation import validate
from star_platform.graph.storage import Graph
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress, Task
from star_platform.signals.model import Objective
from star_platform.text.inner import InnerText

HISTORY = "history.json"
TEXTS = "texts"
WEIGHTS_OF_OBJECTIVES = "uncertainty"

AnyBatch = TypeVar("AnyBatch", Batch, AlignBatch)


def train(
    graph: Graph,
    objectives: Mapping[str, Objective],
    config: TrainingConfig,
    work_dir: Path,
    out_dir: Path,
    progress: Progress = SILENT,
    alignment: Alignment | None = None,
    text: InnerText | None = None,
) -> dict[str, Any]:
    """Train, and write `model.safetensors`, `config.json` and `history.json` into `out_dir`.

    With an `alignment` the model stays a linear map away from an old release, and `alignment.safetensors` holds the
    map. With `text` the texts of a step go through their encoder in that step; where it learns, its adapter and the
    vectors of all texts are written into `text/`.

    A checkpoint is kept in `work_dir`; a run that finds one there goes on from it and ends with the same bytes as one
    that was never interrupted. Equal inputs and an equal configuration give equal bytes on the same machine type.

    Returns:
        Facts for the manifest: examples per objective and part, boundaries, best validation, steps.

    Raises:
        TrainingError: M001-M004, M013 for objectives that cannot be trained, M005 when the loss is not finite, M006
            when an objective has no validation examples, M007 for a checkpoint of another run, M011 for an unusable
            alignment, M037 for texts inside an LTGNN.
    """
    if config.encoder == "ltgnn":
        if text is not None:
            raise TrainingError(
                "M037",
                f"`text.mode: {text.mode}` has no place in an LTGNN model",
                hint="set `text.mode: embedding`, or train with `encoder: attention` or `mean`",
            )
        from star_platform.gnn.ltgnn import hetero

        if alignment is not None:
            raise TrainingError("M011", "an LTGNN model cannot be aligned", hint="set `compat.mode` to post-hoc")
        return hetero.train(graph, objectives, config, work_dir, out_dir, progress)
    runtime.keep_freed_memory()
    with runtime.torch_threads(config.threads):
        return Trainer(graph, objectives, config, alignment, text).run(work_dir, out_dir, progress)


class Trainer:
    """One run: data, model and optimiser."""

    def __init__(
        self,
        graph: Graph,
        objectives: Mapping[str, Objective],
        config: TrainingConfig,
        alignment: Alignment | None = None,
        text: InnerText | None = None,
    ) -> None:
        self.graph, self.config = graph, config
        self.device = runtime.device_of(config.device)
        self.tasks = tasks = Tasks.of(graph, objectives, config)
        self.reader = TreeReader(graph, config, labels=label_features(objectives), inner_text=text is not None)
        self.reader.inputs.keep_rounded()
        self.model = new_model(_model_spec(graph, self.reader, tasks), config)
        self.learned = nn.ModuleDict({"model": self.model})  # all that the optimiser moves and a checkpoint holds
        key: dict[str, Any] = {"graph": graph.content_hash, "config": config, "objectives": dict(objectives)}
        self.aligner = Aligner.of(alignment, graph, self.reader, tasks.validation_start, config)
        if self.aligner is not None:
            self.learned[NAME] = self.aligner
            key[NAME] = self.aligner.alignment.fingerprint
        self.uncertainty: UncertaintyWeights | None = None
        if config.objective_weights == "uncertainty":
            self.uncertainty = UncertaintyWeights(tasks.weights)
            self.learned[WEIGHTS_OF_OBJECTIVES] = self.uncertainty
        self.texts: InnerTexts | None = None
        if text is not None:
            self.texts = InnerTexts(graph, self.reader.inputs.specs, text, config, self.device)
            key[TEXTS] = {"mode": text.mode, "encoder": text.encoder.fingerprint, "cotrain": text.cotrain}
            if text.learns:
                self.learned[TEXTS] = self.texts
        self.learned.to(self.device)
        if config.compile and self.device.type == "cuda":
            self.model.encoder.compile_layers()
        self.training = tasks.schedule(graph, self.reader, config, validate=False)
        self.validating = tasks.schedule(graph, self.reader, config, validate=True)
        steps = config.max_epochs * tasks.steps(config.batch_size)
        self.course = Course(config, steps, aligned=self.aligner is not None)
        self.optimiser = Optimiser(self.learned, self._options(), config)
        self.key = digest(key)

    def _options(self) -> dict[nn.Module, Options]:
        """What does not learn as the model does: the adapter of texts slowly, the rest without decay."""
        found = {module: UNDECAYED for name, module in self.learned.items() if name != "model"}
        if self.texts is not None and self.texts.text.learns:
            found[self.texts] = {"lr": self.texts.text.cotrain.lr}
        return found

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, work_dir: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        """Train to the end, from the checkpoint in `work_dir` if there is one."""
        work_dir.mkdir(parents=True, exist_ok=True)
        restored = checkpoint.restore(work_dir, self.key, self.learned, self.optimiser)
        if restored is None and self.config.mlp_init:
            self._warm_up(work_dir / "mlp-init", progress)
        state, best = restored or (checkpoint.RunState(self.key), {})
        examples = self.tasks.examples
        with progress.task("train", total=examples * self.config.max_epochs, unit="examples") as task:
            task.advance(examples * state.epoch)
            while not state.done:
                best = self._epoch(state, best, work_dir, task)
        save_model(out_dir, self.model, _part(best, "model."))
        if self.aligner is not None:
            save_alignment(out_dir, self.aligner.names, _part(best, f"{NAME}."))
        if self.texts is not None and self.texts.text.learns:
            self.texts.load_state_dict(_part(best, f"{TEXTS}."))
            save_texts(out_dir, self.graph, self.texts, progress)
        told: dict[str, Any] = {"validations": state.history}
        if self.course.controller is not None:
            told["fan_out"] = rows(state.history)
        history = json.dumps(told, indent=1, sort_keys=True) + "\n"
        (out_dir / HISTORY).write_text(history, encoding="utf-8")
        return self._details(state)

    def _warm_up(self, work_dir: Path, progress: Progress) -> None:
        """Start from the weights of a model without edges, which is trained first (MLPInit)."""
        out_dir = work_dir / "model"
        out_dir.mkdir(parents=True, exist_ok=True)
        Trainer(self.graph, self.tasks.objectives, features_only(self.config)).run(work_dir, out_dir, progress)
        warm_start(self.model, load_file(out_dir / WEIGHTS))
        torch.manual_seed(self.config.seed)  # as after a run that finds that model done

    def _epoch(
        self, state: checkpoint.RunState, best: dict[str, Tensor], work_dir: Path, task: Task
    ) -> dict[str, Tensor]:
        """The rest of the epoch that `state` is in, with its validations; returns the best weights so far."""
        steps = self.training.epoch(state.epoch)
        every = max(1, math.ceil(len(steps) * self.config.validate_every))
        while not state.done:
            until = min(len(steps), (state.step // every + 1) * every)
            stretch = steps[state.step : until]
            fan_outs = self.course.draw(state, len(stretch))
            if fan_outs is not None:
                self.reader.set_fan_outs(fan_outs)
            losses, timing = self._stretch(stretch, task)
            state.step, state.steps = until, state.steps + len(stretch)
            state.timing.append(timing)
            best = self._validated(state, best, losses, at=state.epoch + until / len(steps), task=task)
            if until == len(steps):
                state.epoch, state.step = state.epoch + 1, 0
            self.course.go_on(state)
            checkpoint.save(work_dir, state, self.learned, best, self.optimiser)
            if state.step == 0:
                break
        return best

    def _stretch(self, steps: Sequence[StepKey], task: Task) -> tuple[dict[str, list[float]], dict[str, Any]]:
        """The steps from one validation to the next: the losses by name, and where the time went."""
        losses: dict[str, list[float]] = {}
        size, clock = self.config.gradient_batches, self.reader.clock
        began, seen = time.perf_counter(), 0
        for number, (batch, aligned) in enumerate(runtime.ahead(self._made, steps)):
            first = number - number % size
            last = min(first + size, len(steps))
            with clock.measured("compute"):
                found = self._step(
                    batch, aligned, share=1 / (last - first), first=number == first, last=number + 1 == last
                )
            for name, value in found.items():
                losses.setdefault(name, []).append(value)
            seen += batch.size
            task.advance(batch.size)
        seconds = time.perf_counter() - began
        rate, parts = seen / seconds, shares(clock.taken(), seconds)
        task.note(examples_per_s=rate, **parts)
        return losses, {"seconds": seconds, "examples_per_s": rate, "shares": parts}

    def _made(self, key: StepKey) -> tuple[Batch, AlignBatch | None]:
        return self.training.make(key), None if self.aligner is None else self.aligner.make(key.step)

    # --- a step -------------------------------------------------------------------------------------------------------

    def _step(
        self,
        made: Batch,
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
            self.optimiser.zero_grad()
        batch = self._ready(made)
        losses = {batch.objective: self.loss(batch)}
        total = self._weighted(losses)
        if self.aligner is not None and aligned is not None:
            losses[LOSS] = self.aligner.loss(self.model.encoder, self._ready(aligned))
            total = total + losses[LOSS] * self.aligner.alignment.weight
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    "M005",
                    f"the loss of {name!r} is not finite",
                    hint="lower `lr`, and look for extreme values among the features",
                )
        (total * share).backward()  # type: ignore[no-untyped-call]
        if last:
            self.optimiser.step()
        return values

    def _ready(self, made: AnyBatch) -> AnyBatch:
        """A batch with its texts encoded, on the device."""
        if self.texts is not None:
            made = replace(made, trees=self.texts(made.trees))
        return runtime.moved(made, self.device)

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """(7): the sum over objectives of lambda L."""
        if self.uncertainty is not None:
            found: Tensor = self.uncertainty(losses)
            return found
        return torch.stack([loss * self.tasks.weights[name] for name, loss in losses.items()]).sum()

    def loss(self, batch: Batch) -> Tensor:
        """The loss of one batch, with that of later activities where they are predicted, before its weight."""
        vectors, long_term = self.model.encode(batch.trees)
        loss = self._loss(batch, vectors)
        return loss if long_term is None else loss + long_term

    def _loss(self, batch: Batch, vectors: Tensor) -> Tensor:
        if batch.targets is not None:
            return classification_loss(self.model, batch, vectors)
        if batch.labels is not None:
            return labelled_loss(score_pairs(self.model, batch, vectors), batch.labels)
        positive, negative, allowed = score_drawn(self.model, batch, vectors)
        return drawn_loss(positive, negative, allowed, batch.log_q, self.config.loss)

    # --- validation ---------------------------------------------------------------------------------------------------

    def _validated(
        self,
        state: checkpoint.RunState,
        best: dict[str, Tensor],
        losses: Mapping[str, list[float]],
        at: float,
        task: Task,
    ) -> dict[str, Tensor]:
        aucs = self.validate()
        total = sum(self.tasks.weights[name] for name in aucs)
        mean = sum(self.tasks.weights[name] * value for name, value in aucs.items()) / total
        means = {name: float(np.mean(values)) for name, values in sorted(losses.items())}
        entry = {"epoch": round(at, 6), "step": state.steps, "auc": mean, "auc_by_objective": aucs, "train_loss": means}
        task.note(loss=float(np.mean(list(means.values()))), val_auc=mean)
        if self.course.judge(state, entry):
            return {name: tensor.detach().clone() for name, tensor in self.learned.state_dict().items()}
        return best

    def validate(self) -> dict[str, float]:
        """AUC of each objective on its validation examples."""
        keys = self.validating.validation(self.config.validation_examples)
        found = validate(self.model, self.validating.make, keys, self._ready)
        self.reader.clock.taken()  # not of training
        return found

    def _details(self, state: checkpoint.RunState) -> dict[str, Any]:
        chosen = self.course.chosen(state)
        return {
            "objectives": self.tasks.details(),
            "validation_start": self.tasks.validation_start,
            "test_start": self.tasks.test_start,
            "best_epoch": chosen["epoch"],
            "validation_auc": chosen["auc"],
            "validation_auc_by_objective": chosen["auc_by_objective"],
            "validations": len(state.history),
            "timing": state.timing,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            **({} if self.uncertainty is None else {"learned_weights": self.uncertainty.learned()}),
            **({} if self.aligner is None else {NAME: self.aligner.details()}),
            "false_negatives": "known positives of training are never drawn as negatives; unknown ones may be",
        }


def shares(work: Mapping[str, float], passed: float) -> dict[str, float]:
    """Of sampling, gathering and computing in the sum of all three, and of waiting in the time that passed."""
    total = sum(work.values())
    found = {name: work.get(name, 0.0) / total for name in ("sample", "gather", "compute")} if total else {}
    return found | {"wait": max(0.0, 1 - work.get("compute", 0.0) / passed)}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _model_spec(graph: Graph, reader: TreeReader, tasks: Tasks) -> ModelSpec:
    return ModelSpec(
        graph=graph.content_hash,
        inputs=reader.inputs.specs,
        relations=reader.relations,
        weighted=reader.weighted,
        objectives={name: part.edge for name, part in tasks.links.items()},
        activities=reader.activities,
        classes={name: part.num_classes for name, part in tasks.labels.items()},
    )
