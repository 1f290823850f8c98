"""Training settings in words: each with its value, where that comes from, what it means. Free of torch and numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.presets import PRESETS

Origin = Literal["star.yaml", "preset", "default"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("encoder", "dim", "multiplier", "heads", "target_in_attention", "towers", "norm", "sequence", "ltgnn"),
    "neighbours": ("strategy", "fan_outs", "budget", "window", "moment", "adaptive", "ppr", "densify", "grouping"),
    "inputs": ("id_buckets", "id_optimizer", "id_dropout", "identity_codes", "activity", "age_encoding"),
    "decoder and loss": ("decoder", "loss", "negatives", "objective_weights", "repeats"),
    "examples": ("validation_share", "test_share", "validation_examples", "validate_every", "patience"),
    "optimisation": (
        "lr",
        "weight_decay",
        "batch_size",
        "gradient_batches",
        "max_epochs",
        "mlp_init",
        "dropout",
        "seed",
    ),
    "machine": ("device", "precision", "compile", "threads", "inference"),
}
"""Every key of `training:` but `preset`, under one heading."""

SECTIONS: Mapping[str, tuple[str, Any, str]] = {
    "sequence": ("activities", 0, "no temporal encoder"),
    "adaptive": ("enabled", False, "the fan-out is fixed"),
    "densify": ("neighbours", 0, "no edges are added"),
    "ppr": ("", "", "only for strategy ppr"),
    "ltgnn": ("", "", "only for encoder ltgnn"),
}
"""Nested sections: the key and value that turn them off, and what is said then."""

MEANS: Mapping[str, str | Mapping[Any, str]] = {
    "encoder": {
        "attention": "neighbours are weighed by multi-head attention",
        "mean": "the mean of neighbours (GraphSAGE)",
        "ltgnn": "implicit propagation at a cost linear in edges",
    },
    "dim": "numbers per vector",
    "multiplier": "inner width of a layer, in units of dim",
    "heads": "of attention",
    "target_in_attention": {True: "a node attends to itself as well", False: "a node reaches itself past attention"},
    "towers": {"single": "one set of layers for both sides", "dual": "layers of their own for source and destination"},
    "norm": {"layer": "per node", "batch": "over the nodes of a step, as STAR", "none": "no normalisation"},
    "sequence.activities": "latest interactions read per node",
    "sequence.tokens": "pieces of the graph's vector that read them",
    "sequence.layers": "of the transformer",
    "sequence.heads": "of the transformer",
    "sequence.long_term": "later activities that each predicts",
    "sequence.long_term_weight": "of that loss",
    "ltgnn.alpha": "share of a node's own input in its fixed point",
    "ltgnn.neighbours": "drawn per node and step; the rest is remembered",
    "ltgnn.validation_steps": "full propagations before vectors are read",
    "strategy": {
        "uniform": "any earlier neighbours",
        "latest": "the latest of the earlier ones",
        "weighted": "earlier ones by edge weight",
        "ppr": "the best by personalised PageRank",
    },
    "fan_outs": "neighbours per node, nearest hop first",
    "budget": {"joint": "counted over all relations of a node", "per-relation": "counted for each relation"},
    "window": "how far back a neighbour may lie; null: any time",
    "moment": {"example": "each example at its own time", "step": "all at the earliest of the step: fewer draws"},
    "adaptive.enabled": "the fan-out grows when validation stalls",
    "adaptive.start": "neighbours per hop at first",
    "adaptive.grow": "more at each stall",
    "adaptive.tolerance": "of AUC that validation must gain",
    "adaptive.decay": "of the tolerance, per validation",
    "adaptive.full_share": "of the steps, at least, at the full fan-out",
    "ppr.alpha": "chance that a walk starts again",
    "ppr.epsilon": "residual that is not pushed on",
    "ppr.top_k": "kept per node and channel",
    "ppr.channels": "edge types that walks may take",
    "ppr.snapshots": "moments at which scores are made",
    "densify.neighbours": "similar nodes joined to each lonely one",
    "densify.low": "lonely: up to this quantile of degree",
    "densify.high": "well connected: from this quantile on",
    "densify.nodes": "node types; empty: entities with text or vector",
    "grouping": {True: "a source's examples share a step", False: "examples are not grouped by source"},
    "id_buckets": "rows per table of a hashed id; 0: a row per node",
    "id_optimizer": {"dense": "moves every row at every step", "sparse": "moves only the rows of a step"},
    "id_dropout": "of known ids stand in for unknown ones",
    "identity_codes": "width of a fixed code per attribute node",
    "activity": {True: "a node sees how often it acted, and when", False: "no activity counts"},
    "age_encoding": {True: "attention sees the age of an edge", False: "attention does not see ages"},
    "decoder": {
        "dot": "dot product; stores can search it",
        "cosine": "vectors of length 1; stores can search them",
        "hadamard": "weighted product; only the model can score",
        "mlp": "a small network; only the model can score",
    },
    "loss": {"bce": "each pair is judged by itself", "softmax": "the positive against its negatives"},
    "negatives": "drawn per step, shared by its positives",
    "objective_weights": {"fixed": "as declared in branches", "uncertainty": "learned, times the declared ones"},
    "repeats": {"first": "only the first edge of a pair is an example", "all": "every edge is an example"},
    "validation_share": "of the examples, before test",
    "test_share": "of the examples, the latest",
    "validation_examples": "scored at most, per objective",
    "validate_every": "of an epoch",
    "patience": "validations without a better one",
    "lr": "learning rate",
    "weight_decay": "of AdamW",
    "batch_size": "positives per step",
    "gradient_batches": "steps averaged before weights move",
    "max_epochs": "at most",
    "mlp_init": "epochs without edges first",
    "dropout": "of hidden values",
    "seed": "of every random draw",
    "device": {"auto": "a GPU where there is one", "cpu": "the processor", "cuda": "the GPU"},
    "precision": {"float32": "everywhere", "bf16": "products and hidden states in bfloat16"},
    "compile": {True: "through torch.compile", False: "kernels as they are"},
    "threads": "of torch; part of what makes bytes equal",
    "inference": {
        "sampled": "vectors from sampled neighbours, as in training",
        "layer-wise": "vectors from all neighbours, layer by layer",
    },
}
"""A few words per key, or per value of a choice."""


@dataclass(frozen=True)
class Setting:
    """One setting as `train --explain` shows it."""

    key: str
    value: Any
    """As JSON; None with `off` for a section that is not in use."""
    origin: Origin
    means: str
    off: bool = False


def explained(config: TrainingConfig, given: Mapping[str, Any]) -> dict[str, list[Setting]]:
    """The settings by heading; `given` is what star.yaml says below `training`."""
    values = config.model_dump(mode="json")
    preset = PRESETS[config.preset].settings if config.preset else {}
    return {
        heading: [setting for key in keys for setting in _settings(key, values[key], config, given, preset)]
        for heading, keys in GROUPS.items()
    }


def _settings(
    key: str, value: Any, config: TrainingConfig, given: Mapping[str, Any], preset: Mapping[str, Any]
) -> Iterator[Setting]:
    if not isinstance(getattr(config, key), BaseModel):
        yield Setting(key, value, _origin(key, given, preset), word(key, value))
        return
    inner_given, inner_preset = given.get(key) or {}, preset.get(key) or {}
    if not in_use(config, key):
        yield Setting(key, None, _origin(key, given, preset), SECTIONS[key][2], off=True)
        return
    for name, inner in value.items():
        yield Setting(f"{key}.{name}", inner, _origin(name, inner_given, inner_preset), word(f"{key}.{name}", inner))


def in_use(config: TrainingConfig, section: str) -> bool:
    """Whether a nested section has an effect."""
    if section == "ppr":
        return config.strategy == "ppr"
    if section == "ltgnn":
        return config.encoder == "ltgnn"
    switch, off, _ = SECTIONS[section]
    return bool(getattr(getattr(config, section), switch) != off)


def word(key: str, value: Any) -> str:
    """What a setting means."""
    found = MEANS[key]
    return found if isinstance(found, str) else found[value]


def _origin(key: str, given: Mapping[str, Any], preset: Mapping[str, Any]) -> Origin:
    if key in given:
        return "star.yaml"
    return "preset" if key in preset else "default"
