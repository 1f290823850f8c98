"""LTGNN over featured nodes of many types: the fixed point of what the input encoders say, over typed edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputSpec, TypeEncoder, TypeInputs
from star_platform.gnn.ltgnn import _typed_kernels as kernels
from star_platform.gnn.ltgnn.fixed_point import Memory, appnp, draw
from star_platform.gnn.ltgnn.matrix import Float32Array, Int64Array, Workers
from star_platform.gnn.ltgnn.typed import Moment, TypedEdges
from star_platform.gnn.runtime import moved
from star_platform.gnn.trees import Trees

CHUNK = 65_536
"""Nodes encoded at a time when all of them are."""
KEPT = 2
"""Snapshots whose vectors are kept when serving."""


@dataclass(frozen=True)
class Nodes(Trees):
    """The distinct nodes of a batch, by global id; without blocks, for the neighbours are in the memory."""

    gids: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """int64[items], ascending."""
    snapshot: int = 0
    """Which snapshot sees them."""
    step: int = 0
    """Chooses the draw."""


@dataclass(frozen=True)
class Field:
    """The graph that an encoder propagates over, and its inputs; it is no part of the weights."""

    edges: TypedEdges
    inputs: Callable[[str, Int64Array, int], TypeInputs]
    """Inputs of nodes of one type at a moment."""
    workers: Workers


@dataclass
class _Active:
    """The snapshot that training is in."""

    snapshot: int
    moment: Moment
    memory: Memory
    shares: Float32Array


class LtgnnEncoder(nn.Module):
    """Z = (1 - a) A~ Z + a E, where E are the outputs of the input encoders and A~ weighs edge types as it learned.

    In training a step moves the rows of its nodes once and the gradient is the implicit one (`fixed_point`); the memory
    begins anew, with the encoders and edge weights of that moment, when training enters another snapshot and after
    every validation, so that a resumed run has the same memory as one that was never interrupted. In evaluation the
    vectors of all nodes are computed by `validation_steps` full steps, once per snapshot.
    """

    def __init__(
        self, specs: Mapping[str, Sequence[InputSpec]], groups: int, snapshots: int, config: TrainingConfig
    ) -> None:
        """`groups`: edge types, each with its reverse; `snapshots`: moments that vectors are served from."""
        super().__init__()
        self.settings, self.dim, self.cosine = config.ltgnn, config.dim, config.decoder == "cosine"
        self.node_types = tuple(sorted(specs))
        self.inputs = nn.ModuleList(
            TypeEncoder(
                specs[node], config.dim, config.id_dropout, config.precision, sparse=config.id_optimizer == "sparse"
            )
            for node in self.node_types
        )
        self.maps = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in self.node_types)
        for each in self.maps:
            nn.init.eye_(cast(nn.Linear, each).weight)
        self.dropout = nn.Dropout(config.dropout)
        self.edge_weights = nn.Parameter(torch.full((groups,), float(np.log(np.e - 1.0))))  # softplus of it is 1
        self.register_buffer("moments", torch.zeros(snapshots, dtype=torch.int64))
        self._field: Field | None = None
        self._active: _Active | None = None
        self._served: dict[int, Float32Array] = {}

    def attach(self, field: Field) -> None:
        """Propagate over this graph from now on."""
        self._field, self._active, self._served = field, None, {}

    @property
    def strengths(self) -> Tensor:
        """Weight of each group of edges, beside the 1 of a node itself."""
        return functional.softplus(self.edge_weights)

    def train(self, mode: bool = True) -> LtgnnEncoder:
        """What was served is stale once training goes on, and the memory after a validation."""
        super().train(mode)
        if mode:
            self._served = {}
        else:
            self._active = None
        return self

    def forward(self, trees: Trees) -> Tensor:
        """float32 `[items, dim]` of the nodes of a batch."""
        nodes = cast(Nodes, trees)
        if not self.training:
            found = self.everyone(nodes.snapshot)[nodes.gids.cpu().numpy()]
            return torch.from_numpy(found).to(self.edge_weights.device)
        own = torch.cat([self._own(place, inputs) for place, inputs in enumerate(nodes.inputs)])
        mixed: Tensor = _Step.apply(own, self.edge_weights, self, nodes)  # type: ignore[no-untyped-call]
        return functional.normalize(mixed, dim=1) if self.cosine else mixed

    def _own(self, place: int, inputs: TypeInputs) -> Tensor:
        """E of nodes of one type.

        The outputs of the input encoders all have the same length: the map lets a type that says little speak softly,
        for what it says reaches every node around it.
        """
        found: Tensor = self.dropout(self.maps[place](self.inputs[place](inputs).float()))
        return found

    def _set_mode(self, training: bool) -> None:
        for each in (self.inputs, self.dropout):
            each.train(training)

    def everyone(self, snapshot: int) -> Float32Array:
        """float32 `[nodes, dim]`, by global id: the vectors of all nodes as a snapshot sees them."""
        if snapshot not in self._served:
            moment = self._at(snapshot)
            matrix, _ = moment.weighted(self._strengths())
            settings = self.settings
            found = appnp(
                matrix.forward, self._encoded(snapshot), settings.alpha, settings.validation_steps, self.over.workers
            )
            if self.cosine:
                found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
            self._served = dict([*self._served.items()][-(KEPT - 1) :]) | {snapshot: found}
        return self._served[snapshot]

    @property
    def over(self) -> Field:
        """The attached graph."""
        assert self._field is not None  # noqa: S101 - attached before the first use
        return self._field

    def active(self, snapshot: int) -> _Active:
        """The memory of a snapshot; entering another one begins it anew, keeping the gradient."""
        now = self._active
        if now is None or now.snapshot != snapshot:
            moment = self._at(snapshot)
            matrix, shares = moment.weighted(self._strengths())
            memory = Memory(matrix, self._encoded(snapshot), self.settings.alpha, self.over.workers)
            if now is not None:
                memory.gradient[:] = now.memory.gradient
            self._active = now = _Active(snapshot, moment, memory, shares)
        return now

    def _at(self, snapshot: int) -> Moment:
        return self.over.edges.at(self._moment(snapshot))

    def _moment(self, snapshot: int) -> int:
        return int(cast(Tensor, self.moments)[snapshot])

    def _strengths(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        found: np.ndarray[Any, np.dtype[np.float64]] = self.strengths.detach().cpu().double().numpy()
        return found

    def _encoded(self, snapshot: int) -> Float32Array:
        """E of all nodes at the snapshot's moment, as in evaluation; float32 `[nodes, dim]`."""
        offsets = self.over.edges.adjacency.offsets
        out = np.empty((int(offsets[-1]), self.dim), dtype=np.float32)
        mode = self.training
        self._set_mode(False)
        with torch.no_grad():
            for place, node in enumerate(self.node_types):
                first, last = int(offsets[place]), int(offsets[place + 1])
                for start in range(first, last, CHUNK):
                    here = slice(start, min(start + CHUNK, last))
                    indices = np.arange(here.start - first, here.stop - first, dtype=np.int64)
                    read = self.over.inputs(node, indices, self._moment(snapshot))
                    out[here] = self._own(place, moved(read, self.edge_weights.device)).cpu().numpy()
        self._set_mode(mode)
        return out


