"""A trained model on another graph of the same branches: entities that training has never met get vectors too.

A model speaks of its own graph: rows of learned ids, category codes, standardised numbers, numbered relations. All of
them are translated here by what they stand for, so that the other graph looks like the one that was trained on:

    learned ids         by external id; an id that training has not met takes the row that all such ids share
    categories          by value, from the vocabularies of both graphs; a new value is "missing or rare"
    numbers             standardised with the mean and deviation of the training graph
    relations           by edge type; one that the other graph lacks has no edges there

Vectors and texts are taken as they are: texts must come out of the same encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, InputSpec, TypeInputs
from star_platform.gnn.model_io import Model, load_model
from star_platform.graph.storage import EdgeArrays, EdgeType, FeatureArray, Graph

Codes = NDArray[np.int64]
_ROWS = 1 << 18


class InductiveGraph(Graph):
    """A graph seen as a model knows the one that it was trained on."""

    def __init__(self, graph: Graph, trained_on: Graph) -> None:
        """Raises TrainingError M020 for what the model does not know, M021 or M022 for what it misses."""
        self._graph, self._trained_on = graph, trained_on
        self.path, self.fingerprint, self.content_hash = graph.path, graph.fingerprint, graph.content_hash
        self.manifest = graph.manifest
        _check_types(graph, trained_on)
        self._features = {node: tuple(self._translated(node)) for node in graph.node_types}
        self.numbers: Mapping[str, Codes] = {
            node: _numbers(graph, trained_on, node)
            for node in graph.node_types
            if any(feature.kind == "id" for feature in self._features[node])
        }
        """By node type with learned ids: index in the training graph of every node; its count for one it lacks."""

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Those that the model knows, sorted."""
        return self._trained_on.edge_types

    @property
    def declared_edge_types(self) -> tuple[EdgeType, ...]:
        """Those of them that branches declare."""
        found: tuple[EdgeType, ...] = getattr(self._trained_on, "declared_edge_types", self._trained_on.edge_types)
        return found

    def edge_kind(self, edge_type: EdgeType) -> Any:
        return self._trained_on.edge_kind(edge_type)

    def edges(self, edge_type: EdgeType) -> EdgeArrays:
        if edge_type in self._graph.edge_types:
            return self._graph.edges(edge_type)
        known = self._trained_on.edges(edge_type)
        return EdgeArrays(
            type=edge_type,
            indptr=np.zeros(self.num_nodes(edge_type.dst) + 1, dtype=np.int64),
            indices=np.empty(0, dtype=np.int32),
            timestamps=None if known.timestamps is None else np.empty(0, dtype=np.int64),
            weights=None if known.weights is None else np.empty(0, dtype=np.float32),
            labels={},
        )

    def features(self, node: str) -> tuple[FeatureArray, ...]:
        return self._features[node]

    def _translated(self, node: str) -> Iterable[FeatureArray]:
        """The features that the model knows."""
        mine = {feature.name: feature for feature in self._graph.features(node)}
        for known in self._trained_on.features(node):
            found, full_name = mine.get(known.name), f"{node}.{known.name}"
            if found is None or found.kind != known.kind or (known.indptr is None) != (found.indptr is None):
                raise _misses(full_name, "is not in the graph as the model knows it")
            old, new = (graph.manifest["features"][full_name] for graph in (self._trained_on, self._graph))
            if found.kind == "categorical":
                yield _recoded(found, known, self._code_map(full_name, known, found, old, new))
                continue
            if found.kind == "text" and old.get("encoder") != new.get("encoder"):
                raise TrainingError(
                    "M022",
                    f"the texts of {full_name} do not come from the encoder whose vectors the model was trained on",
                    hint="encode them with the encoder of its release, or run `star-platform release`",
                )
            if found.dim != known.dim or old.get("columns") != new.get("columns"):
                raise _misses(full_name, f"has {found.dim} columns, and the model knows {known.dim}")
            yield _restandardised(found, old, new) if found.kind == "numeric" else found

    def _code_map(
        self, name: str, known: FeatureArray, found: FeatureArray, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Codes:
        """int64[codes here]: the model's code of each."""
        if "vocabulary" not in old or "vocabulary" not in new:
            if known.dim != found.dim:
                raise _misses(name, "has other categories, and no vocabulary tells which they are")
            return np.arange(found.dim)
        before = _vocabulary(self._trained_on.path / "features" / name / str(old["vocabulary"]))
        after = _vocabulary(self._graph.path / "features" / name / str(new["vocabulary"]))
        places = pc.fill_null(pc.index_in(after, value_set=before), -1).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], places.astype(np.int64) + 1])


