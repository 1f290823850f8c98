"""Compat maps in a release: which space training stays close to, and the maps to every space that is still read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.progress import Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.release.model import Run
from star_platform.release.stored import maps_of, released_maps, space_in, space_of, space_vectors

if TYPE_CHECKING:
    from star_platform.compat.config import CompatConfig
    from star_platform.compat.model import SpaceVectors, Vectors
    from star_platform.compat.stage import Older
    from star_platform.gnn.alignment import Alignment, AlignTarget
    from star_platform.graph.storage import Graph
    from star_platform.planning.settings import ServedSpace
    from star_platform.planning.stages import Stage

THIS = 0
"""The release under way, inside its artefacts: they do not know its number, so another release may reuse them."""


# --- joint training ---------------------------------------------------------------------------------------------------


def alignment(run: Run, graph: Graph, work_dir: Path) -> Alignment | None:
    """What training stays close to, by `compat.mode`; None when it is trained for its objectives alone.

    `work_dir`: scratch that outlives a crash.
    """
    from star_platform.gnn.alignment import Alignment
    from star_platform.gnn.classification import boundary_moments
    from star_platform.graph.derived import open_extended
    from star_platform.planning.canonical import digest

    settings, shop = run.request.plan.settings, run.shop
    target = settings.aligned_to
    if target is None:
        return None
    made = {item.stage: item for item in shop.registry.artefacts(target.release)}
    embedded = shop.released.open("embed", target.embed)
    old_graph = shop.released.open("graph", made["graph"].fingerprint)
    derived = shop.released.open("derive", made["derive"].fingerprint).path if "derive" in made else None
    old = open_extended(old_graph.path, derived)
    multi = shop.compat.mode == "joint-multi"
    earlier = _earlier(shop.released, target) if multi else {}
    validation_start, _ = boundary_moments(graph, run.spec.objectives, shop.training)
    moment = min(old.as_of + 1, validation_start)
    older = space_of(target.release, embedded, old_graph)
    if moment <= old.as_of:  # its stored vectors have seen edges that the new model is judged on
        model = shop.released.open("train", made["train"].fingerprint)
        older = _recomputed(older, old, model.path, moment, work_dir / f"as-of-{moment}", shop.progress)
    return Alignment(
        release=target.release,
        space=older.space,
        mode="multi" if multi else "single",
        weight=shop.compat.align_weight,
        batch=shop.compat.align_batch,
        moment=moment,
        nodes={
            node: _target(graph, node, vectors, earlier.get(node, ()), shop.compat)
            for node, vectors in older.nodes.items()
            if node in graph.node_types
        },
        fingerprint=digest(settings.alignment()),
    )


def _recomputed(
    older: SpaceVectors, graph: Graph, model: Path, moment: int, folder: Path, progress: Progress
) -> SpaceVectors:
    """What the older model makes of its own graph as of an earlier moment than that of its stored vectors."""
    from star_platform.gnn.inference import embed

    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        embed(graph, model, folder, progress, at=moment)
        (folder / "done").touch()
    return space_in(older.release, older.space, graph, folder)


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


def _target(graph: Graph, node: str, vectors: Vectors, earlier: tuple[Any, ...], config: CompatConfig) -> AlignTarget:
    """The entities of both releases, but for those that will judge the maps."""
    import numpy as np
    import pyarrow.compute as pc

    from star_platform.compat.candidates import held_out
    from star_platform.gnn.alignment import AlignTarget

    ids = graph.ids(node)
    places = pc.index_in(ids, value_set=pc.cast(vectors.ids, ids.type))
    rows = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    old_rows = places.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    kept = ~held_out(ids, rows, config)
    return AlignTarget(rows=rows[kept], old_rows=old_rows[kept], vectors=vectors.vectors, earlier=earlier)


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
            space_of(THIS, run.done["embed"], run.done["graph"]),
            [_older(run, space, stage) for space in settings.served],
            learned,
            shop.consumers(),
            run.graph(),
            shop.compat,
            draft.path,
            shop.progress,
        )
        draft.details.update(details)
    return shop.store.open(stage.kind, stage.fingerprint)


def _older(run: Run, space: ServedSpace, stage: Stage) -> Older:
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
        then=None if vectors is None else _then(run, facts["graph"].fingerprint, stage),
    )


def _then(run: Run, older_graph: str, stage: Stage) -> SpaceVectors | None:
    """What this release's model makes of everybody as of an older release; None where that is the same moment.

    Written to the scratch of the stage, where a killed run finds it again.
    """
    from star_platform.gnn.inference import embed
    from star_platform.graph.storage import open_graph

    shop, graph = run.shop, run.graph()
    moment = open_graph(shop.released.open("graph", older_graph).path).as_of + 1
    if moment == graph.as_of + 1:
        return None
    folder = shop.store.work_dir(stage.kind, stage.fingerprint) / f"as-of-{moment}"
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        embed(graph, run.done["train"].path, folder, shop.progress, at=moment)
        done.touch()
    return space_in(THIS, run.done["embed"].details["space"], graph, folder)