class _Step(torch.autograd.Function):
    """One step of a batch's rows towards the fixed point, and of their gradient on the way back."""

    @staticmethod
    def forward(context: Any, own: Tensor, edge_weights: Tensor, encoder: LtgnnEncoder, nodes: Nodes) -> Tensor:
        active = encoder.active(nodes.snapshot)
        rows = nodes.gids.cpu().numpy()
        matrix, workers = active.memory.matrix.forward, encoder.over.workers
        drawn = draw(matrix, rows, encoder.settings.neighbours, nodes.step, workers)
        inputs = np.ascontiguousarray(own.detach().cpu().numpy())
        _, vectors, received = active.memory.read(rows, inputs, drawn, np.arange(len(rows)))
        context.state = active, rows, drawn, vectors, received
        context.save_for_backward(edge_weights)
        return torch.from_numpy(vectors).to(own.device)

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        active, rows, drawn, vectors, received = context.state
        (edge_weights,) = context.saved_tensors
        memory: Memory = active.memory
        found = memory.settle(rows, vectors, np.ascontiguousarray(upstream[0].cpu().numpy()), received)
        slope = np.zeros(len(edge_weights), dtype=np.float64)
        kernels.strength_gradient(
            rows,
            drawn.counts,
            drawn.places,
            drawn.neighbours,
            drawn.weights,
            active.moment.groups,
            active.shares,
            found,
            memory.snapshot,
            memory.moving,
            slope,
        )
        slope *= (1.0 - memory.alpha) / memory.alpha
        # d log softplus(x) / dx = sigmoid(x) / softplus(x)
        chain = torch.sigmoid(edge_weights) / functional.softplus(edge_weights)
        device = edge_weights.device
        by_weight = torch.from_numpy(slope).to(device, edge_weights.dtype) * chain
        return torch.from_numpy(found).to(device), by_weight, None, None
