"""Vectors of those that changed, anew, by the model of the active release, into that release.

Between two releases entities come and go and things happen to them. A refresh compiles today's data with the branches
of the active release, looks for the entities of one node type that are new or that something dated happened to, embeds
them with the model that is there, in the space that is there, and publishes only these. All others keep their vectors.
What has no date (a job's changed salary) is seen by the next release, and so is what happened before the moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from star_platform.errors import RegistryError
from star_platform.release.model import PUBLISHED, Run
from star_platform.release.recompile import MODEL, recompile, released

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from star_platform.graph.storage import Graph
    from star_platform.publishing.held import Held
    from star_platform.publishing.model import PublishedRelease

REFRESHED = "refreshed"
"""Event kind: what a refresh wrote, as `Refreshed.record()`."""
NOISE = {"float32": 1e-5, "bf16": 1e-2}
"""By precision, in shares of a vector's length: a smaller difference comes from the company in which a vector was
computed (the order of sums, and with bfloat16 what they are rounded to), and the stored bytes stay."""


@dataclass(frozen=True)
class RefreshWish:
    """What to refresh: entities of `node` that changed at `since` (microseconds) or later.

    neighbours: also those with a direct neighbour, of any node type, that is new or changed.
    """

    node: str
    since: int
    neighbours: bool = False


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found, and did if it was not a dry run; counts of entities of one node type."""

    release: int
    node: str
    since: int
    as_of: int
    """Newest event of today's data, microseconds; the moment after it is the one at which entities are seen."""
    entities: int
    new: int
    changed: int
    """Not new, and something dated happened to them."""
    neighbours: int
    """Neither, and beside one that is new or changed."""
    gone: int
    """Published, and not in today's data any more."""
    embedded: int = 0
    written: int = 0
    removed: int = 0
    done: bool = False

    @property
    def unchanged(self) -> int:
        """Entities whose vector stays as it is."""
        return self.entities - self.written

    @property
    def wanted(self) -> int:
        """Entities to embed."""
        return self.new + self.changed + self.neighbours

    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return {**vars(self), "unchanged": self.unchanged}


@dataclass(frozen=True)
class _Chosen:
    """Masks bool[n] over the entities; none holds in two."""

    new: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    neighbours: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.int64]:
        import numpy as np

        return np.flatnonzero(self.new | self.changed | self.neighbours)


def refresh(
    run: Run,
    wish: RefreshWish,
    published: PublishedRelease,
    agreed: Callable[[Refreshed], bool],
) -> Refreshed:
    """Refresh the active release; `run` has its number, and `agreed` is asked once it is known what there is to do.

    Whether it goes on or not, nothing but artefacts has been written then. Called again after a crash it does the rest;
    called again after success it writes nothing.

    Raises:
        RegistryError: R031 `wish.node` is not published in the release, R032 its dataset is not whole.
        TrainingError: M020 to M022 the model does not fit the data any more.
        PublishError: of `Publisher.sync`.
    """
    import numpy as np

    _check_node(published, wish.node)
    before = released(run)
    graph, shop = recompile(run, before), run.shop
    work = shop.store.work_dir("refresh", f"r{run.number}-{wish.node}")
    shape = (graph.num_nodes(wish.node), published.nodes[wish.node].dim)
    path = work / "held.npy"
    path.unlink(missing_ok=True)
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    held = _held(run, wish.node, graph, vectors)
    chosen = _choose(graph, wish, held)
    found = Refreshed(
        release=run.number,
        node=wish.node,
        since=wish.since,
        as_of=graph.as_of,
        entities=shape[0],
        new=int(chosen.new.sum()),
        changed=int(chosen.changed.sum()),
        neighbours=int(chosen.neighbours.sum()),
        gone=held.gone,
    )
    if agreed(found):
        run.lease.check()
        _embed(run, before, graph, wish.node, chosen.rows, held, vectors)
        found = _write(run, published, graph, found, held, vectors)
    shutil.rmtree(work)
    return found


