"""What the encoder is given about each node at a moment, and its first layer.

Every input of a node type is one bias-free projection to the hidden width, and the projections are added: the same as
concatenating all inputs and projecting once (STAR, arXiv 2507.09797, table 4: each input adds `columns x dim`
parameters). A missing value is one more column, 1 where the value is missing: its weights are the learned null.

With `precision: bf16` dense values are gathered straight into bfloat16, half the bytes, and projected in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn import kernels
from star_platform.gnn.buffers import BufferPool
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.dense import DenseRows
from star_platform.gnn.gathering import expand
from star_platform.gnn.ids import IdTable, hashed_rows, text_bytes
from star_platform.gnn.precision import Precision, dtype_of, layer_norm, matmul
from star_platform.graph.derived import declared_edge_types
from star_platform.graph.storage import EdgeArrays, FeatureArray, Graph

InputKind = Literal["dense", "categorical", "id", "hashed", "activity", "code"]
SCALE_ROWS = 20_000
"""Rows from which the scale of a dense feature is measured."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a node type. Enough to rebuild the encoder's weights without the graph."""

    name: str
    kind: InputKind
    columns: int
    """Columns of the projection's input: with the missing flag; for `id`, `hashed` the width of the learned vector."""
    rows: int = 0
    """Rows of the table of an `id`, `hashed` or `categorical` input."""
    per_item: bool = False
    """Whether the value depends on the moment; else it is computed once per distinct node."""
    scale: float = 1.0
    """Factor that brings a dense input to unit mean square."""


@dataclass(frozen=True)
class TypeInputs:
    """The inputs of all items of one node type in a sample of n items with u distinct nodes."""

    distinct: int
    """u."""
    inverse: Tensor
    """int64[n]: row of each item among the distinct nodes; 0, 1, 2 ... when all are distinct."""
    values: tuple[Tensor, ...]
    """By input: `[u, ...]`, or `[n, ...]` if per item; float32 or bfloat16 columns, int64 codes or node indices, and
    for `hashed` the two rows of each."""


