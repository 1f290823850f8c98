"""What texts are worth: a graph without them, weightless, by a frozen encoder, and by one that was fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runs import compile_project
from variants import Variant, with_features

from star_platform.graph.storage import Graph
from star_platform.project import Project
from star_platform.signals.model import Objective
from star_platform.text.config import TFIDF_SVD, TextConfig


def text_study(project: Project, adapters: Sequence[Path]) -> tuple[Graph, dict[str, Objective], tuple[Variant, ...]]:
    """The graph with the texts of the project's own encoder, unadapted, and what it is compared with."""
    own = project.file.text
    frozen = own.model_copy(update={"adapter": None})
    graph, objectives = compile_project(with_text(project, frozen))
    weightless = frozen.model_copy(update={"encoder": TFIDF_SVD, "pooling": "auto"})
    variants = [
        Variant("frozen", f"texts by {own.encoder}, as it comes"),
        Variant("no texts", "without features of kind text", view=without_texts),
        read_by(project, TFIDF_SVD, "texts weightless", weightless),
        *fine_tuned(project, own, adapters),
    ]
    return graph, objectives, tuple(variants)


def fine_tuned(project: Project, text: TextConfig, adapters: Sequence[Path]) -> list[Variant]:
    """Texts by the same encoder with each of the adapters, read as it was trained."""
    towers = text.finetune.towers.values() if text.finetune is not None else ()
    read_as_trained = {
        "prompts": {tower.feature: tower.prompt for tower in towers},
        "limits": {tower.feature: tower.max_tokens for tower in towers},
    }
    factor = f"texts by {text.encoder} with an adapter"
    return [
        read_by(
            project,
            f"fine-tuned {adapter.name[:8]}",
            factor,
            text.model_copy(update={"adapter": str(adapter.resolve()), **read_as_trained}),
        )
        for adapter in adapters
    ]


def read_by(project: Project, name: str, factor: str, text: TextConfig) -> Variant:
    """The project's graph with its texts read in another way."""
    found = compile_project(with_text(project, text))[0]

    def view(_: Graph) -> Graph:
        return found

    return Variant(name, factor, view=view)


def without_texts(graph: Graph) -> Graph:
    """The same graph without its texts."""
    features = {name: entry for name, entry in graph.manifest["features"].items() if entry["kind"] != "text"}
    return with_features(graph, features)


def with_text(project: Project, text: TextConfig) -> Project:
    """The project with another section `text`."""
    return Project(project.root, project.file.model_copy(update={"text": text}))
