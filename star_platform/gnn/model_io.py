"""A trained model as files: `model.safetensors` for the weights and `config.json` for everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.decoder import PairDecoder, decoder_for
from star_platform.gnn.encoder import Encoder
from star_platform.gnn.features import InputSpec, specs_from_json, specs_to_json
from star_platform.gnn.sequence import SequenceTensors
from star_platform.gnn.temporal import SequenceEncoder
from star_platform.gnn.trees import Trees
from star_platform.graph.storage import EdgeType, Graph
from star_platform.planning.canonical import digest
from star_platform.text.adapters import WEIGHTS as ADAPTER

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TEXT_FOLDER = "text"
"""Of a model whose text encoder was trained along: the adapter, and `vectors/<node>.<feature>.npy`."""
FORMAT_VERSION = 3


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made for; with a TrainingConfig enough to build it without the graph."""

    graph: str
    """Content hash of the graph: learned ids and codes mean something on it only."""
    inputs: Mapping[str, Sequence[InputSpec]]
    relations: Sequence[EdgeType]
    weighted: bool
    objectives: Mapping[str, EdgeType]
    classes: Mapping[str, int] = field(default_factory=dict)
    """Number of classes of each node classification."""
    activities: int = 0
    """Number of relations that activities of the temporal encoder come in by; 0 without one."""

    def towers(self, config: TrainingConfig) -> tuple[int, ...]:
        """Which tower of a dual encoder each node type has: 1 for what is more often destination than source."""
        if config.towers == "single":
            return ()
        edges = self.objectives.values()
        lean = {node: sum((edge.dst == node) - (edge.src == node) for edge in edges) for node in sorted(self.inputs)}
        return tuple(int(lean[node] > 0) for node in sorted(self.inputs))


class Model(nn.Module):
    """The encoder of every node type, a decoder per link prediction and a head per node classification."""

    def __init__(self, spec: ModelSpec, config: TrainingConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.encoder = Encoder(
            spec.inputs, len(spec.relations), config, weighted=spec.weighted, towers=spec.towers(config)
        )
        self.sequence = SequenceEncoder(config, spec.activities, self.encoder.inputs) if spec.activities else None
        names = sorted(spec.objectives)
        self._places = {name: place for place, name in enumerate(names)}
        self.decoders = nn.ModuleList(decoder_for(config) for _ in names)
        self.heads = nn.ModuleDict({name: nn.Linear(config.dim, spec.classes[name]) for name in sorted(spec.classes)})

    def forward(self, trees: Trees) -> Tensor:
        """The vectors of the seeds, float32 `[b, dim]`."""
        return self.encode(trees)[0]

    def encode(self, trees: Trees) -> tuple[Tensor, Tensor | None]:
        """The vectors of the seeds, float32 `[b, dim]`, and in training the weighted loss of later activities."""
        return self.finish(functional.embedding(trees.seeds, self.encoder(trees)), trees.sequence)

    def finish(self, vectors: Tensor, sequence: SequenceTensors | None) -> tuple[Tensor, Tensor | None]:
        """What the temporal encoder makes of graph vectors `[b, dim]`; themselves without one."""
        if self.sequence is None or sequence is None:
            return vectors, None
        found: tuple[Tensor, Tensor | None] = self.sequence(vectors, sequence)
        return found

    def decoder(self, objective: str) -> PairDecoder:
        """The decoder of an objective; raises TrainingError M010 for one that the model was not trained for."""
        if objective not in self._places:
            known = ", ".join(self._places)
            raise TrainingError("M010", f"the model has no objective {objective!r}", hint=f"it has {known}")
        found = self.decoders[self._places[objective]]
        assert isinstance(found, PairDecoder)  # noqa: S101 - for the type checker
        return found

    def head(self, objective: str) -> nn.Module:
        """The linear head of a node classification; raises TrainingError M010 for one that is not known."""
        if objective not in self.heads:
            known = ", ".join(self.heads) or "none"
            raise TrainingError("M010", f"the model has no node classification {objective!r}", hint=f"it has {known}")
        return self.heads[objective]


AnyModel = TypeVar("AnyModel", bound=Model)


def new_model(spec: ModelSpec, config: TrainingConfig) -> Model:
    """A model with weights that depend on `config.seed` alone; torch's own random state is left there."""
    torch.manual_seed(config.seed)
    return Model(spec, config)


def save_model(folder: Path, model: Model, weights: Mapping[str, Tensor]) -> None:
    """Write `weights` and all that `load_model` needs into an existing folder."""
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    spec = model.spec
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "training": model.config.model_dump(mode="json"),
        "graph": spec.graph,
        "inputs": specs_to_json(spec.inputs),
        "relations": [list(relation) for relation in spec.relations],
        "weighted": spec.weighted,
        "objectives": {name: list(edge) for name, edge in spec.objectives.items()},
        "classes": dict(spec.classes),
        "activities": spec.activities,
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_model(folder: Path, graph: Graph) -> Model:
    """The trained model in `folder`, in evaluation mode.

    Raises:
        TrainingError: M008 when a file is missing or damaged, M009 when it was trained on another graph.
    """

    def restored(spec: ModelSpec, config: TrainingConfig, weights: Mapping[str, Tensor]) -> Model:
        model = Model(spec, config)
        model.load_state_dict(dict(weights))
        return model

    return read_model(folder, graph, restored)


def read_model(
    folder: Path, graph: Graph, restored: Callable[[ModelSpec, TrainingConfig, Mapping[str, Tensor]], AnyModel]
) -> AnyModel:
    """As `load_model`, for whatever model `restored` makes of a specification, a configuration and weights."""
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        spec = ModelSpec(
            graph=content["graph"],
            inputs=specs_from_json(content["inputs"]),
            relations=tuple(EdgeType(*relation) for relation in content["relations"]),
            weighted=content["weighted"],
            objectives={name: EdgeType(*edge) for name, edge in content["objectives"].items()},
            classes=content["classes"],
            activities=content["activities"],
        )
        config = TrainingConfig.model_validate(content["training"])
        model = restored(spec, config, load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            "M008", f"the model in {folder} cannot be read: {error}", hint="release again: it is trained anew"
        ) from error
    if spec.graph != graph.content_hash:
        raise TrainingError(
            "M009",
            f"the model in {folder} was trained on another graph",
            hint="embed the graph that it was trained on, or release again",
        )
    return model.eval()


def encoder_of(folder: Path) -> str:
    """Which encoder the model in `folder` has; raises TrainingError M008 when its configuration cannot be read."""
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["training"]["encoder"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            "M008", f"the model in {folder} cannot be read: {error}", hint="release again: it is trained anew"
        ) from error


def space_fingerprint(folder: Path) -> str:
    """Identity of the embedding space: equal exactly when the same weights make vectors in the same way."""
    adapter = f"{TEXT_FOLDER}/{ADAPTER}"
    names = [WEIGHTS, CONFIG, *([adapter] if (folder / adapter).is_file() else [])]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    return digest({"embedding-space": FORMAT_VERSION, **files})
