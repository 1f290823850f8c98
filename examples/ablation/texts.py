"""What texts are worth: a graph without them, weightless, by a frozen encoder, and by one that was fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runs import compile_project
from variants import Variant, with_features

from star_platform.graph.storage import Graph
from star_platform.project import Project
from star_platform.signals.model import Objective
from star_platform.text.config import TFIDF_SVD


def text_study(project: Project, adapters: Sequence[Path]) -> tuple[Graph, dict[str, Objective], tuple[Variant, ...]]:
    """The graph with the texts of the project's own encoder, unadapted, and what it is compared with."""
    own = project.file.text
    frozen = own.model_copy(update={"adapter": None})
    graph, objectives = compile_project(with_text(project, frozen))

    def other(name: str, factor: str, text: object) -> Variant:
        found = compile_project(with_text(project, text))[0]

        def view(_: Graph) -> Graph:
            return found

        return Variant(name, factor, view=view)

    variants = [
        Variant("frozen", f"texts by {own.encoder}, as it comes"),
        Variant("no texts", "without features of kind text", view=without_texts),
        other(TFIDF_SVD, "texts weightless", frozen.model_copy(update={"encoder": TFIDF_SVD, "pooling": "auto"})),
    ]
    towers = own.finetune.towers.values() if own.finetune is not None else ()
    read_as_trained = {
        "prompts": {tower.feature: tower.prompt for tower in towers},
        "limits": {tower.feature: tower.max_tokens for tower in towers},
    }
    for adapter in adapters:
        adapted = own.model_copy(update={"adapter": str(adapter.resolve()), **read_as_trained})
        variants.append(other(f"fine-tuned {adapter.name[:8]}", f"texts by {own.encoder} with an adapter", adapted))
    return graph, objectives, tuple(variants)


def without_texts(graph: Graph) -> Graph:
    """The same graph without its texts."""
    features = {name: entry for name, entry in graph.manifest["features"].items() if entry["kind"] != "text"}
    return with_features(graph, features)


def with_text(project: Project, text: object) -> Project:
    """The project with another section `text`."""
    return Project(project.root, project.file.model_copy(update={"text": text}))