class InputReader:
    """Reads the inputs of sampled items from the graph; thread-safe, and without Python per item."""

    def __init__(
        self,
        graph: Graph,
        config: TrainingConfig,
        specs: Mapping[str, Sequence[InputSpec]] | None = None,
        *,
        inner_text: bool = False,
    ) -> None:
        """`specs` of a trained model, so that its scales are kept; measured from the graph when None.

        With `inner_text` the value of a text that has tokens is their row, int64 `[n]`, -1 where there is none:
        `inner_texts` puts vectors in its place.
        """
        self._inner_text = inner_text
        self.node_types = graph.node_types
        self._pool = BufferPool()
        self._dense = DenseRows(dtype_of(config.precision), config.threads, self._pool)
        self._num_nodes = {node: graph.num_nodes(node) for node in graph.node_types}
        self._features = {node: {f.name: f for f in graph.features(node)} for node in graph.node_types}
        happened = declared_edge_types(graph)  # a derived edge is nothing that happened to a node
        self._incoming = {
            node: [graph.edges(edge) for edge in happened if edge.dst == node] for node in graph.node_types
        }
        self._codes = {
            node: id_codes(graph.ids(node), config.identity_codes)
            for node in graph.node_types
            if config.identity_codes and graph.node_kind(node) == "attribute"
        }
        self.specs: dict[str, tuple[InputSpec, ...]] = {
            node: tuple(specs[node]) if specs is not None else self._measure(node, config) for node in graph.node_types
        }
        self._hashed = {
            node: hashed_rows(graph.ids(node), spec.rows // 2)
            for node, found in self.specs.items()
            for spec in found
            if spec.kind == "hashed"
        }

    def _measure(self, node: str, config: TrainingConfig) -> tuple[InputSpec, ...]:
        found = [_feature_spec(feature, self._num_nodes[node], config) for feature in self._features[node].values()]
        if node in self._codes:
            found.append(InputSpec("identity code", "code", config.identity_codes))
        if config.activity and self._incoming[node]:
            found.append(InputSpec("activity", "activity", 3 * len(self._incoming[node]), per_item=True))
        return tuple(found)

    def keep_rounded(self) -> None:
        """Have dense features as they are gathered, where that pays and memory allows: for many reads of every node."""
        self._dense.keep(
            ((node, spec.name), feature.values, spec.scale)
            for node, found in self.specs.items()
            for spec in found
            if spec.kind == "dense" and (feature := self._features[node][spec.name]).values is not None
            if not (self._inner_text and feature.tokens is not None)
        )

    def read(self, node: str, nodes: NDArray[np.int64], times: NDArray[np.int64]) -> TypeInputs:
        """The inputs of nodes `int64[n]` of one type as they were strictly before `times`, microseconds."""
        distinct, inverse = kernels.unique_rows(nodes)
        values = tuple(
            self._value(node, spec, nodes, times) if spec.per_item else self._value(node, spec, distinct)
            for spec in self.specs[node]
        )
        return TypeInputs(len(distinct), torch.from_numpy(inverse), values)

    def _value(
        self, node: str, spec: InputSpec, nodes: NDArray[np.int64], times: NDArray[np.int64] | None = None
    ) -> Tensor:
        if spec.kind == "id":
            return torch.from_numpy(nodes)
        if spec.kind == "hashed":
            return torch.from_numpy(self._hashed[node][nodes])
        feature = self._features[node].get(spec.name)
        if spec.kind == "categorical":
            assert feature is not None and feature.values is not None  # noqa: S101, PT018 - has an array
            return torch.from_numpy(_codes_at(feature.values, feature.rows(nodes, times)))
        n = len(nodes)
        if spec.kind == "code":
            out = self._pool.take(n, spec.columns, torch.float32)
            np.take(self._codes[node], nodes, axis=0, out=out.numpy())
        elif spec.kind == "activity":
            assert times is not None  # noqa: S101 - per item by construction
            out = self._pool.take(n, spec.columns, torch.float32)
            read_activity(self._incoming[node], nodes, times, out.numpy())
        else:
            assert feature is not None and feature.values is not None  # noqa: S101, PT018 - has an array
            if self._inner_text and feature.tokens is not None:
                return torch.from_numpy(feature.rows(nodes, times))
            out = self._dense.gather((node, spec.name), feature.values, feature.rows(nodes, times), spec.scale)
        return out


def _codes_at(values: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The code of each row, 0 for a missing one."""
    codes = np.zeros(len(rows), dtype=np.int64)
    known = rows >= 0
    codes[known] = values[rows[known]]
    return codes


def _feature_spec(feature: FeatureArray, num_nodes: int, config: TrainingConfig) -> InputSpec:
    versioned = feature.indptr is not None
    if feature.kind == "id" and config.id_buckets:
        return InputSpec(feature.name, "hashed", feature.dim, rows=2 * config.id_buckets)
    if feature.kind == "id":
        return InputSpec(feature.name, "id", feature.dim, rows=num_nodes + 1)
    if feature.kind == "categorical":
        return InputSpec(feature.name, "categorical", 0, rows=feature.dim, per_item=versioned)
    return InputSpec(feature.name, "dense", feature.dim + 1, per_item=versioned, scale=_scale(feature))


def _scale(feature: FeatureArray) -> float:
    """1 / root mean square of the entries, of rows spread evenly over the array; 1 for an empty or zero feature."""
    values = feature.values
    if values is None or not len(values):
        return 1.0
    rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), SCALE_ROWS)).astype(np.int64))
    if feature.present is not None:
        rows = rows[feature.present[rows]]
    square = float(np.square(values[rows], dtype=np.float64).mean()) if len(rows) else 0.0
    return float(np.float32(1.0 / np.sqrt(square))) if square > 0 else 1.0


def read_activity(
    incoming: Sequence[EdgeArrays], nodes: NDArray[np.int64], times: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Into `out`, float32[n, 3 x relations]: what `kernels.activity` tells of each relation before `times`."""
    none = np.empty(0, dtype=np.int64)
    for place, edges in enumerate(incoming):
        timestamps = none if edges.timestamps is None else edges.timestamps
        kernels.activity(edges.indptr, timestamps, nodes, times, out[:, 3 * place : 3 * place + 3])


def id_codes(ids: pa.Array[Any], width: int) -> NDArray[np.float32]:
    """float32[n, width]: a random code of +1 and -1 per external id, the same in every release."""
    return np.asarray(kernels.hash_codes(*text_bytes(ids), width))


class TypeEncoder(nn.Module):
    """Adds the projections of the inputs of one node type: `[n, dim]`, bfloat16 or float32 by `precision`."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        dim: int,
        id_dropout: float,
        precision: Precision = "float32",
        *,
        sparse: bool = False,
    ) -> None:
        """`sparse`: learned ids are moved by `ids.RowAdam`."""
        super().__init__()
        self.precision: Precision = precision
        self.specs = tuple(specs)
        self.id_dropout = id_dropout
        self.projections = nn.ParameterList()
        self.tables = nn.ModuleDict()
        for place, spec in enumerate(self.specs):
            rows = spec.rows if spec.kind == "categorical" else spec.columns
            spread = 1.0 if spec.kind == "categorical" else spec.columns**-0.5
            start = torch.default_generator
            if spec.kind == "dense":  # of equal width start alike: texts of all node types are comparable from step one
                start = torch.Generator().manual_seed(torch.initial_seed() + rows)
            self.projections.append(nn.Parameter(torch.randn(rows, dim, generator=start) * spread))
            if spec.kind == "id":
                self.tables[str(place)] = IdTable(spec.rows, spec.columns, sparse=sparse)
                self.register_buffer(f"seen_{place}", torch.zeros(spec.rows - 1, dtype=torch.bool))
            elif spec.kind == "hashed":
                self.tables[str(place)] = IdTable(spec.rows, spec.columns, spread=2**-0.5, sparse=sparse)
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: TypeInputs) -> Tensor:
        """`[n, dim]` for the items of this type."""
        shared: Tensor | None = None
        own: Tensor | None = None
        for place, spec in enumerate(self.specs):
            term = self._project(place, spec, inputs.values[place])
            if spec.per_item:
                own = term if own is None else own + term
            else:
                shared = term if shared is None else shared + term
        if own is None:  # then equal nodes have equal states, and one of each is enough
            if shared is None:
                shared = self.norm.weight.new_zeros(inputs.distinct, self.norm.normalized_shape[0])
            return expanded(self._normalised(shared), inputs)
        return self._normalised(own if shared is None else expanded(shared, inputs) + own)

    def _normalised(self, total: Tensor) -> Tensor:
        if len(self.specs) > 1:
            total = total * len(self.specs) ** -0.5
        return layer_norm(total.to(dtype_of(self.precision)), self.norm)

    def _project(self, place: int, spec: InputSpec, value: Tensor) -> Tensor:
        weight = self.projections[place]
        if spec.kind == "categorical":
            found: Tensor = functional.embedding(value, weight).to(dtype_of(self.precision))
            return found
        if spec.kind == "id":
            value = self.tables[str(place)](self._id_rows(place, spec, value))
        elif spec.kind == "hashed":
            value = self.tables[str(place)](value.reshape(-1)).view(len(value), 2, spec.columns).sum(dim=1)
        elif value.shape[1] != spec.columns:  # a gathered row ends with zeros, or without the flag
            weight = functional.pad(weight, (0, 0, 0, value.shape[1] - spec.columns))
        return matmul(value, weight, self.precision)

    def _id_rows(self, place: int, spec: InputSpec, nodes: Tensor) -> Tensor:
        """Row of the table for each node: its own if training has met it, else the last, which all others share.

        In training a share of the nodes takes the shared row at random: so it comes to mean "a node like any other".
        """
        seen: Tensor = getattr(self, f"seen_{place}")
        shared = torch.full_like(nodes, spec.rows - 1)
        if not self.training:
            return torch.where(seen[nodes], nodes, shared)
        seen[nodes] = True
        return torch.where(torch.rand(len(nodes), device=nodes.device) < self.id_dropout, shared, nodes)


def expanded(rows: Tensor, inputs: TypeInputs) -> Tensor:
    """`[n, d]`: the row of each item, from `[u, d]` of the distinct nodes; themselves when all items are distinct."""
    return rows if inputs.distinct == len(inputs.inverse) else expand(rows, inputs.inverse)


def specs_to_json(specs: Mapping[str, Sequence[InputSpec]]) -> dict[str, list[dict[str, Any]]]:
    """For config.json of a model."""
    return {node: [asdict(spec) for spec in found] for node, found in specs.items()}


def specs_from_json(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[InputSpec, ...]]:
    """From config.json of a model."""
    return {node: tuple(InputSpec(**dict(spec)) for spec in found) for node, found in data.items()}
