"""Feast's Postgres online store with routes and counted reads; vectors go through Feast's public path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig

from star_platform.publishing.routed import ROUTE_TTL, RoutedReads

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig


class StarPostgreSQLOnlineStoreConfig(PostgreSQLOnlineStoreConfig):  # type: ignore[misc]
    """Settings of `online_store` in feature_store.yaml: Feast's, and two of ours."""

    type: Literal["star_platform.publishing.postgres.StarPostgreSQLOnlineStore"] = (
        "star_platform.publishing.postgres.StarPostgreSQLOnlineStore"
    )
    count_reads: bool = True
    """Add up who reads which release, in the store itself; see `who-uses`."""
    route_ttl_seconds: float = ROUTE_TTL
    """A running client follows a retirement after this time at the latest."""


class StarPostgreSQLOnlineStore(RoutedReads, PostgreSQLOnlineStore):  # type: ignore[misc]
    """Reads only differ from Feast's where a version has a route; connections are made anew when they are lost."""

    _conn: Any
    _conn_async: Any

    @contextmanager
    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> Iterator[Any]:
        """Feast's, which would keep a connection that the server has closed, and a pooled one after an error."""
        if self._conn is not None and self._conn.closed:
            self._conn = None
        below: Any = super()
        with below._get_conn(_as_stock(config), autocommit) as connection:
            try:
                yield connection
            except BaseException:
                if self._conn_pool is not None:
                    self._conn_pool.putconn(connection)
                    if connection.closed:
                        self._conn_pool.check()  # the server that closed one has most likely closed all
                raise

    @asynccontextmanager
    async def _get_conn_async(self, config: RepoConfig, autocommit: bool = False) -> AsyncIterator[Any]:
        """As `_get_conn`."""
        if self._conn_async is not None and self._conn_async.closed:
            self._conn_async = None
        below: Any = super()
        async with below._get_conn_async(_as_stock(config), autocommit) as connection:
            try:
                yield connection
            except BaseException:
                if self._conn_pool_async is not None:
                    await self._conn_pool_async.putconn(connection)
                    if connection.closed:
                        await self._conn_pool_async.check()
                raise


def stock_config(settings: Any) -> Any:
    """The settings as Feast's own class takes them."""
    fields = PostgreSQLOnlineStoreConfig.model_fields.keys() - {"type"}
    return PostgreSQLOnlineStoreConfig(**{name: getattr(settings, name) for name in fields})


def _as_stock(config: RepoConfig) -> Any:
    """Feast asserts that its own type is named where it connects."""
    return SimpleNamespace(online_store=stock_config(config.online_store))
