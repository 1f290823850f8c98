"""What releases left in the artefact store, as the values of other rooms: vectors, maps, and what was begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from star_platform.registry.artefacts import Artefact, ArtefactStore

if TYPE_CHECKING:
    from star_platform.compat.model import CompatMap, SpaceVectors
    from star_platform.graph.storage import Graph
    from star_platform.publishing.model import NodeVectors, PublishedRelease
    from star_platform.registry.registry import Registry
    from star_platform.registry.values import ReleaseArtefact


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
    return None if embedded is None or graph is None else space_of(number, embedded, graph)


def begun(registry: Registry, store: ArtefactStore, number: int) -> PublishedRelease | None:
    """What a release would have published that stopped in the middle of it; None when it did not come that far."""
    from star_platform.publishing.model import PublishedNode, PublishedRelease

    space = space_vectors(registry, store, number)
    if space is None or not any(stage.stage == "publish" for stage in registry.stages(number)):
        return None
    nodes = {
        node: PublishedNode(
            node=node,
            dim=vectors.dim,
            rows=len(vectors),
            key_type="int64" if pa.types.is_integer(vectors.ids.type) else "string",
            space=space.space,
            as_of=0,
            norm=(0.0, 0.0),
            checksum="",
        )
        for node, vectors in space.nodes.items()
    }
    return PublishedRelease(number, nodes)


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


def space_of(number: int, embedded: Artefact, graph: Artefact) -> SpaceVectors:
    """The vectors in an artefact of kind `embed`, with the ids of its graph, as those of release `number`."""
    from star_platform.graph.storage import open_graph

    return space_in(number, embedded.details["space"], open_graph(graph.path), embedded.path)


def space_in(number: int, space: str, graph: Graph, folder: Path) -> SpaceVectors:
    """The vectors in `folder`, one file per node type, with the ids of `graph`."""
    from star_platform.compat.model import SpaceVectors, Vectors

    found = entity_vectors(graph, folder)
    return SpaceVectors(number, space, {item.node: Vectors(item.ids, item.vectors) for item in found})
