"""Examples of an objective and their division by time.

Everything at or after a boundary belongs to the later part, and the boundaries are the same for all objectives of a
model: were they each objective's own, one objective would train on moments that another is validated on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.existence import Existence
from star_platform.gnn.negatives import SAMPLED
from star_platform.graph.storage import EdgeArrays, EdgeType, Graph
from star_platform.signals.model import LinkPrediction, Objective

Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Pairs of nodes at a moment, in order of time; node indices count within their type."""

    src: Int64Array
    dst: Int64Array
    times: Int64Array
    """Microseconds."""
    labels: NDArray[np.float32]
    """1 or 0; all 1 for objectives whose negatives are drawn."""

    def __len__(self) -> int:
        return len(self.src)

    def take(self, where: NDArray[np.bool_] | Int64Array | slice) -> Examples:
        return Examples(self.src[where], self.dst[where], self.times[where], self.labels[where])


@dataclass(frozen=True)
class TimeSplit:
    """The examples of one objective: training < validation_start <= validation < test_start <= test."""

    edge: EdgeType
    validation_start: int
    test_start: int
    train: Examples
    validation: Examples
    test: Examples


def split(graph: Graph, objectives: Mapping[str, Objective], config: TrainingConfig) -> dict[str, TimeSplit]:
    """Divide the examples of every link prediction at two moments, the same for all.

    The boundaries are quantiles of the examples' times, each objective counted with equal weight in total. What is
    learned from leaves out what `learnable` does. Node classification is left out: `classification.split_labels`
    divides it at the same moments.

    Raises:
        TrainingError: M001 without objectives or without examples, M002 for an edge without times, M003 for a label
            column that the graph lacks.
    """
    if not objectives:
        raise TrainingError("M001", "there is nothing to train on: no objective", hint="declare one under `objectives`")
    links = link_predictions(objectives)
    examples = {name: objective_examples(graph, links[name], config) for name in sorted(links)}
    learned = {name: learnable(graph, links[name], part) for name, part in examples.items()}
    if not examples:
        return {}
    validation_start, test_start = boundaries(list(learned.values()), config)
    return {
        name: TimeSplit(
            edge=graph.edges_named(links[name].edge).type,
            validation_start=validation_start,
            test_start=test_start,
            train=part.take(part.times < validation_start),
            validation=part.take((part.times >= validation_start) & (part.times < test_start)),
            test=examples[name].take(examples[name].times >= test_start),
        )
        for name, part in learned.items()
    }


def learnable(graph: Graph, objective: LinkPrediction, examples: Examples) -> Examples:
    """Without examples whose destination only exists because of them, where negatives are drawn from what exists.

    For node types without `created_at` that is what has been met before. Positives are held to the same, or having no
    history would tell a positive. All are kept where none would be left.
    """
    if objective.negatives.kind not in SAMPLED:
        return examples
    existence = Existence.of(graph, graph.edges_named(objective.edge).type.dst)
    met = existence.holds(examples.dst, examples.times)
    return examples.take(met) if met.any() and not existence.declared else examples


def link_predictions(objectives: Mapping[str, Objective]) -> dict[str, LinkPrediction]:
    """The link predictions among `objectives`."""
    return {name: each for name, each in objectives.items() if isinstance(each, LinkPrediction)}


def objective_examples(graph: Graph, objective: LinkPrediction, config: TrainingConfig) -> Examples:
    """All examples of an objective, in order of time."""
    edges = graph.edges_named(objective.edge)
    labels: NDArray[np.float32] | None = None
    if objective.label is not None:
        codes = edges.labels.get(objective.label)
        if codes is None:
            raise TrainingError(
                "M003",
                f"the graph holds no labels {objective.label!r} of edge {objective.edge!r}",
                hint=f"it holds {', '.join(edges.labels) or 'none'}",
            )
        labels = np.asarray(codes, dtype=np.float32)
    found = edge_examples(edges, labels, graph.num_nodes(edges.type.src), config)
    if objective.label is not None and objective.negatives.kind != "labelled":
        found = found.take(found.labels > 0)  # negatives come from elsewhere
    if objective.negatives.kind == "edge" and objective.negatives.edge is not None:
        others = graph.edges_named(objective.negatives.edge)
        if (others.type.src, others.type.dst) != (edges.type.src, edges.type.dst):
            raise TrainingError(
                "M004",
                f"edge {others.type.relation!r} cannot give negatives for {edges.type.relation!r}: other node types",
                hint=f"both must lead from {edges.type.src!r} to {edges.type.dst!r}",
            )
        negative = edge_examples(
            others, np.zeros(others.num_edges, np.float32), graph.num_nodes(others.type.src), config
        )
        found = join(found, negative)
    if not len(found):
        raise TrainingError("M001", f"edge {objective.edge!r} gives no example", hint="is its window too short?")
    return found


def edge_examples(
    edges: EdgeArrays, labels: NDArray[np.float32] | None, num_src: int, config: TrainingConfig
) -> Examples:
    """The edges as examples, in order of time; of repeated pairs only the first unless `repeats` is `all`."""
    if edges.timestamps is None:
        raise TrainingError(
            "M002",
            f"edge {edges.type.relation!r} has no timestamp, so nothing can be predicted forward in time",
            hint="declare `timestamp:` on the edge that the objective names",
        )
    src, dst = np.asarray(edges.indices, dtype=np.int64), edges.destinations().astype(np.int64)
    times = np.asarray(edges.timestamps)
    if labels is None:
        labels = np.ones(len(src), dtype=np.float32)
    else:  # unknown labels teach nothing
        known = np.flatnonzero(labels >= 0)
        src, dst, times, labels = src[known], dst[known], times[known], labels[known]
    order = np.lexsort((dst, src, times))
    if config.repeats == "first":
        _, first = np.unique(dst[order] * num_src + src[order], return_index=True)
        order = order[np.sort(first)]
    return Examples(src[order], dst[order], times[order], labels[order])


class Dated(Protocol):
    """Examples of any kind, at least one."""

    @property
    def times(self) -> Int64Array: ...

    def __len__(self) -> int: ...


def boundaries(parts: Sequence[Dated], config: TrainingConfig) -> tuple[int, int]:
    """Start of validation and of test, microseconds."""
    times = np.concatenate([part.times for part in parts])
    weights = np.concatenate([np.full(len(part), 1.0 / len(part)) for part in parts])
    order = np.argsort(times, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, [1.0 - config.test_share - config.validation_share, 1.0 - config.test_share])
    at = times[order][np.minimum(places, len(order) - 1)]
    end = int(times.max()) + 1
    return int(at[0]), int(at[1]) if config.test_share > 0 else end


def join(one: Examples, other: Examples) -> Examples:
    """Both, in order of time."""
    both = Examples(
        np.concatenate([one.src, other.src]),
        np.concatenate([one.dst, other.dst]),
        np.concatenate([one.times, other.times]),
        np.concatenate([one.labels, other.labels]),
    )
    return both.take(np.argsort(both.times, kind="stable"))


def check_trainable(name: str, part: TimeSplit) -> None:
    """Raises TrainingError M001, M003 or M006 for an objective that nothing can be learned from."""
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
