"""What the ablation compares: one base, and variants that differ from it in one factor each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from star_platform.gnn.config import TrainingConfig
from star_platform.graph.storage import Graph
from star_platform.planning.canonical import digest
from star_platform.text.inner import InnerText

View = Callable[[Graph], Graph]
ID_DIM = 32


@dataclass(frozen=True)
class Variant:
    """What differs from the base, in the training settings or in what the model is shown of the graph."""

    name: str
    factor: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    view: View | None = None
    text: InnerText | None = None
    """The encoder of texts, where it is inside the GNN."""

    def config(self, base: TrainingConfig, seed: int) -> TrainingConfig:
        """The settings of one run; sections are merged key by key."""
        given = base.model_dump()
        for name, value in self.settings.items():
            given[name] = {**given[name], **value} if isinstance(value, Mapping) else value
        return TrainingConfig.model_validate(given | {"seed": seed})

    def shown(self, graph: Graph) -> Graph:
        return graph if self.view is None else self.view(graph)


def without_ids(graph: Graph) -> Graph:
    """The same graph without learned id vectors."""
    features = {name: entry for name, entry in graph.manifest["features"].items() if entry["kind"] != "id"}
    return with_features(graph, features)


def with_entity_ids(graph: Graph) -> Graph:
    """The same graph with a learned id vector of every entity beside what the branches declare."""
    features = dict(graph.manifest["features"])
    for node in graph.node_types:
        own = [entry for name, entry in features.items() if name.startswith(f"{node}.") and entry["kind"] == "id"]
        if graph.node_kind(node) == "entity" and not own:
            features[f"{node}.ablation_id"] = {"kind": "id", "dim": ID_DIM}
    return with_features(graph, features)


def with_features(graph: Graph, features: Mapping[str, Any]) -> Graph:
    """A view with other features; it has an identity of its own, so that no model is taken for one of the graph's."""
    view = copy.copy(graph)
    view.manifest = {**graph.manifest, "features": dict(features)}
    view.content_hash = digest([graph.content_hash, sorted(features)])
    return view


BASE = TrainingConfig(
    dim=100,
    heads=5,  # divides every dimension of the table
    fan_outs=(10, 5),
    batch_size=256,
    negatives=256,
    lr=0.004,
    max_epochs=4,
    patience=3,
    validate_every=0.5,
    validation_examples=500,
    threads=1,
    device="cpu",
)
"""Small, so that the table fits into an hour of one core: it compares, and is not the best that there is."""

VARIANTS = (
    Variant("base", "attention, dim 100, single, uniform, joint budget, ids as declared"),
    Variant("dim 50", "dimensions", {"dim": 50}),
    Variant("dim 200", "dimensions", {"dim": 200}),
    Variant("mean", "encoder", {"encoder": "mean"}),
    Variant("dual", "towers", {"towers": "dual"}),
    Variant("latest", "sampler", {"strategy": "latest"}),
    Variant("ppr", "sampler", {"strategy": "ppr"}),
    Variant("per relation", "budget: as many neighbours of each relation", {"budget": "per-relation"}),
    Variant(
        "per relation, thin",
        "budget: about as many neighbours in all",
        {"budget": "per-relation", "fan_outs": (2, 1)},
    ),
    Variant("densified", "similar nodes", {"densify": {"neighbours": 10}}),
    Variant("no ids", "learned ids", view=without_ids),
    Variant("entity ids", "learned ids", view=with_entity_ids),
    Variant("adaptive", "fan-out grows", {"adaptive": {"enabled": True, "start": 2, "grow": 4}}),
)


def chosen(names: list[str] | None) -> tuple[Variant, ...]:
    """The named variants, always with the base that they are compared with; all of them when None."""
    if names is None:
        return VARIANTS
    known = {variant.name for variant in VARIANTS}
    for name in names:
        if name not in known:
            raise SystemExit(f"no variant {name!r}; there are: {', '.join(sorted(known))}")
    return tuple(variant for variant in VARIANTS if variant.name in {"base", *names})
