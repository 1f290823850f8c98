"""The encoder inside the GNN, frozen or trained along, beside vectors that are there before (STAR, table 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import compile_project
from texts import fine_tuned, with_text
from variants import Variant

from star_platform.gnn.config import TrainingConfig
from star_platform.graph.storage import Graph
from star_platform.project import Project
from star_platform.signals.model import Objective
from star_platform.text.config import TextConfig
from star_platform.text.inner import inner_text

MAX_TOKENS = 32
FAN_OUTS, WIDE, FEW = (5,), (10, 5), (2,)
SMALL = 32
EPOCHS = 2


def mode_study(project: Project, adapters: Sequence[Path]) -> tuple[Graph, dict[str, Objective], tuple[Variant, ...]]:
    """The graph with texts as vectors and as tokens, and the modes; `adapters` are of vectors that are there before."""
    own = project.file.text.model_copy(update={"adapter": None, "max_tokens": MAX_TOKENS})
    frozen = own.model_copy(update={"mode": "frozen"})
    there = with_text(project, frozen)
    graph, objectives = compile_project(there)

    def inside(name: str, factor: str, text: TextConfig, **settings: Any) -> Variant:
        return Variant(name, factor, settings, text=inner_text(text, there.encoder))

    learned = own.model_copy(update={"mode": "co-train", "cotrain": own.cotrain.model_copy(update={"lr": 1e-3})})
    small = {"batch_size": SMALL, "negatives": SMALL, "fan_outs": FEW}
    variants = (
        Variant("embedding", "vectors that are there before training"),
        Variant("embedding, wide", f"and more neighbours, {WIDE}", {"fan_outs": WIDE}),
        Variant("embedding, small", f"and batches of {SMALL}, {FEW[0]} neighbours", small),
        inside("frozen", "the encoder inside, frozen", frozen),
        inside("co-train", "the encoder inside, its adapter learns", learned),
        inside("co-train, small", f"and batches of {SMALL}, {FEW[0]} neighbours", learned, **small),
        *fine_tuned(project, own, adapters),
    )
    return graph, objectives, variants


def shrunk(training: TrainingConfig) -> TrainingConfig:
    """Training in which an encoder inside has a chance to end: each step encodes the texts of all that it reads."""
    return training.model_copy(update={"fan_outs": FAN_OUTS, "max_epochs": EPOCHS})
