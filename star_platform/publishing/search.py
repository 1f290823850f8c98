"""Nearest neighbours among published vectors: `EmbeddingSearch(client).search(query, node="job", k=10)`.

Through Feast's own vector search where the online store offers it (Postgres with pgvector and `vector_enabled: true`),
and through an exported index (`ann`) otherwise. A query is compared only with vectors of its own space: one of a newer
release is mapped into the older space that is searched, any other is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from star_platform.errors import PublishError
from star_platform.publishing.ann import AnnIndex, Metric, is_current, open_index
from star_platform.publishing.client import EmbeddingClient, Vectors
from star_platform.publishing.model import FIELD
from star_platform.publishing.snapshot import Resolved, Version
from star_platform.publishing.usage_sinks import store_family

Query = int | str | Vectors | npt.NDArray[np.float32]

_FEAST_METRICS: dict[Metric, str] = {"cos": "cosine", "ip": "inner_product", "l2sq": "L2"}


class Neighbours(NamedTuple):
    """The nearest entities, nearest first.

    ids: k ids. distances: float32 [k], smaller is nearer: 1 - cosine, 1 - inner product, or the squared Euclidean one.
    """

    ids: list[int] | list[str]
    distances: npt.NDArray[np.float32]


class EmbeddingSearch:
    """Searches what an `EmbeddingClient` reads; indexes are opened once, and again after a `Publisher.sync`.

    metric: of stores that search themselves.
    """

    def __init__(self, client: EmbeddingClient, *, metric: Metric = "cos") -> None:
        self._client = client
        self._metric = metric
        self._indexes: dict[tuple[str, int, str], AnnIndex] = {}

    def search(
        self,
        query: Query,
        *,
        node: str | None = None,
        k: int = 10,
        consumer: str | None = None,
        release: int | None = None,
        of: int | None = None,
    ) -> Neighbours:
        """The `k` nearest entities of `node` to an entity (by its id, itself left out) or to a vector float32 [dim].

        `consumer` and `release` choose what is searched, as in `EmbeddingClient.read`. A retired release is searched
        where its reads are answered from. of: the release whose space a vector is in; one row of what a client read
        knows that itself, and without either it is taken to be that of the release that is asked for.

        Raises:
            DependencyMissing: D030 an index is needed and the extra `ann` is not installed.
            PublishError: as `EmbeddingClient.read`, F064 the vector is of another space and there is no map, F065 there
                is no usable index, F066 the id has no vector.
        """
        resolved = self._client.resolve(consumer=consumer, node=node, release=release)
        if isinstance(query, int | str | np.integer):
            vector = self._of_entity(resolved, query)
            found = self._nearest(resolved.source, vector, k + 1)
            keep = [at for at, name in enumerate(found.ids) if name != query][:k]
            return Neighbours([found.ids[at] for at in keep], found.distances[keep])  # type: ignore[arg-type]
        if isinstance(query, Vectors):
            if not query.found.all():
                raise PublishError(
                    "F066",
                    f"there is no vector in r{query.release} to search with",
                    hint="it is not in the release's graph: look its id up in the sources",
                )
            of, query = query.release if of is None else of, query.vectors
        vector = np.asarray(query, dtype=np.float32).reshape(-1)
        return self._nearest(resolved.source, self._mapped(resolved, vector, of or resolved.release), k)

    def _of_entity(self, resolved: Resolved, query: int | str) -> npt.NDArray[np.float32]:
        vectors, found = self._client.read_native(resolved.source, [query])
        if not found[0]:
            raise PublishError(
                "F066",
                f"{resolved.node} {query} has no vector in r{resolved.source.release}",
                hint="it is not in the release's graph; search with a vector instead",
            )
        row: npt.NDArray[np.float32] = vectors[0]
        return row

    def _mapped(self, resolved: Resolved, vector: npt.NDArray[np.float32], of: int) -> npt.NDArray[np.float32]:
        """`vector` of release `of` in the space that is searched."""
        searched = resolved.source
        versions = self._client.snapshot.versions
        asked = versions.get((resolved.node, of))
        space = asked.space if asked is not None else (resolved.space if of == resolved.release else None)
        if space != searched.space:
            route = self._client.compat_map(resolved.node, of, searched.release)
            if route is None or route.source_space != space or route.target_space != searched.space:
                raise PublishError(
                    "F064",
                    f"a vector of r{of} cannot be compared with those of {searched.node} in r{searched.release}",
                    hint="maps lead from newer releases to older ones; search by id, or with a vector that was read"
                    f" from r{searched.release}",
                )
            vector = route.apply(vector[None, :])[0]
        if len(vector) != searched.layout.dim:
            raise PublishError(
                "F064",
                f"a vector of {len(vector)} values was to be compared with those of {searched.node} in"
                f" r{searched.release}, which have {searched.layout.dim}",
                hint="say which release it is of: search(vector, of=N)",
            )
        return vector

    def _nearest(self, version: Version, vector: npt.NDArray[np.float32], k: int) -> Neighbours:
        if store_searches(self._client.store):
            return self._through_feast(version, vector, k)
        key = (version.node, version.release, version.space)
        root = Path(version.view.batch_source.path).parent.parent
        index = self._indexes.get(key)
        if index is None or not is_current(root, version.release, version.node, index.checksum):
            index = self._indexes[key] = open_index(root, version.release, version.node, space=version.space)
        rows, distances = index.search(vector[None, :], k)
        return Neighbours(index.ids.take(rows[0]).to_pylist(), distances[0])

    def _through_feast(self, version: Version, vector: npt.NDArray[np.float32], k: int) -> Neighbours:
        store = self._client.store
        rows = store.provider.retrieve_online_documents_v2(  # FeatureStore's own method hands ids out in another order
            config=store.config,
            table=version.view,
            requested_features=[FIELD],
            embedding=vector.tolist(),
            top_k=k,
            distance_metric=_FEAST_METRICS[self._metric],
        )
        distances = np.array([_plain(values["distance"]) for _, _, values in rows], dtype=np.float32)
        if self._metric != "cos":  # pgvector: the negative product, and the root of the squares
            distances = 1 + distances if self._metric == "ip" else distances**2
        order = np.argsort(distances, kind="stable")
        return Neighbours([_plain(rows[at][1].entity_values[0]) for at in order], distances[order])


def store_searches(store: Any) -> bool:
    """Whether Feast's `retrieve_online_documents_v2` works on this client's online store."""
    from feast.infra.online_stores.online_store import OnlineStore

    own = type(store.provider.online_store).retrieve_online_documents_v2 is not OnlineStore.retrieve_online_documents_v2
    enabled = bool(getattr(store.config.online_store, "vector_enabled", False))
    return own and enabled and store_family(store.config) not in ("sqlite", "redis")


def _plain(value: Any) -> Any:
    """What one of Feast's values holds."""
    return getattr(value, value.WhichOneof("val"))
