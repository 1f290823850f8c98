"""What a model is trained on: the examples of every objective, divided, and the batches that are made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from star_platform.errors import TrainingError
from star_platform.gnn.batches import BatchMaker, Maker, Schedule
from star_platform.gnn.classification import (
    ClassificationMaker,
    LabelSplit,
    boundary_moments,
    check_classes,
    split_labels,
)
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.split import TimeSplit, check_trainable, join, link_predictions, split
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import Graph
from star_platform.signals.model import Objective


@dataclass(frozen=True)
class Tasks:
    """The objectives of a model, divided at two moments that all of them share (microseconds)."""

    objectives: Mapping[str, Objective]
    links: Mapping[str, TimeSplit]
    labels: Mapping[str, LabelSplit]
    weights: Mapping[str, float]
    validation_start: int
    test_start: int

    @classmethod
    def of(cls, graph: Graph, objectives: Mapping[str, Objective], config: TrainingConfig) -> Tasks:
        """Divide the examples.

        Raises:
            TrainingError: M001-M004, M006 and M013 for objectives that cannot be learned.
        """
        links = split(graph, objectives, config)
        start, end = boundary_moments(graph, objectives, config)
        labels = split_labels(graph, objectives, config, (start, end))
        weights = {name: objectives[name].weight for name in sorted([*links, *labels])}
        if not any(weights.values()):
            raise TrainingError("M001", "every objective has weight 0", hint="give one of them a positive weight")
        for name, part in links.items():
            if weights[name] > 0:
                check_trainable(name, part)
        for name, label in labels.items():
            if weights[name] > 0:
                check_classes(name, label)
        return cls(objectives, links, labels, weights, start, end)

    @property
    def examples(self) -> int:
        """Training examples of one epoch."""
        return sum(self._counts())

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch, at least: where batches begin at random places there may be one more per objective."""
        return sum(math.ceil(count / batch_size) for count in self._counts())

    def _counts(self) -> list[int]:
        counts = {name: len(part.train) for name, part in self.links.items()}
        counts |= {name: len(label.train) for name, label in self.labels.items()}
        return [count for name, count in counts.items() if self.weights[name] > 0]

    def schedule(self, graph: Graph, reader: TreeReader, config: TrainingConfig, *, validate: bool) -> Schedule:
        """The batches of training, or of validation; objectives of weight 0 have none."""
        makers: dict[str, Maker] = {}
        for name, objective in link_predictions(self.objectives).items():
            if self.weights[name] == 0:
                continue
            part = self.links[name]
            examples, known = part.train, part.train
            if validate:
                examples, known = part.validation, join(part.train, part.validation)
            makers[name] = BatchMaker(graph, reader, objective, part.edge, examples, known, config)
        for name, label in self.labels.items():
            if self.weights[name] > 0:
                nodes = label.validation if validate else label.train
                makers[name] = ClassificationMaker(reader, label.node, nodes, config)
        return Schedule(makers, config.seed)

    def details(self) -> dict[str, Any]:
        """For the manifest: examples by objective and part."""
        found: dict[str, Any] = {
            name: {
                "edge": list(part.edge),
                "weight": self.weights[name],
                "train": len(part.train),
                "validation": len(part.validation),
                "test": len(part.test),
            }
            for name, part in self.links.items()
        }
        return found | {name: {**label.details(), "weight": self.weights[name]} for name, label in self.labels.items()}
