"""The stages that leave an artefact, one function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from star_platform.registry.artefacts import Artefact
from star_platform.release.maps import alignment, build_maps
from star_platform.release.model import Run

if TYPE_CHECKING:
    from star_platform.gnn.config import TrainingConfig
    from star_platform.graph.derive import DerivedSpec
    from star_platform.graph.storage import Graph
    from star_platform.planning.stages import Stage
    from star_platform.signals.model import Objective


def _nodes(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import build_nodes

    return build_nodes(run.compiler(), str(stage.subject), stage.fingerprint)


def _edges(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import build_edges

    name = str(stage.subject)
    edge, nodes = run.spec.edges[name], run.of_kind("nodes")
    return build_edges(run.compiler(), name, nodes[edge.src.node], nodes[edge.dst.node], stage.fingerprint)


def _on_nodes(stage_kind: str) -> Callable[[Run, Stage], Artefact]:
    """Features, texts and cohorts: compiled against the nodes of the type that they describe."""

    def build(run: Run, stage: Stage) -> Artefact:
        from star_platform.graph import compile as graph

        name = str(stage.subject)
        node = run.spec.cohorts[name].node if stage_kind == "cohorts" else name.partition(".")[0]
        function = {"features": graph.build_feature, "texts": graph.build_texts, "cohorts": graph.build_cohort}[
            stage_kind
        ]
        return function(run.compiler(), name, run.of_kind("nodes")[node], stage.fingerprint)

    return build


def _text(run: Run, stage: Stage) -> Artefact:
    from star_platform.text.stage import encode_texts, fit_encoder

    shop, texts = run.shop, run.of_kind("texts")
    if not run.encoder:
        run.encoder.append(fit_encoder(shop.encoder, texts.values()))
    feature = str(stage.subject)
    encoder = run.encoder[0].for_feature(feature)
    return encode_texts(texts[feature], encoder, shop.text_cache, shop.store, stage.fingerprint, shop.progress)


def _graph(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import GraphParts, assemble_graph

    parts = GraphParts(
        nodes=run.of_kind("nodes"),
        edges=run.of_kind("edges"),
        features=run.of_kind("features"),
        texts=run.of_kind("texts"),
        vectors=run.of_kind("text"),
        cohorts=run.of_kind("cohorts"),
    )
    return assemble_graph(run.compiler(), parts, stage.fingerprint)


def _derive(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.derive import derive

    shop, graph = run.shop, run.graph()
    work_dir = shop.store.work_dir(stage.kind, stage.fingerprint)
    spec = derived_spec(graph, run.spec.objectives, shop.training)
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        draft.details.update(derive(graph, spec, draft.path, shop.progress, work_dir))
    return shop.store.open(stage.kind, stage.fingerprint)


def derived_spec(graph: Graph, objectives: Mapping[str, Objective], training: TrainingConfig) -> DerivedSpec:
    """What edges the training settings ask for, and the moments that the division of the examples gives."""
    import numpy as np

    from star_platform.gnn.classification import boundary_moments, split_labels
    from star_platform.gnn.split import split
    from star_platform.graph.densify import DensifySpec
    from star_platform.graph.derive import DerivedSpec, snapshot_moments
    from star_platform.graph.ppr import PprSpec

    bounds = boundary_moments(graph, objectives, training)
    times = [part.train.times for part in split(graph, objectives, training).values()]
    times += [part.train.times for part in split_labels(graph, objectives, training, bounds).values()]
    ppr, densify = training.ppr, training.densify
    walks = PprSpec(ppr.alpha, ppr.epsilon, ppr.top_k, ppr.channels, training.window_us)
    return DerivedSpec(
        moments=snapshot_moments(np.concatenate(times), *bounds, graph.as_of, ppr.snapshots),
        ppr=walks if training.strategy == "ppr" else None,
        densify=DensifySpec(**densify.model_dump()) if densify.neighbours else None,
    )


def _train(run: Run, stage: Stage) -> Artefact:
    from star_platform.gnn.trainer import train

    shop = run.shop
    work_dir, graph = shop.store.work_dir(stage.kind, stage.fingerprint), run.graph()
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        draft.details.update(
            train(
                graph,
                run.spec.objectives,
                shop.training,
                work_dir,
                draft.path,
                shop.progress,
                alignment=alignment(run, graph, work_dir),
                text=shop.inner_text,
            )
        )
    return shop.store.open(stage.kind, stage.fingerprint)


def _embed(run: Run, stage: Stage) -> Artefact:
    from star_platform.gnn.inference import embed

    shop = run.shop
    work_dir = shop.store.work_dir(stage.kind, stage.fingerprint)
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        details = embed(run.graph(), run.done["train"].path, draft.path, shop.progress, work_dir=work_dir)
        draft.details.update(details)
    return shop.store.open(stage.kind, stage.fingerprint)


def _evaluate(run: Run, stage: Stage) -> Artefact:
    from star_platform.evaluation.report import evaluate

    shop = run.shop
    work_dir = shop.store.work_dir(stage.kind, stage.fingerprint)
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        report = evaluate(
            run.graph(), run.done["train"].path, run.spec.objectives, shop.evaluation, work_dir, shop.progress
        )
        draft.details.update(report)
    return shop.store.open(stage.kind, stage.fingerprint)


BUILDERS: Mapping[str, Callable[[Run, Stage], Artefact]] = {
    "nodes": _nodes,
    "edges": _edges,
    "features": _on_nodes("features"),
    "texts": _on_nodes("texts"),
    "text": _text,
    "cohorts": _on_nodes("cohorts"),
    "graph": _graph,
    "derive": _derive,
    "train": _train,
    "embed": _embed,
    "evaluate": _evaluate,
    "compat": build_maps,
}
