"""Train the releases, plain and jointly, embed them, and map them to the first one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from market import Version
from safetensors.torch import load_file, save_file

from star_platform.compat.compose import compose
from star_platform.compat.fit import r2, relative_penalty, ridge
from star_platform.compat.model import CompatMap, Vectors
from star_platform.compat.moments import Moments, moments
from star_platform.compat.pairs import hold_out, locate, pair
from star_platform.gnn.alignment import Alignment, AlignTarget, load_alignment
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.inference import Embedder
from star_platform.gnn.model_io import CONFIG, WEIGHTS, load_model, space_fingerprint
from star_platform.gnn.split import split
from star_platform.gnn.trainer import train
from star_platform.graph.storage import Graph
from star_platform.planning.canonical import digest
from star_platform.planning.spec import GraphSpec

NODES = ("job", "member")
HELD_OUT = 0.1
"""Of the common entities; neither joint training nor a map sees them, and `fidelity` is measured on them."""
BATCH = 512
Maps = Mapping[str, CompatMap]


@dataclass(frozen=True)
class Trained:
    """One model of one release."""

    version: Version
    graph: Graph
    spec: GraphSpec
    folder: Path
    """Model files, and vectors once they were asked for."""
    details: Mapping[str, object]

    @property
    def space(self) -> str:
        return space_fingerprint(self.folder)

    def vectors(self, node: str, at: int | None = None) -> Vectors:
        """Everyone's, as of a moment; as published (just after the newest edge) when None."""
        moment = self.graph.as_of + 1 if at is None else at
        path = self.folder / f"{node}-{moment}.npy"
        if not path.exists():
            everyone = np.arange(self.graph.num_nodes(node), dtype=np.int64)
            times = np.full(len(everyone), moment, dtype=np.int64)
            embedder = Embedder(self.graph, load_model(self.folder, self.graph))
            np.save(path, embedder.vectors(node, everyone, times))
        return Vectors(self.graph.ids(node), np.load(path, mmap_mode="r"))


def train_release(
    work: Path,
    version: Version,
    compiled: tuple[Graph, GraphSpec],
    training: TrainingConfig,
    alignment: Alignment | None = None,
) -> Trained:
    """Train, or find again what an earlier run of this script has trained; a killed run goes on."""
    graph, spec = compiled
    config = training.model_copy(update={"dim": version.dim})
    aligned = None if alignment is None else alignment.fingerprint
    key = digest([graph.content_hash, version.branches, config, spec.objectives, aligned])
    folder = work / "models" / f"{version.name}-{'plain' if alignment is None else alignment.mode}-{key[:8]}"
    done = folder / "details.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        details = train(graph, spec.objectives, config, folder / "scratch", folder, alignment=alignment)
        shutil.rmtree(folder / "scratch")
        done.write_text(json.dumps(details, indent=1, sort_keys=True), encoding="utf-8")
    return Trained(version, graph, spec, folder, json.loads(done.read_text(encoding="utf-8")))


def still_running(old: Trained, compiled: tuple[Graph, GraphSpec], work: Path) -> Trained:
    """The old model on newer data of the same branches: what its consumers would read had nobody retired it."""
    graph, spec = compiled
    folder = work / "models" / f"{old.folder.name}-on-{graph.content_hash[:8]}"
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(old.folder, draft, ignore=shutil.ignore_patterns("*.npy"))
        content = json.loads((draft / CONFIG).read_text(encoding="utf-8"))
        content["graph"] = graph.content_hash
        _move_learned_ids(draft / WEIGHTS, content["inputs"], old.graph, graph)
        (draft / CONFIG).write_text(json.dumps(content), encoding="utf-8")
        draft.replace(folder)
    return replace(old, graph=graph, spec=spec, folder=folder)


