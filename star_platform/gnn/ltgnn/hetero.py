"""`encoder: ltgnn` on featured graphs of many node types: reading, training and loading of such a model.

The trainer is that of other encoders; it differs in what a batch reads (the nodes themselves, no neighbourhoods), in
the encoder, and in the examples: `windows` says which are learned, and from which edges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn import runtime
from star_platform.gnn.batches import VALIDATION_STEP, Batch, BatchMaker, Maker, Schedule, StepKey
from star_platform.gnn.classification import ClassificationMaker, label_features
from star_platform.gnn.clock import Clock
from star_platform.gnn.config import AdaptiveConfig, TrainingConfig
from star_platform.gnn.course import Course
from star_platform.gnn.features import InputReader, InputSpec, TypeInputs
from star_platform.gnn.ltgnn.encoder import Field, LtgnnEncoder, Nodes
from star_platform.gnn.ltgnn.matrix import Int64Array, Workers
from star_platform.gnn.ltgnn.typed import TypedEdges, edge_groups
from star_platform.gnn.ltgnn.windows import SNAPSHOTS, cuts_of, moments, snapshot_of
from star_platform.gnn.model_io import Model, ModelSpec, read_model
from star_platform.gnn.objectives import UncertaintyWeights
from star_platform.gnn.optimiser import UNDECAYED, Optimiser
from star_platform.gnn.split import link_predictions
from star_platform.gnn.tasks import Tasks
from star_platform.gnn.trainer import WEIGHTS_OF_OBJECTIVES, Trainer
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import EdgeType, Graph
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress
from star_platform.signals.model import Objective

WALK = 2
"""Steps of the walks from the nodes of a batch, whose nodes move with it."""


class NodeReader(TreeReader):
    """Reads the distinct nodes of a batch as the latest snapshot before its earliest example saw them."""

    def __init__(
        self,
        graph: Graph,
        config: TrainingConfig,
        supervised: Collection[EdgeType],
        specs: Mapping[str, Sequence[InputSpec]] | None = None,
        labels: Collection[str] = (),
    ) -> None:
        """`supervised`: the edges of the objectives; `specs` and `labels` as for `TreeReader`."""
        self.edges = TypedEdges.of(graph, supervised)
        self.adjacency = self.edges.adjacency
        self.clock = Clock()
        self.inputs = InputReader(graph, config, specs)
        if specs is None and labels:
            self.inputs.specs = {
                node: tuple(spec for spec in found if f"{node}.{spec.name}" not in labels)
                for node, found in self.inputs.specs.items()
            }
        self._offsets, self._node_types = self.adjacency.offsets, self.adjacency.node_types
        self._threads, self._seed = config.threads, config.seed
        self.moments = np.zeros(1, dtype=np.int64)
        """Of the snapshots, ascending."""

    @property
    def field(self) -> Field:
        """What an encoder is attached to."""
        return Field(self.edges, self.inputs_at, Workers(self._threads))

    def inputs_at(self, node: str, indices: Int64Array, moment: int) -> TypeInputs:
        """Inputs of nodes `[n]` of one type strictly before a moment."""
        return self.inputs.read(node, indices, np.full(len(indices), moment, dtype=np.int64))

    def read(
        self,
        gids: Int64Array,
        times: Int64Array,
        step: int,
        exclude: Int64Array | None = None,  # noqa: ARG002 - no edge of an example is propagated (`windows`, `typed`)
    ) -> Nodes:
        """The nodes `gids [b]`, and in training those that random walks from them come by.

        Only rows of a batch move, their memory and their gradient. Users and items are in batches themselves; a skill
        or a company is in no example, and what a vector of it should be is learned because walks bring it along.
        """
        snapshot = int(snapshot_of(self.moments, times.min(keepdims=True))[0]) if len(times) else 0
        moment = int(self.moments[snapshot])
        with self.clock.measured("sample"):
            distinct = np.unique(gids)
            if step < VALIDATION_STEP:
                met = self.edges.walks(distinct, moment, WALK, (self._seed << 45) ^ step)
                distinct = np.unique(np.concatenate([distinct, met.ravel()]))
        with self.clock.measured("gather"):
            bounds = np.searchsorted(distinct, self._offsets)
            inputs = tuple(
                self.inputs_at(node, distinct[bounds[t] : bounds[t + 1]] - self._offsets[t], moment)
                for t, node in enumerate(self._node_types)
            )
        return Nodes(
            inputs=inputs,
            blocks=(),
            slices=(tuple(int(bound) for bound in bounds),),
            seeds=torch.from_numpy(np.searchsorted(distinct, gids).astype(np.int64)),
            gids=torch.from_numpy(distinct.astype(np.int64)),
            snapshot=snapshot,
            step=step,
        )


class LtgnnModel(Model):
    """A `Model` whose encoder is LTGNN's."""

    def __init__(self, spec: ModelSpec, config: TrainingConfig, groups: int, snapshots: int) -> None:
        super().__init__(spec, config)
        encoder: Any = LtgnnEncoder(spec.inputs, groups, snapshots, config)
        self.encoder = encoder

    @property
    def field_encoder(self) -> LtgnnEncoder:
        """The encoder."""
        found: Any = self.encoder
        assert isinstance(found, LtgnnEncoder)  # noqa: S101 - for the type checker
        return found