class InductiveReader(InputReader):
    """Reads the inputs of an `InductiveGraph`: learned ids count as in the training graph."""

    def __init__(self, graph: InductiveGraph, config: TrainingConfig, specs: Mapping[str, Sequence[InputSpec]]) -> None:
        super().__init__(graph, config, specs)
        self._numbers = {node: torch.from_numpy(numbers) for node, numbers in graph.numbers.items()}

    def read(self, node: str, nodes: NDArray[np.int64], times: NDArray[np.int64]) -> TypeInputs:
        found = super().read(node, nodes, times)
        if node not in self._numbers:
            return found
        values = tuple(
            self._numbers[node][value] if spec.kind == "id" else value
            for spec, value in zip(self.specs[node], found.values, strict=True)
        )
        return TypeInputs(found.distinct, found.inverse, values)


def load_inductive(folder: Path, trained_on: Graph, graph: Graph) -> tuple[Model, InductiveGraph]:
    """The model in `folder`, trained on `trained_on`, and `graph` as it sees it; give both to `inference.Embedder`.

    Raises:
        TrainingError: M008, M009 as `load_model`; M020 the graph has a node type or relation that the model does not
            know; M021 it lacks an input; M022 its texts come from another encoder; M023 the model is one of LTGNN.
    """
    model = load_model(folder, trained_on)
    if model.config.encoder == "ltgnn":
        raise TrainingError(
            "M023",
            "the model propagates over the graph that it was trained on, and cannot embed another one",
            hint="run `star-platform release`, or train with `encoder: attention` or `mean` where refreshes are wanted",
        )
    seen = InductiveGraph(graph, trained_on)
    for encoder in model.encoder.inputs:
        for place, spec in enumerate(encoder.specs):  # type: ignore[arg-type]  # a tuple of specs
            if spec.kind == "id":
                met = getattr(encoder, f"seen_{place}")
                setattr(encoder, f"seen_{place}", torch.cat([met, met.new_zeros(1)]))  # the number of unmet ids
    return model, seen


# --- translations -----------------------------------------------------------------------------------------------------


def _check_types(graph: Graph, trained_on: Graph) -> None:
    unknown = [name for name in graph.node_types if name not in trained_on.node_types]
    unknown += [" ".join(name) for name in graph.edge_types if name not in trained_on.edge_types]
    if unknown:
        raise TrainingError(
            "M020",
            f"the model was trained without {', '.join(unknown)}",
            hint="run `star-platform release`: a new node type or relation needs a new model",
        )
    for node in trained_on.node_types:
        if node not in graph.node_types or graph.node_kind(node) != trained_on.node_kind(node):
            raise _misses(node, "is not in the graph as the model knows it")


def _misses(name: str, what: str) -> TrainingError:
    return TrainingError(
        "M021", f"{name} {what}", hint="run `star-platform release`: it trains a model for the new graph"
    )


def _numbers(graph: Graph, trained_on: Graph, node: str) -> Codes:
    """int64[n]: row of each node's external id in the training graph, its number of nodes for one that is new."""
    known = trained_on.ids(node)
    ids = graph.ids(node)
    try:
        places = pc.index_in(ids.cast(known.type), value_set=known)
    except pa.ArrowException as error:
        raise _misses(f"{node}.id", f"is {ids.type}, and the model knows {known.type}") from error
    return np.asarray(pc.fill_null(places, len(known)).to_numpy(zero_copy_only=False), dtype=np.int64)


def _vocabulary(path: Path) -> pa.Array[Any]:
    return pq.read_table(path, columns=["value"]).column("value").combine_chunks()


def _recoded(found: FeatureArray, known: FeatureArray, codes: Codes) -> FeatureArray:
    assert found.values is not None  # noqa: S101 - categories have an array
    same = known.dim == found.dim and np.array_equal(codes, np.arange(len(codes)))
    values = found.values if same else codes.astype(np.int32)[found.values]
    return FeatureArray(
        found.node, found.name, found.kind, known.dim, values, found.indptr, found.valid_from, found.present
    )


def _restandardised(found: FeatureArray, old: Mapping[str, Any], new: Mapping[str, Any]) -> FeatureArray:
    """`(z s' + m' - m) / s`: the columns as they would be with mean m and deviation s of the training graph.

    The right half of the columns are flags of null values, whose number stays 0.
    """
    values = found.values
    if values is None or "mean" not in old or (old["mean"], old["std"]) == (new["mean"], new["std"]):
        return found
    mean, std, mean_here, std_here = (np.asarray(entry[key]) for entry in (old, new) for key in ("mean", "std"))
    count, out = len(mean), np.array(values, dtype=np.float32)
    for first in range(0, len(out), _ROWS):
        rows = slice(first, first + _ROWS)
        numbers = (values[rows, :count].astype(np.float64) * std_here + mean_here - mean) / std
        out[rows, :count] = np.where(values[rows, count:] > 0, 0.0, numbers)
    return FeatureArray(
        found.node, found.name, found.kind, found.dim, out, found.indptr, found.valid_from, found.present
    )