def _move_learned_ids(path: Path, inputs: dict[str, Any], old: Graph, new: Graph) -> None:
    """Learned ids are positions: to each node of the new graph its vector, or the shared one if it had none."""
    weights = load_file(path)
    for type_, node in enumerate(sorted(inputs)):
        places = torch.from_numpy(locate(new.ids(node), old.ids(node), node))
        for place, entry in enumerate(inputs[node]):
            if entry["kind"] == "id":
                entry["rows"] = len(places) + 1
                encoder = f"encoder.inputs.{type_}"
                table, seen = f"{encoder}.tables.{place}.weight", f"{encoder}.seen_{place}"
                shared = weights[table].shape[0] - 1
                rows = torch.where(places >= 0, places, shared)
                weights[table] = weights[table][torch.cat([rows, torch.tensor([shared])])]
                weights[seen] = (places >= 0) & weights[seen][places.clamp(min=0)]
    save_file(weights, path)


def align(
    graph: Graph,
    spec: GraphSpec,
    training: TrainingConfig,
    old: Trained,
    mode: Literal["single", "multi"],
    weight: float,
    earlier: Sequence[Maps] = (),
) -> Alignment:
    """To the stored vectors of `old`; `earlier`: maps from it to the releases before."""
    nodes = {}
    for node in NODES:
        known = old.vectors(node)
        pairs = pair(Vectors(graph.ids(node), np.empty((graph.num_nodes(node), 1), np.float32)), known, node)
        rows = np.flatnonzero(~hold_out(pairs.new.ids, pairs.rows, HELD_OUT, seed=0))
        maps = tuple(map_[node].weights.astype(np.float32) for map_ in earlier)
        nodes[node] = AlignTarget(pairs.rows[rows], pairs.old_rows[rows], known.vectors, maps)
    start = next(iter(split(graph, spec.objectives, training).values())).validation_start
    moment = min(old.graph.as_of + 1, start)
    older = [map_[node].fingerprint for map_ in earlier for node in NODES]
    key = digest([old.space, mode, weight, BATCH, moment, older if mode == "multi" else []])
    return Alignment(old.version.number, old.space, mode, weight, BATCH, moment, nodes, key)


def learned_maps(new: Trained, old: Trained) -> Maps:
    """What joint training has learned."""
    return {
        node: _map(node, new, old, b, np.zeros(b.shape[1]), "joint") for node, b in load_alignment(new.folder).items()
    }


def ridge_maps(new: Trained, old: Trained, *, same_moment: bool = True) -> Maps:
    """Fitted after training; both releases as of the old one's moment, or each as published."""
    maps = {}
    for node in NODES:
        fit, _ = _moments(node, new, old, same_moment)
        weights, bias = ridge(fit, relative_penalty(fit, 1e-3))
        maps[node] = _map(node, new, old, weights, bias, "ridge")
    return maps


def composed(*steps: Maps) -> Maps:
    """Newest first."""
    return {node: reduce(compose, (step[node] for step in steps)) for node in NODES}


def fidelity(maps: Maps, new: Trained, old: Trained) -> dict[str, float]:
    """R2 on held-out entities by node type, both releases as of the old one's moment."""
    found = {node: r2(_moments(node, new, old, True)[1], (map_.weights, map_.bias)) for node, map_ in maps.items()}
    return {node: value for node, value in found.items() if value is not None}


def _moments(node: str, new: Trained, old: Trained, same_moment: bool) -> tuple[Moments, Moments]:
    pairs = pair(new.vectors(node, old.graph.as_of + 1 if same_moment else None), old.vectors(node), node)
    held = hold_out(pairs.new.ids, pairs.rows, HELD_OUT, seed=0)
    return moments(pairs.take(~held)), moments(pairs.take(held))


def _map(
    node: str, new: Trained, old: Trained, weights: np.ndarray, bias: np.ndarray, method: Literal["ridge", "joint"]
) -> CompatMap:
    return CompatMap(
        node=node,
        source=new.version.number,
        target=old.version.number,
        source_space=new.space,
        target_space=old.space,
        weights=np.asarray(weights, dtype=np.float64),
        bias=np.asarray(bias, dtype=np.float64),
        normalise=False,
        method=method,
    )