class Windows:
    """The steps of an epoch, window after window; within a window as `Schedule` has them."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        self._schedules = schedules

    def epoch(self, number: int) -> list[StepKey]:
        width = len(self._schedules)
        return [key for at, each in enumerate(self._schedules) for key in each.epoch(number * width + at)]

    def make(self, key: StepKey) -> Batch:
        return self._schedules[(key.step >> 24) % len(self._schedules)].make(key)


class LtgnnTrainer(Trainer):
    """`Trainer` over windows of time and an implicit encoder."""

    def __init__(self, graph: Graph, objectives: Mapping[str, Objective], config: TrainingConfig) -> None:
        """Adaptive fan-outs and MLPInit mean nothing here: there is no fan-out."""
        self.graph = graph
        self.config = config.model_copy(update={"mlp_init": 0, "adaptive": AdaptiveConfig()})
        self.course, self.texts = Course(self.config, 0), None
        self.device = runtime.device_of(config.device)
        whole = Tasks.of(graph, objectives, config)
        supervised = [part.edge for part in whole.links.values()]
        self.reader: NodeReader = NodeReader(graph, config, supervised, labels=label_features(objectives))
        self.reader.moments = moments(whole, graph.as_of)
        cuts = cuts_of(self.reader.moments, whole.validation_start)
        self.tasks = _learned(whole, cuts[0])
        spec = ModelSpec(
            graph=graph.content_hash,
            inputs=self.reader.inputs.specs,
            relations=self.reader.edges.groups,
            weighted=self.reader.adjacency.weights is not None,
            objectives={name: part.edge for name, part in whole.links.items()},
            classes={name: part.num_classes for name, part in whole.labels.items()},
        )
        torch.manual_seed(config.seed)
        self.model: LtgnnModel = LtgnnModel(spec, config, len(spec.relations), len(self.reader.moments))
        encoder = self.model.field_encoder
        encoder.moments.copy_(torch.from_numpy(self.reader.moments))  # type: ignore[operator]
        encoder.attach(self.reader.field)
        self.learned = nn.ModuleDict({"model": self.model})
        self.aligner = None
        self.uncertainty: UncertaintyWeights | None = None
        if config.objective_weights == "uncertainty":
            self.uncertainty = UncertaintyWeights(whole.weights)
            self.learned[WEIGHTS_OF_OBJECTIVES] = self.uncertainty
        self.learned.to(self.device)
        self.training: Any = Windows(_schedules(graph, self.reader, whole, cuts, config))
        self.validating = whole.schedule(graph, self.reader, config, validate=True)
        undecayed = [module for name, module in self.learned.items() if name != "model"]
        self.optimiser = Optimiser(self.learned, dict.fromkeys(undecayed, UNDECAYED), config)
        self.key = digest({"graph": graph.content_hash, "config": config, "objectives": dict(objectives)})


def train(
    graph: Graph,
    objectives: Mapping[str, Objective],
    config: TrainingConfig,
    work_dir: Path,
    out_dir: Path,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """As `trainer.train`, for `encoder: ltgnn`.

    Raises:
        TrainingError: as `trainer.train`; M034 when nothing is left to learn after the first cut of time.
    """
    runtime.keep_freed_memory()
    with runtime.torch_threads(config.threads):
        return LtgnnTrainer(graph, objectives, config).run(work_dir, out_dir, progress)


def load(folder: Path, graph: Graph) -> LtgnnModel:
    """The trained model in `folder`, in evaluation mode, over the graph that it was trained on.

    Raises:
        TrainingError: M008 when a file is missing or damaged, M009 when it was trained on another graph.
    """
    return read_model(folder, graph, restored)


def restored(spec: ModelSpec, config: TrainingConfig, weights: Mapping[str, Tensor]) -> LtgnnModel:
    """The model of these weights; raises KeyError or RuntimeError where they do not fit."""
    snapshots = len(weights["encoder.moments"])
    if snapshots > SNAPSHOTS:
        raise ValueError(f"{snapshots} snapshots")
    model = LtgnnModel(spec, config, len(spec.relations), snapshots)
    model.load_state_dict(dict(weights))
    return model


def reader_of(graph: Graph, model: LtgnnModel) -> NodeReader:
    """What the model reads a graph with; the model is attached to it.

    Raises:
        TrainingError: M009 when the graph has other edge types than the model learned weights for.
    """
    supervised = list(model.spec.objectives.values())
    if edge_groups(graph, supervised) != tuple(model.spec.relations):
        raise TrainingError("M009", "the model has learned weights of other edge types than the graph has")
    reader = NodeReader(graph, model.config, supervised, model.spec.inputs)
    found: Any = model.field_encoder.moments
    reader.moments = found.cpu().numpy()
    model.field_encoder.attach(reader.field)
    return reader


def _learned(tasks: Tasks, first: int) -> Tasks:
    """Without the training examples before the first cut: they are history only."""
    links = {
        name: replace(part, train=part.train.take(part.train.times >= first)) for name, part in tasks.links.items()
    }
    labels = {
        name: replace(part, train=part.train.take(part.train.times >= first)) for name, part in tasks.labels.items()
    }
    return replace(tasks, links=links, labels=labels)


def _schedules(
    graph: Graph, reader: NodeReader, tasks: Tasks, cuts: Int64Array, config: TrainingConfig
) -> list[Schedule]:
    """The steps of each window: examples from its cut to the next one."""
    bounds = [*(int(cut) for cut in cuts), int(np.iinfo(np.int64).max)]
    found = []
    for first, last in pairwise(bounds):
        makers: dict[str, Maker] = {}
        for name, objective in link_predictions(tasks.objectives).items():
            part = tasks.links[name]
            here = part.train.take((part.train.times >= first) & (part.train.times < last))
            if tasks.weights[name] > 0 and len(here):
                makers[name] = BatchMaker(graph, reader, objective, part.edge, here, part.train, config)
        for name, label in tasks.labels.items():
            nodes = label.train.take((label.train.times >= first) & (label.train.times < last))
            if tasks.weights[name] > 0 and len(nodes):
                makers[name] = ClassificationMaker(reader, label.node, nodes, config)
        if makers:
            found.append(Schedule(makers, config.seed))
    return found
