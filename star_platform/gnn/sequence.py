"""The latest activities of every seed before its moment, as tensors; read on the prefetch thread.

An activity is an interaction edge: what a member applied to, or who wrote to it. Attribute edges, undated ones and
those that are derived from the graph are none. See `gnn.temporal` for what is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.errors import TrainingError
from star_platform.gnn import _sequence_kernels as kernels
from star_platform.gnn.buffers import over_rows
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, TypeInputs
from star_platform.gnn.kernels import unique_rows
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.storage import Graph

INTERACTION = "interaction"
MAX_QUERIES, MAX_CANDIDATES = 2048, 4096
"""Positions of a batch that predict later activities, and nodes that they choose among: bounds of the products."""
Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class LongTerm:
    """Which activities predict which later ones: a softmax over nodes of the batch."""

    rows: Tensor
    """int64[q]: sequence of each predicting activity."""
    columns: Tensor
    """int64[q]: its place in the sequence."""
    targets: Tensor
    """int64[q, long_term]: the nodes of the activities after it, among the candidates; -1 where there is none."""
    candidates: Tensor
    """int64[c]: an item of each distinct node."""


@dataclass(frozen=True)
class SequenceTensors:
    """The latest activities of b seeds, L the most that any of them has; oldest first, padding after the newest."""

    inputs: tuple[TypeInputs, ...]
    """By node type: inputs of the distinct (node, moment) pairs, *items*, among all activities; numbered by type."""
    items: Tensor
    """int64[b, L]: the item of each activity, 0 in padding."""
    nodes: Tensor
    """int64[b, L]: its global id, -1 in padding."""
    relations: Tensor
    """int64[b, L]: number of the relation that it came in by, 0 in padding."""
    ages: Tensor
    """float32[b, L]: log1p of the hours between it and the seed's moment."""
    counts: Tensor
    """int64[b]: activities of each seed."""
    long_term: LongTerm | None
    """None where no later activities are to be predicted."""


class SequenceReader:
    """Reads the latest activities of seeds; thread-safe, without Python per seed or edge."""

    def __init__(self, graph: Graph, inputs: InputReader, config: TrainingConfig) -> None:
        """`inputs`: that of the node encoder.

        Raises:
            TrainingError: M026 when the graph has no interaction edges.
        """
        self.adjacency, self.inputs = Adjacency.of(graph, config.budget), inputs
        self._config, self._threads = config.sequence, config.threads
        self._window = config.window_us or 0
        names = self.adjacency.relation_names
        self.wanted = np.array([str(graph.edge_kind(name)) == INTERACTION for name in names], dtype=bool)
        if not self.wanted.any():
            raise TrainingError(
                "M026",
                "the graph has no interaction edges, so there are no activities to read",
                hint="leave `training.sequence` out, or declare an edge of `kind: interaction`",
            )

    def read(
        self, gids: Int64Array, times: Int64Array, step: int, exclude: Int64Array | None = None
    ) -> SequenceTensors:
        """Sequences of seeds `gids [b]` strictly before `times [b]`, microseconds.

        `step` turns which activities predict later ones where there are too many. With `exclude [b]` (a global id, -1:
        none) no activity of a seed is one with its partner.
        """
        nodes, relations, ages, counts = kernels.empty(len(gids), self._config.activities)
        partners = np.empty(0, dtype=np.int64) if exclude is None else exclude
        graph = self.adjacency
        lists = (graph.offsets, graph.slots, graph.rows, graph.indptr, graph.edges, self.wanted)
        found = (nodes, relations, ages, counts)
        over_rows(
            lambda first, last: kernels.latest(first, last, gids, times, partners, self._window, *lists, *found),
            len(gids),
            self._threads,
        )
        longest = int(counts.max(initial=0))
        nodes, relations, ages = nodes[:, :longest], relations[:, :longest], ages[:, :longest]
        inputs, items = self._items(nodes, times)
        return SequenceTensors(
            inputs=inputs,
            items=torch.from_numpy(items),
            nodes=torch.from_numpy(nodes.copy()),
            relations=torch.from_numpy(relations.copy()),
            ages=torch.from_numpy(ages.copy()),
            counts=torch.from_numpy(counts),
            long_term=self._long_term(nodes, items, counts, times, step) if self._config.long_term else None,
        )

    def _items(self, nodes: Int64Array, times: Int64Array) -> tuple[tuple[TypeInputs, ...], Int64Array]:
        """Inputs of the distinct (node, moment) pairs by node type, and the pair of each activity."""
        places = np.zeros(nodes.shape, dtype=np.int64)
        real = nodes >= 0
        moments, moment_of = np.unique(times, return_inverse=True)
        keys = (nodes * len(moments) + moment_of[:, None])[real]
        distinct, inverse = unique_rows(keys)
        gids, at = distinct // max(1, len(moments)), moments[distinct % max(1, len(moments))]
        offsets = self.adjacency.offsets
        kinds = np.searchsorted(offsets, gids, side="right") - 1
        order = np.argsort(kinds, kind="stable")
        place_of = np.empty(len(order), dtype=np.int64)
        place_of[order] = np.arange(len(order))
        places[real] = place_of[inverse]
        bounds = np.searchsorted(kinds[order], np.arange(len(offsets)))
        inputs = tuple(
            self.inputs.read(node, gids[own] - offsets[t], at[own])
            for t, node in enumerate(self.adjacency.node_types)
            for own in (order[bounds[t] : bounds[t + 1]],)
        )
        return inputs, places

    def _long_term(
        self, nodes: Int64Array, items: Int64Array, counts: Int64Array, times: Int64Array, step: int
    ) -> LongTerm:
        """Up to `MAX_QUERIES` activities with a later one, spread over the batch."""
        columns = np.arange(nodes.shape[1])
        rows, places = np.nonzero(columns[None, :] + 1 < counts[:, None])
        if len(rows) > MAX_QUERIES:
            chosen = (np.arange(MAX_QUERIES) * len(rows) // MAX_QUERIES + step % (len(rows) // MAX_QUERIES)) % len(rows)
            rows, places = rows[chosen], places[chosen]
        real = nodes >= 0
        distinct, inverse = unique_rows(nodes[real])
        names = np.full(nodes.shape, -1, dtype=np.int64)
        names[real] = inverse
        names[names >= MAX_CANDIDATES] = -1
        candidates = np.zeros(min(len(distinct), MAX_CANDIDATES), dtype=np.int64)
        oldest_last = np.argsort(-times, kind="stable")  # so that a node stands for itself at its earliest moment
        named, places_of = names[oldest_last], items[oldest_last]
        candidates[named[named >= 0]] = places_of[named >= 0]
        targets = np.full((len(rows), self._config.long_term), -1, dtype=np.int64)
        kernels.later(rows, places, names, counts, targets)
        some = (targets >= 0).any(axis=1)
        return LongTerm(
            torch.from_numpy(rows[some]),
            torch.from_numpy(places[some]),
            torch.from_numpy(targets[some]),
            torch.from_numpy(candidates),
        )
