"""LTGNN over users and items without features: every node has a learned vector, and the implicit layer mixes them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from star_platform.errors import TrainingError
from star_platform.gnn import runtime
from star_platform.gnn.ltgnn import _batch_kernels, losses, snapshots, tables
from star_platform.gnn.ltgnn.adam import RowAdam
from star_platform.gnn.ltgnn.fixed_point import Memory, draw, read_out, without_input
from star_platform.gnn.ltgnn.interactions import Interactions
from star_platform.gnn.ltgnn.matrix import Float32Array, Int64Array, Workers
from star_platform.gnn.ltgnn.ranking import Ranked, ranked
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress


@dataclass(frozen=True)
class RecommenderConfig:
    """Settings of a run; the defaults are the authors' for everything that they have."""

    dim: int = 64
    alpha: float = 0.45
    """Share of a node's own vector in its fixed point."""
    neighbours: int = 15
    """Drawn per row and step, the node itself counted."""
    own_share: float = 0.2
    """c0: how much of the own vector is left out of what is scored."""
    steps_out: int = 3
    """Full propagation steps when vectors are read out."""
    loss: Literal["bpr", "softmax"] = "bpr"
    """`bpr`: one negative per example. `softmax`: cross-entropy among negatives that the batch shares."""
    negatives: int = 1024
    """Uniform negatives that a batch shares; `softmax` only."""
    among_all: bool = False
    """`softmax` only: let each negative count for all the items that it was drawn from."""
    temperature: float = 0.1
    cosine: bool = True
    """`softmax` only: compare directions in training."""
    cosine_out: bool = False
    """Bring item vectors to length 1 before they are ranked."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the matrix products of `softmax`, and of what the memory holds of a neighbour."""
    batch_size: int = 2048
    epochs: int = 100
    lr: float = 1.5e-3
    decay_from: float = 1.0
    """Share of the epochs after which the learning rate falls linearly to zero."""
    l2: float = 2e-4
    """Weight of half the squared length of every own vector of an example, averaged over the batch."""
    start: float = 0.1
    """Standard deviation of the first vectors."""
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        sizes = (self.dim, self.neighbours, self.negatives, self.batch_size, self.epochs, self.threads, self.steps_out)
        positive = (self.lr, self.temperature, self.start)
        shares = 0 < self.alpha < 1 and 0 <= self.own_share < 1 and 0 <= self.decay_from <= 1 and self.l2 >= 0
        if min(sizes) < 1 or min(positive) <= 0 or not shares:
            raise TrainingError("M032", f"settings outside their range: {asdict(self)}")


