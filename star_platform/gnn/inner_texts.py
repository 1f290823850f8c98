"""Texts inside the model: what the nodes of a batch say is encoded in each step, and the encoder may learn from it.

The rest of the model does not know: it is given the columns that stored vectors would have had. Once trained, the
vectors of all texts are written beside the model, so that whoever embeds or judges with it needs no encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputSpec, TypeInputs
from star_platform.gnn.gathering import expand
from star_platform.gnn.model_io import TEXT_FOLDER
from star_platform.gnn.precision import dtype_of
from star_platform.gnn.trees import Trees
from star_platform.graph.storage import FeatureArray, Graph
from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import read_artefact
from star_platform.text.huggingface import HuggingFaceEncoder
from star_platform.text.inner import InnerText, LearningTexts, vectors_of

ROWS = 4096


class InnerTexts(nn.Module):
    """Puts vectors in the place of text rows; what it learns is the adapter of the encoder."""

    def __init__(
        self,
        graph: Graph,
        specs: Mapping[str, Sequence[InputSpec]],
        text: InnerText,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.text = text
        self._nodes, self._specs = graph.node_types, specs
        self._features = {node: {found.name: found for found in graph.features(node)} for node in self._nodes}
        self._dtype = dtype_of(config.precision)
        self.encoder = text.open(device, config.seed)
        # the frozen weights below the adapter are no part of this module: a checkpoint need not hold them
        self.adapter = nn.ParameterDict(
            {name.replace(".", "/"): parameter for name, parameter in self.encoder.parameters().items()}
        )

    def forward(self, trees: Trees) -> Trees:
        """The trees with columns `[n, dim + 1]` for every text, and its missing flag last."""
        sequence = trees.sequence
        if sequence is not None:
            sequence = replace(sequence, inputs=self._all(sequence.inputs))
        return replace(trees, inputs=self._all(trees.inputs), sequence=sequence)

    def _all(self, inputs: Sequence[TypeInputs]) -> tuple[TypeInputs, ...]:
        return tuple(self._filled(node, found) for node, found in zip(self._nodes, inputs, strict=True))

    def _filled(self, node: str, inputs: TypeInputs) -> TypeInputs:
        parts = zip(self._specs[node], inputs.values, strict=True)
        values = tuple(
            self._columns(self._features[node][spec.name], spec, value)
            if spec.kind == "dense" and value.dim() == 1
            else value
            for spec, value in parts
        )
        return replace(inputs, values=values)

    def _columns(self, feature: FeatureArray, spec: InputSpec, rows: Tensor) -> Tensor:
        """`[n, dim + 1]` of text rows int64 `[n]`; each distinct text is encoded once."""
        distinct, places = np.unique(rows.numpy(), return_inverse=True)
        known = distinct[distinct >= 0]
        missing = nn.functional.pad(torch.zeros(1, spec.columns - 1), (0, 1), value=1.0)  # no vector, and the flag
        if len(known):
            assert feature.tokens is not None  # noqa: S101 - such rows are read for texts with tokens alone
            vectors = self.encoder(np.asarray(feature.tokens[known])) * spec.scale
            table = torch.cat([missing.to(vectors.device), nn.functional.pad(vectors, (0, 1))])
        else:
            table = missing.to(next(iter(self.parameters()), missing).device)
        if len(known) == len(distinct):
            places = places + 1  # nobody is missing, but the row is there
        return expand(table.to(self._dtype), torch.from_numpy(places.reshape(-1)).to(table.device))


def save_texts(folder: Path, graph: Graph, trained: InnerTexts, progress: Progress = SILENT) -> None:
    """Write the adapter, and the vectors of all texts of the graph as whoever loads that adapter gets them."""
    assert isinstance(trained.encoder, LearningTexts)  # noqa: S101 - a frozen encoder leaves nothing to save
    (folder / TEXT_FOLDER).mkdir()
    trained.encoder.save(folder / TEXT_FOLDER)
    write_vectors(graph, trained.text.encoder.adapted(folder / TEXT_FOLDER), folder / TEXT_FOLDER / "vectors", progress)


def write_vectors(graph: Graph, encoder: HuggingFaceEncoder, folder: Path, progress: Progress = SILENT) -> None:
    """`<node>.<feature>.npy`, float32 `[m, dim]`, of every text of the graph that has tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    for node in graph.node_types:
        for feature in graph.features(node):
            if feature.tokens is not None:
                name = f"{node}.{feature.name}"
                np.save(folder / f"{name}.npy", _encoded(feature, encoder, name, progress))


def _encoded(feature: FeatureArray, encoder: HuggingFaceEncoder, name: str, progress: Progress) -> NDArray[np.float32]:
    assert feature.tokens is not None  # noqa: S101 - checked by the caller
    vectors = np.zeros((len(feature.tokens), encoder.dim), np.float32)
    there = np.flatnonzero(feature.present if feature.present is not None else np.ones(len(vectors), np.bool_))
    with progress.task(f"encode {name}", total=len(there), unit="texts") as task:
        for first in range(0, len(there), ROWS):
            rows = there[first : first + ROWS]
            vectors[rows] = vectors_of(encoder, np.asarray(feature.tokens[rows]))
            task.advance(len(rows))
    return vectors


class RereadGraph(Graph):
    """A graph whose texts are read by another encoder than the one of its `text` stage."""

    def __init__(self, graph: Graph, vectors: Path) -> None:
        super().__init__(read_artefact(graph.path))
        self._vectors = vectors

    def _feature(self, full_name: str) -> FeatureArray:
        found, path = super()._feature(full_name), self._vectors / f"{full_name}.npy"
        return replace(found, values=np.load(path, mmap_mode="r")) if path.is_file() else found


def reread(graph: Graph, text: InnerText, model_dir: Path, work: Path, progress: Progress = SILENT) -> Graph:
    """Another graph with its texts as the model in `model_dir` reads them, encoded anew into `work`."""
    write_vectors(graph, text.encoder.adapted(model_dir / TEXT_FOLDER), work, progress)
    return RereadGraph(graph, work)


def as_read(graph: Graph, model_dir: Path) -> Graph:
    """The graph with its texts as the model in `model_dir` reads them: another one where their encoder was trained."""
    vectors = model_dir / TEXT_FOLDER / "vectors"
    return RereadGraph(graph, vectors) if vectors.is_dir() and not isinstance(graph, RereadGraph) else graph
