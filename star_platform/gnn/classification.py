"""Node classification: which nodes are examples of which class, when they are seen, and how they are divided.

The label is a categorical feature, and the model is not given it: a feature that any objective names as its label is no
input at all (`label_features`). Nothing else hides it: an attribute edge that says the same gives it away.

A label with versions is predicted at the moment at which it becomes true, from what was there strictly before; its
versions are divided at the boundaries of the links. A label without versions holds at all times, so its nodes are
divided by when they were created, or, where that is not declared or leaves a part with less than half of its share, by
a hash of their external id. Those of each part are seen when the part ends: training nodes where validation starts,
validation nodes where the test starts, test nodes after everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn._negative_kernels import hash_ids
from star_platform.gnn.batches import VALIDATION_STEP, Batch, StepKey, ordered_steps
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.split import Int64Array, boundaries, learnable, link_predictions, objective_examples
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import FeatureArray, Graph
from star_platform.signals.model import NodeClassification, Objective

SplitBy = Literal["valid_from", "created_at", "hash"]
HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class NodeExamples:
    """Nodes of one type with their class, each seen at a moment; in order of time, then node."""

    nodes: Int64Array
    times: Int64Array
    """Microseconds."""
    classes: Int64Array
    """From 0."""

    def __len__(self) -> int:
        return len(self.nodes)

    def take(self, where: NDArray[np.bool_] | Int64Array | slice) -> NodeExamples:
        return NodeExamples(self.nodes[where], self.times[where], self.classes[where])

    def at(self, moment: int) -> NodeExamples:
        """The same, all seen at one moment."""
        return NodeExamples(self.nodes, np.full(len(self), moment, dtype=np.int64), self.classes)


@dataclass(frozen=True)
class LabelSplit:
    """The examples of one node classification."""

    node: str
    feature: str
    by: SplitBy
    """What divides the nodes."""
    num_classes: int
    validation_start: int
    test_start: int
    train: NodeExamples
    validation: NodeExamples
    test: NodeExamples

    def details(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "node": self.node,
            "feature": self.feature,
            "split_by": self.by,
            "classes": self.num_classes,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }


def classifications(objectives: Mapping[str, Objective]) -> dict[str, NodeClassification]:
    """The node classifications among `objectives`."""
    return {name: each for name, each in objectives.items() if isinstance(each, NodeClassification)}


def label_features(objectives: Mapping[str, Objective]) -> frozenset[str]:
    """Features, by full name, that some objective predicts and that are therefore no input of the model."""
    return frozenset(each.feature for each in classifications(objectives).values())


def label_array(graph: Graph, name: str, objective: NodeClassification) -> FeatureArray:
    """The label of an objective; raises TrainingError M013 where the graph has no such categorical feature."""
    found = {f"{objective.node}.{each.name}": each for each in graph.features(objective.node)}
    feature = found.get(objective.feature)
    if feature is None or feature.kind != "categorical":
        labels = ", ".join(each for each, array in found.items() if array.kind == "categorical") or "none"
        raise TrainingError(
            "M013",
            f"objective {name!r} predicts {objective.feature!r}, which is no categorical feature of the graph",
            hint=f"categorical features of {objective.node!r}: {labels}",
        )
    return feature


def boundary_moments(graph: Graph, objectives: Mapping[str, Objective], config: TrainingConfig) -> tuple[int, int]:
    """Start of validation and of test, microseconds: as `split` finds them for the links.

    Without a link prediction they are quantiles of the moments at which labels become true, and if no label has any,
    both lie after everything: then nodes are divided by hash or creation only.
    """
    links = link_predictions(objectives)
    if links:
        examples = [
            learnable(graph, links[name], objective_examples(graph, links[name], config)) for name in sorted(links)
        ]
        return boundaries(examples, config)
    labels = [label_array(graph, name, each) for name, each in sorted(classifications(objectives).items())]
    dated = [part for label in labels if label.indptr is not None and len(part := _versions(label))]
    return boundaries(dated, config) if dated else (graph.as_of + 1, graph.as_of + 1)


def split_labels(
    graph: Graph, objectives: Mapping[str, Objective], config: TrainingConfig, moments: tuple[int, int]
) -> dict[str, LabelSplit]:
    """Divide the nodes of every node classification; `moments`: start of validation and of test.

    Raises:
        TrainingError: M013 for a label that the graph lacks or that is not categorical.
    """
    return {
        name: _split(graph, label_array(graph, name, each), config, *moments)
        for name, each in sorted(classifications(objectives).items())
    }


def _split(
    graph: Graph, label: FeatureArray, config: TrainingConfig, validation_start: int, test_start: int
) -> LabelSplit:
    by: SplitBy = "valid_from"
    if label.indptr is not None:
        examples = _versions(label)
        early, late = examples.times < validation_start, examples.times >= test_start
        train, test = examples.take(early), examples.take(late)
        validation = examples.take(~early & ~late)
    else:
        nodes, classes = _known(label)
        examples = NodeExamples(nodes, np.zeros(len(nodes), dtype=np.int64), classes)
        parts = _by_creation(graph, label.node, nodes, validation_start, test_start)
        by = "created_at"
        if parts is None or not _balanced(parts, config):
            parts, by = _by_hash(graph, label.node, config)[nodes], "hash"
        ends = validation_start, test_start, graph.as_of + 1
        train, validation, test = (examples.take(parts == part).at(end) for part, end in enumerate(ends))
    return LabelSplit(
        node=label.node,
        feature=f"{label.node}.{label.name}",
        by=by,
        num_classes=label.dim - 1,
        validation_start=validation_start,
        test_start=test_start,
        train=train,
        validation=validation,
        test=test,
    )


def _known(label: FeatureArray) -> tuple[Int64Array, Int64Array]:
    """Nodes with a class and the class; code 0 is "missing or rare"."""
    codes = np.asarray(label.values, dtype=np.int64)
    nodes = np.flatnonzero(codes > 0)
    return nodes, codes[nodes] - 1


def _versions(label: FeatureArray) -> NodeExamples:
    """Every version of a label, when it became true; one that repeats the version before teaches nothing new."""
    assert label.indptr is not None and label.valid_from is not None  # noqa: S101, PT018 - has versions
    codes = np.asarray(label.values, dtype=np.int64)
    nodes = np.repeat(np.arange(len(label.indptr) - 1, dtype=np.int64), np.diff(label.indptr))
    changed = np.ones(len(codes), dtype=bool)
    changed[1:] = (codes[1:] != codes[:-1]) | (nodes[1:] != nodes[:-1])
    rows = np.flatnonzero(changed & (codes > 0))
    times = np.asarray(label.valid_from)[rows]
    order = np.lexsort((nodes[rows], times))
    return NodeExamples(nodes[rows][order], times[order], codes[rows][order] - 1)


def _by_creation(
    graph: Graph, node: str, nodes: Int64Array, validation_start: int, test_start: int
) -> NDArray[np.int64] | None:
    """0, 1 or 2 for training, validation and test; None where no creation is declared."""
    created = graph.created_at(node)
    if created is None:
        return None
    return np.searchsorted([validation_start, test_start], created[nodes], side="right").astype(np.int64)


def _balanced(parts: NDArray[np.int64], config: TrainingConfig) -> bool:
    """Whether every part has at least half of the share that it should have."""
    wanted = [1.0 - config.validation_share - config.test_share, config.validation_share, config.test_share]
    return bool((np.bincount(parts, minlength=3) >= 0.5 * np.array(wanted) * max(1, len(parts))).all())


def _by_hash(graph: Graph, node: str, config: TrainingConfig) -> NDArray[np.int64]:
    """0, 1 or 2 for every node of a type, by its external id alone: the same in every release."""
    bounds = [1.0 - config.validation_share - config.test_share, 1.0 - config.test_share]
    return np.searchsorted(bounds, id_shares(graph.ids(node)), side="right").astype(np.int64)


def id_shares(ids: pa.Array[Any]) -> NDArray[np.float64]:
    """float64[n] in [0, 1): a hash of each id, as text."""
    out = np.empty(len(ids), dtype=np.float64)
    for first in range(0, len(ids), HASHED_AT_ONCE):
        text = ids.slice(first, HASHED_AT_ONCE).cast(pa.large_string())
        _, ends, data = text.buffers()
        offsets = np.frombuffer(memoryview(ends or b""), dtype=np.int64)[text.offset : text.offset + len(text) + 1]
        hash_ids(np.frombuffer(memoryview(data or b""), dtype=np.uint8), offsets, out[first : first + len(text)])
    return out


def check_classes(name: str, part: LabelSplit) -> None:
    """Raises TrainingError M013 where fewer than two classes can be learned, M006 where none can be validated."""
    if len(np.unique(part.train.classes)) < 2:
        raise TrainingError(
            "M013",
            f"objective {name!r} has fewer than two classes of {part.feature!r} among its {len(part.train)} examples",
            hint="lower min_count of the feature, or leave the objective out",
        )
    if not len(part.validation):
        raise TrainingError(
            "M006",
            f"objective {name!r} has no node to validate on",
            hint="raise validation_share, or leave the objective out",
        )


class ClassificationMaker:
    """Makes the batches of one node classification."""

    def __init__(self, reader: TreeReader, node: str, examples: NodeExamples, config: TrainingConfig) -> None:
        self.reader, self.node, self.examples, self.config = reader, node, examples, config

    def epoch(self, rng: np.random.Generator) -> list[Int64Array]:
        """The examples of each step of an epoch, in random order."""
        order, size = rng.permutation(len(self.examples)), self.config.batch_size
        return [np.sort(order[first : first + size]) for first in range(0, len(order), size)]

    def in_order(self, limit: int) -> list[Int64Array]:
        """The examples of each step of a validation: at most `limit`, in order of time."""
        return ordered_steps(len(self.examples), self.config.batch_size, limit)

    def make(self, key: StepKey) -> Batch:
        """Sample and read everything that a step needs; runs on the prefetch thread."""
        examples = self.examples.take(key.examples)
        times = examples.times
        if self.config.moment == "step" and key.step < VALIDATION_STEP:
            times = np.full(len(examples), times.min())
        return Batch(
            objective=key.objective,
            trees=self.reader.read(self.reader.gids(self.node, examples.nodes), times, key.step),
            size=len(examples),
            labels=None,
            in_batch=False,
            allowed=None,
            log_q=None,
            kind="classes",
            targets=torch.from_numpy(examples.classes),
        )