def _check_node(published: PublishedRelease, node: str) -> None:
    if node not in published.nodes:
        raise RegistryError(
            "R031",
            f"r{published.number} publishes no vectors of {node!r}",
            hint=f"it publishes {', '.join(sorted(published.nodes))}",
        )


def _held(run: Run, node: str, graph: Graph, vectors: NDArray[np.float32]) -> Held:
    from star_platform.publishing.held import read_held

    held = read_held(run.shop.publisher.offline_root, run.number, node, graph.ids(node), vectors)
    if held is None:
        raise RegistryError(
            "R032",
            f"the dataset of {node} in r{run.number} is not whole, so there is nothing to add to",
            hint="run `star-platform release --rebuild`: it publishes every vector again",
        )
    return held


def _choose(graph: Graph, wish: RefreshWish, held: Held) -> _Chosen:
    import numpy as np

    from star_platform.graph.changes import beside, changed_since
    from star_platform.graph.derived import declared_edge_types

    declared = declared_edge_types(graph)
    new, changed = ~held.found, changed_since(graph, wish.node, wish.since, declared) & held.found
    neighbours = np.zeros_like(new)
    if wish.neighbours:
        touched = {node: changed_since(graph, node, wish.since, declared) for node in graph.node_types}
        touched[wish.node] = new | changed
        neighbours = beside(graph, wish.node, touched, declared) & ~new & ~changed
    return _Chosen(new, changed, neighbours)


def _embed(
    run: Run,
    before: Run,
    graph: Graph,
    node: str,
    rows: NDArray[np.int64],
    held: Held,
    vectors: NDArray[np.float32],
) -> None:
    """Compute the vectors of `rows`, and put those that differ from what is held into `vectors`."""
    import numpy as np

    from star_platform.gnn.inductive import load_inductive
    from star_platform.gnn.inference import embed_some
    from star_platform.gnn.inner_texts import reread
    from star_platform.gnn.model_io import space_fingerprint

    if not len(rows):
        return
    folder, shop = before.done[MODEL].path, run.shop
    work = shop.store.work_dir("refresh", f"r{run.number}-{node}")
    if shop.inner_text is not None and shop.inner_text.learns:
        graph = reread(graph, shop.inner_text, folder, work / "texts", shop.progress)
    model, seen = load_inductive(folder, before.graph(), graph)
    made = embed_some(seen, model, space_fingerprint(folder), node, rows, graph.as_of + 1, work, shop.progress)
    length = np.maximum(np.linalg.norm(vectors[rows], axis=1), 1e-12)
    differs = np.linalg.norm(made - vectors[rows], axis=1) > NOISE[model.config.precision] * length
    kept = rows[differs | ~held.found[rows]]
    vectors[kept] = made[differs | ~held.found[rows]]


def _write(
    run: Run, published: PublishedRelease, graph: Graph, found: Refreshed, held: Held, vectors: NDArray[np.float32]
) -> Refreshed:
    """Publish what differs, and note it: our registry first, then Feast follows."""
    from star_platform.publishing.model import NodeVectors
    from star_platform.registry.values import Note

    shop, node = run.shop, found.node
    source = NodeVectors(node, graph.ids(node), vectors)
    # Data may have changed without a newer event; a shard's time must still come after that of the one before it.
    as_of = max(graph.as_of, held.as_of + 1)
    synced = shop.publisher.sync(published, [source], as_of=as_of, progress=shop.progress)
    found = replace(found, embedded=found.wanted, written=synced.written, removed=synced.removed, done=True)
    if synced.release != published or synced.written or synced.removed:
        notes = (Note(PUBLISHED, run.number, synced.release.record()), Note(REFRESHED, run.number, found.record()))
        request = run.request
        shop.registry.advance(run.number, (), request.actor, request.reason, notes=notes, lease=run.lease)
        shop.publisher.reconcile(shop.feast_state(None))
    return found