class Recommender:
    """One run: learned vectors, their memory and optimiser."""

    def __init__(self, train: Interactions, config: RecommenderConfig) -> None:
        self.train_pairs, self.config = train, config
        self.workers = Workers(config.threads)
        self.matrix = train.adjacency()
        nodes = train.num_users + train.num_items
        rng = np.random.default_rng((config.seed, 0))
        self.table: Float32Array = tables.zeros((nodes, config.dim))
        rng.standard_normal(dtype=np.float32, out=self.table)
        self.table *= np.float32(config.start)
        bf16 = config.precision == "bf16"
        self.memory = Memory(self.matrix, self.table, config.alpha, self.workers, bf16=bf16)
        self.optimizer = RowAdam(self.table, workers=self.workers)
        self.epochs_done = 0
        self._users, self._items = train.users, train.items.astype(np.int64)
        self._known = losses.KnownItems(train)
        self._stamps = np.full(nodes, -1, dtype=np.int32)
        self.key = digest({"ltgnn": asdict(config), "pairs": digest_of(train), "format": snapshots.FORMAT})

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_pairs) / self.config.batch_size)

    def run(
        self, work_dir: Path | None = None, progress: Progress = SILENT, until: int | None = None, every: int = 5
    ) -> Recommender:
        """Train to epoch `until` (all when None), from the checkpoint in `work_dir` if there is one.

        A run that is interrupted and started again ends with the same bytes. A checkpoint is written after every
        `every` epochs.

        Raises:
            TrainingError: M033 for a checkpoint that is damaged or of another run, M005 when the loss is not finite.
        """
        if work_dir is not None:
            work_dir.mkdir(parents=True, exist_ok=True)
            snapshots.restore(work_dir, self)
        end = self.config.epochs if until is None else min(until, self.config.epochs)
        total = len(self.train_pairs) * end
        with progress.task("train", total=total, unit="examples") as task:
            task.advance(len(self.train_pairs) * min(self.epochs_done, end))
            while self.epochs_done < end:
                loss = self.epoch()
                task.advance(len(self.train_pairs))
                task.note(loss=loss)
                if work_dir is not None and (self.epochs_done % every == 0 or self.epochs_done == end):
                    snapshots.save(work_dir, self)
        return self

    def epoch(self) -> float:
        """Every pair once, in random order; the mean loss."""
        config, number = self.config, self.epochs_done
        runtime.keep_freed_memory()
        with runtime.torch_threads(1):  # `workers` are the threads
            rng = np.random.default_rng((config.seed, 1, number))
            order = rng.permutation(len(self.train_pairs))
            users, items = self._users[order], self._items[order]
            if config.loss == "bpr":
                others = self.train_pairs.others(users, int(rng.integers(2**62)), self.workers)
            else:
                others = rng.integers(self.train_pairs.num_items, size=(self.steps_per_epoch, config.negatives))
            self.memory.refresh()
            total = 0.0
            for step in range(self.steps_per_epoch):
                part = slice(step * config.batch_size, (step + 1) * config.batch_size)
                compared = others[part] if config.loss == "bpr" else others[step]
                loss = self.step(users[part], items[part], compared, int(rng.integers(2**62)), self.lr_at(number, step))
                if not math.isfinite(loss):
                    raise TrainingError("M005", "the loss is not finite", hint="lower `lr`")
                total += loss * len(users[part])
        self.epochs_done += 1
        return total / len(users)

    def lr_at(self, epoch: int, step: int) -> float:
        """Constant at first, then falling linearly to zero at the end of the last epoch."""
        config = self.config
        done = (epoch + step / self.steps_per_epoch) / config.epochs
        if done <= config.decay_from:
            return config.lr
        return config.lr * (1.0 - done) / (1.0 - config.decay_from)

    def step(self, users: Int64Array, items: Int64Array, others: Int64Array, key: int, lr: float) -> float:
        """One step; the loss without the regularisation.

        Args:
            users: int64[b].
            items: int64[b].
            others: int64[b] for `bpr`, else int64[negatives].
            key: decides which neighbours are drawn.
            lr: learning rate.
        """
        config, size = self.config, len(users)
        ids = np.concatenate([users, items + self.train_pairs.num_users, others + self.train_pairs.num_users])
        unique, positions = np.empty_like(ids), np.empty_like(ids)
        rows = unique[: _batch_kernels.relabel(ids, self._stamps, unique, positions)]
        drawn = draw(self.matrix.forward, rows, config.neighbours, key, self.workers)
        share = np.float32(config.own_share)
        own, mixed, received = self.memory.read(rows, self.table, drawn)
        vectors = without_input(mixed, own, config.own_share)
        places = positions[:size], positions[size : 2 * size], positions[2 * size :]
        if config.loss == "bpr":
            loss, gradient = losses.bpr(vectors, *places)
        else:
            loss, gradient = losses.softmax(
                vectors,
                *places,
                self._known.among(users, others),
                temperature=config.temperature,
                cosine=config.cosine,
                stands_for=self.train_pairs.num_items / len(others) if config.among_all else 1.0,
                bf16=config.precision == "bf16",
                workers=self.workers,
            )
        if share:
            gradient /= 1 - share
        update = self.memory.settle(rows, mixed, gradient, received)
        if share:
            update -= share * gradient
        if config.l2:
            _batch_kernels.add_decay(positions, own, np.float32(config.l2 / size), update)
        self.optimizer.step(rows, update, lr)
        return loss

    def vectors(self, steps: int | None = None) -> tuple[Float32Array, Float32Array]:
        """Of users and of items, float32 `[users, dim]` and `[items, dim]`; `steps` instead of `steps_out`."""
        config = self.config
        steps = config.steps_out if steps is None else steps
        found = read_out(self.matrix.forward, self.table, config.alpha, steps, config.own_share, self.workers)
        users, items = found[: self.train_pairs.num_users], found[self.train_pairs.num_users :]
        if config.cosine_out:
            items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.float32(1e-12))
        return users, items

    def judged(self, wanted: Interactions, k: int = 20, steps: int | None = None) -> Ranked:
        """Recall@k and NDCG@k of `wanted` over all items but those trained on."""
        with runtime.torch_threads(self.config.threads):
            return ranked(*self.vectors(steps), self.train_pairs, wanted, k, self.workers)


def digest_of(pairs: Interactions) -> str:
    """Identity of a set of interactions."""
    content = hashlib.sha256()
    content.update(json.dumps([pairs.num_users, pairs.num_items]).encode())
    content.update(pairs.indptr.tobytes())
    content.update(pairs.items.tobytes())
    return content.hexdigest()
