"""Feast's Postgres online store with routes and counted reads; vectors go through Feast's public path."""

from __future__ import annotations

from contextlib import AbstractContextManager
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
    """Reads only differ from Feast's where a version has a route."""

    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> AbstractContextManager[Any]:
        below: Any = super()
        connection: AbstractContextManager[Any] = below._get_conn(_as_stock(config), autocommit)
        return connection

    def _get_conn_async(self, config: RepoConfig, autocommit: bool = False) -> Any:
        below: Any = super()
        return below._get_conn_async(_as_stock(config), autocommit)


def stock_config(settings: Any) -> Any:
    """The settings as Feast's own class takes them."""
    fields = PostgreSQLOnlineStoreConfig.model_fields.keys() - {"type"}
    return PostgreSQLOnlineStoreConfig(**{name: getattr(settings, name) for name in fields})


def _as_stock(config: RepoConfig) -> Any:
    """Feast asserts that its own type is named where it connects."""
    return SimpleNamespace(online_store=stock_config(config.online_store))
