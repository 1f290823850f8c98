"""What every online store of ours adds to Feast's reads: routes and counts.

A pinned read of a release that has a route is answered from the vectors of another release, mapped; stock clients, the
feature server among them, see ordinary Feast values and nothing else changes for them.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from star_platform.publishing.model import FIELD, node_of_view
from star_platform.publishing.routes import VIEW, RouteCache, online_reader, read_routes
from star_platform.publishing.wire import values

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

    from star_platform.compat.model import CompatMap

ROUTE_TTL = 10.0
"""Default of `route_ttl_seconds`: a running client follows a retirement after this time at the latest."""

_COUNTED: ContextVar[bool] = ContextVar("star_counted", default=False)

Rows = list[tuple[Any, dict[str, Any] | None]]


class RoutedReads:
    """Mixed in before one of Feast's online stores, whose reads it wraps."""

    _routes: RouteCache | None = None
    _usage: Any = None

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[Any], requested_features: Any = None
    ) -> Rows:
        """As Feast's; where the version has a route, its vectors come out of the route's source."""
        below: Any = super()
        self._count(config, table, len(entity_keys))
        route = self._route(config, table)
        wanted = list(requested_features) if requested_features else None  # Feast's Redis store appends to the list
        if route is None:
            rows: Rows = below.online_read(config, table, entity_keys, wanted)
            return rows
        return mapped(below.online_read(config, version_of(table, route.source), entity_keys, wanted), route)

    async def online_read_async(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[Any], requested_features: Any = None
    ) -> Rows:
        """Twin of `online_read`, where the store below has one."""
        below: Any = super()
        self._count(config, table, len(entity_keys))
        route = await self._route_async(config, table)
        wanted = list(requested_features) if requested_features else None
        if route is None:
            rows: Rows = await below.online_read_async(config, table, entity_keys, wanted)
            return rows
        source = version_of(table, route.source)
        return mapped(await below.online_read_async(config, source, entity_keys, wanted), route)

    def _read_features_per_fv(self, config: RepoConfig, grouped_refs: Any, join_key_values: Any, *rest: Any) -> None:
        """Where `get_online_features` goes: the store's own batch over all views, unless one of them has a route."""
        from feast.infra.online_stores.online_store import OnlineStore

        below: Any = super()
        if any(self._route(config, table) is not None for table, _ in grouped_refs):
            OnlineStore._read_features_per_fv(self, config, grouped_refs, join_key_values, *rest)  # by `online_read`
            return
        with self._counted(config, grouped_refs, join_key_values):
            below._read_features_per_fv(config, grouped_refs, join_key_values, *rest)

    async def _read_features_per_fv_async(
        self, config: RepoConfig, grouped_refs: Any, join_key_values: Any, *rest: Any
    ) -> None:
        """Twin of `_read_features_per_fv`."""
        from feast.infra.online_stores.online_store import OnlineStore

        below: Any = super()
        if any([await self._route_async(config, table) is not None for table, _ in grouped_refs]):
            await OnlineStore._read_features_per_fv_async(self, config, grouped_refs, join_key_values, *rest)
            return
        with self._counted(config, grouped_refs, join_key_values):
            await below._read_features_per_fv_async(config, grouped_refs, join_key_values, *rest)

    @contextmanager
    def _counted(self, config: RepoConfig, grouped_refs: Any, join_key_values: Mapping[str, Any]) -> Iterator[None]:
        """Count all views here, and not again where the store below reads them one by one."""
        rows = max((len(column) for column in join_key_values.values()), default=0)
        for table, _ in grouped_refs:
            self._count(config, table, rows)
        token = _COUNTED.set(True)
        try:
            yield
        finally:
            _COUNTED.reset(token)

    def _route(self, config: RepoConfig, table: FeatureView) -> CompatMap | None:
        release = release_of(table)
        return self._cache(config).get(node_of_view(table.name), release) if release else None

    async def _route_async(self, config: RepoConfig, table: FeatureView) -> CompatMap | None:
        release = release_of(table)
        if release and not self._cache(config).fresh(node_of_view(table.name), release):
            return await asyncio.to_thread(self._route, config, table)  # the look-up must not hold up the loop
        return self._route(config, table)

    def _cache(self, config: RepoConfig) -> RouteCache:
        if self._routes is None:
            below: Any = super()
            read = online_reader(below, config)
            ttl = float(getattr(config.online_store, "route_ttl_seconds", ROUTE_TTL))
            self._routes = RouteCache(
                lambda node, release: read_routes(read, [(node, release)]).get((node, release)), ttl
            )
        return self._routes

    def _count(self, config: RepoConfig, table: FeatureView, vectors: int) -> None:
        """Count a read whose reader did not say who it is."""
        release = release_of(table)
        if not release or _COUNTED.get() or not getattr(config.online_store, "count_reads", True):
            return
        if self._usage is None:
            from star_platform.publishing.usage import UsageCounter

            self._usage = UsageCounter.for_store(self, config)
        self._usage.add(None, node_of_view(table.name), release, vectors)


def release_of(table: FeatureView) -> int:
    """The release that a view's rows belong to, by Feast's own rule; 0 for views that are not ours."""
    if table.name == VIEW or not table.name.endswith(f"_{FIELD}"):
        return 0
    return int(table.projection.version_tag or getattr(table, "current_version_number", None) or 0)


def version_of(table: FeatureView, release: int) -> FeatureView:
    """The same view pinned to another release."""
    result = copy.copy(table)
    result.projection = copy.copy(table.projection)
    result.projection.version_tag = release
    return result


def mapped(rows: Rows, route: CompatMap) -> Rows:
    """Rows of the route's source with their vectors mapped; rows without a vector stay as they are."""
    there = [row for row, (_, found) in enumerate(rows) if found and len(found[FIELD].float_list_val.val)]
    if not there:
        return rows
    dim = route.weights.shape[0]
    vectors = np.empty((len(there), dim), dtype=np.float32)
    for at, row in enumerate(there):
        vectors[at] = _vector(rows[row])
    result = list(rows)
    for row, value in zip(there, values(route.apply(vectors)), strict=True):
        result[row] = (rows[row][0], {FIELD: value})
    return result


def _vector(row: tuple[Any, Any]) -> Sequence[float]:
    found: Sequence[float] = row[1][FIELD].float_list_val.val
    return found
