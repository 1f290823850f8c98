"""Compat maps in a release: which space training stays close to, and the maps to every space that is still read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.release.model import Run

if TYPE_CHECKING:
    from star_platform.compat.model import CompatMap, SpaceVectors
    from star_platform.compat.stage import Older
    from star_platform.gnn.alignment import Alignment, AlignTarget
    from star_platform.graph.storage import Graph
    from star_platform.planning.settings import ServedSpace
    from star_platform.planning.stages import Stage
    from star_platform.publishing.model import NodeVectors
    from star_platform.registry.registry import Registry
    from star_platform.registry.values import ReleaseArtefact

THIS = 0
"""The release under way, inside its artefacts: they do not know its number, so another release may reuse them."""


# --- what was released ------------------------------------------------------------------------------------------------


def entity_vectors(graph: Graph, folder: Path) -> list[NodeVectors]:
    """The stored embeddings of every entity node type: `<node>.npy`, float32 [n, dim], beside the ids of the graph."""
    import numpy as np

    from star_platform.publishing.model import NodeVectors

    return [
        NodeVectors(node, graph.ids(node), np.load(folder / f"{node}.npy", mmap_mode="r"))
        for node in graph.node_types
        if graph.node_kind(node) == "entity"
    ]


def space_vectors(registry: Registry, store: ArtefactStore, number: int) -> SpaceVectors | None:
    """The vectors of an earlier release as it stored them; None when its artefacts are gone."""
    made = {item.stage: item for item in registry.artefacts(number)}
    embedded, graph = _found(store, made.get("embed")), _found(store, made.get("graph"))
    return None if embedded is None or graph is None else _space(number, embedded, graph)


def maps_of(artefact: Artefact, number: int) -> tuple[CompatMap, ...]:
    """The maps in an artefact of kind `compat`, as those of release `number`."""
    from star_platform.compat.model import load_maps

    return tuple(replace(found, source=number) for found in load_maps(artefact.path))


def released_maps(registry: Registry, store: ArtefactStore, number: int) -> tuple[CompatMap, ...]:
    """The maps that a release brought; none where nobody read an older one, or the artefact is gone."""
    made = {item.stage: item for item in registry.artefacts(number)}
    found = _found(store, made.get("compat"))
    return () if found is None else maps_of(found, number)


def _found(store: ArtefactStore, item: ReleaseArtefact | None) -> Artefact | None:
    return None if item is None else store.find(item.kind, item.fingerprint)


def _space(number: int, embedded: Artefact, graph: Artefact) -> SpaceVectors:
    from star_platform.compat.model import SpaceVectors, Vectors
    from star_platform.graph.storage import open_graph

    found = entity_vectors(open_graph(graph.path), embedded.path)
    return SpaceVectors(
        number, embedded.details["space"], {item.node: Vectors(item.ids, item.vectors) for item in found}
    )


# --- joint training ---------------------------------------------------------------------------------------------------


def alignment(run: Run, graph: Graph) -> Alignment | None:
    """What training stays close to, by `compat.mode`; None when it is trained for its objectives alone."""
    from star_platform.gnn.alignment import Alignment
    from star_platform.gnn.split import split
    from star_platform.graph.storage import open_graph
    from star_platform.planning.canonical import digest

    settings, shop = run.request.plan.settings, run.shop
    target = settings.aligned_to
    if target is None:
        return None
    made = {item.stage: item for item in shop.registry.artefacts(target.release)}
    embedded = shop.released.open("embed", target.embed)
    old_graph = shop.released.open("graph", made["graph"].fingerprint)
    older = _space(target.release, embedded, old_graph)
    multi = shop.compat.mode == "joint-multi"
    earlier = _earlier(shop.released, target) if multi else {}
    first = next(iter(split(graph, run.spec.objectives, shop.training).values()))
    return Alignment(
        release=target.release,
        space=older.space,
        mode="multi" if multi else "single",
        weight=shop.compat.align_weight,
        batch=shop.compat.align_batch,
        moment=min(open_graph(old_graph.path).as_of + 1, first.validation_start),
        nodes={
            node: _target(graph, node, vectors, earlier.get(node, ()))
            for node, vectors in older.nodes.items()
            if node in graph.node_types
        },
        fingerprint=digest(settings.alignment()),
    )


def _earlier(store: ArtefactStore, target: ServedSpace) -> dict[str, tuple[Any, ...]]:
    """Weights from the target's space to those before it, by node type, the nearest space first."""
    if target.maps is None:
        return {}
    found: dict[str, tuple[Any, ...]] = {}
    maps = maps_of(store.open("compat", target.maps), target.release)
    for item in sorted(maps, key=lambda item: -item.target):
        if item.hidden is None:
            found[item.node] = (*found.get(item.node, ()), item.weights.astype("float32"))
    return found


def _target(graph: Graph, node: str, vectors: Any, earlier: tuple[Any, ...]) -> AlignTarget:
    import numpy as np
    import pyarrow.compute as pc

    from star_platform.gnn.alignment import AlignTarget

    ids = graph.ids(node)
    places = pc.index_in(ids, value_set=pc.cast(vectors.ids, ids.type))
    rows = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    old_rows = places.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    return AlignTarget(rows=rows, old_rows=old_rows, vectors=vectors.vectors, earlier=earlier)


# --- maps -------------------------------------------------------------------------------------------------------------


def build_maps(run: Run, stage: Stage) -> Artefact:
    """Fit and judge a map to every space that is still read."""
    from star_platform.compat.stage import build_compat
    from star_platform.gnn.alignment import load_alignment

    shop, settings = run.shop, run.request.plan.settings
    learned: Mapping[tuple[str, int], Any] = {}
    if settings.aligned_to is not None:
        found = load_alignment(run.done["train"].path)
        learned = {(node, settings.aligned_to.release): weights for node, weights in found.items()}
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        details = build_compat(
            _space(THIS, run.done["embed"], run.done["graph"]),
            [_older(run, space) for space in settings.served],
            learned,
            shop.consumers(),
            run.graph(),
            shop.compat,
            draft.path,
            shop.progress,
        )
        draft.details.update(details)
    return shop.store.open(stage.kind, stage.fingerprint)


def _older(run: Run, space: ServedSpace) -> Older:
    from star_platform.compat.stage import Older
    from star_platform.registry.states import ReleaseState

    shop = run.shop
    release = shop.registry.release(space.release)
    vectors = space_vectors(shop.registry, shop.released, space.release)
    facts = {item.stage: item for item in shop.registry.artefacts(space.release)}
    return Older(
        release=space.release,
        space=vectors.space if vectors is not None else facts["embed"].fingerprint,
        vectors=vectors,
        maps=released_maps(shop.registry, shop.released, space.release),
        live=release.state not in (ReleaseState.RETIRED, ReleaseState.PURGED),
    )
