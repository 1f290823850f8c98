"""Rows of a Feast feature view, through whatever offline store its repository is configured with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from star_platform.errors import GraphError
from star_platform.graph.guard import did_you_mean

_BATCH_ROWS = 100_000


@dataclass(frozen=True)
class FeastView:
    """A feature view found in a repository: where its rows come from and which columns they have."""

    name: str
    source: Any
    """Feast's `DataSource`."""
    keys: tuple[str, ...]
    features: tuple[str, ...]
    timestamp: str
    created: str | None
    store: Any

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *self.features, self.timestamp, *((self.created,) if self.created else ()))

    @property
    def files(self) -> str | None:
        """Path or glob of the batch source when it is files on this machine, for hashing."""
        from feast import FileSource
        from feast.infra.offline_stores.file_source import FileSource as AnyFileSource

        if not isinstance(self.source, FileSource | AnyFileSource) or "://" in self.source.path:
            return None
        path = Path(self.source.path)
        return str(path if path.is_absolute() else Path(self.store.repo_path) / path)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, as the offline store gives them; G006 when it cannot."""
        try:
            job = self.store._get_provider().offline_store.pull_all_from_table_or_query(
                config=self.store.config,
                data_source=self.source,
                join_key_columns=list(self.keys),
                feature_name_columns=list(self.features),
                timestamp_field=self.timestamp,
                created_timestamp_column=self.created,
                start_date=None,
                end_date=None,
            )
            table = getattr(job, "table", None)  # the Ibis offline stores can stream
            if table is not None:
                yield from table.to_pyarrow_batches(chunk_size=_BATCH_ROWS)
            else:
                yield from job.to_arrow().to_batches(max_chunksize=_BATCH_ROWS)
        except Exception as error:
            raise GraphError("G006", f"Feast cannot read the feature view {self.name!r}: {error}") from error


def open_view(reference: str, repository: Path, deny: Collection[str]) -> FeastView:
    """The feature view `name` or `name@vN` of the Feast repository in folder `repository`, without denied columns.

    Raises:
        GraphError: G006 when there is no repository, no such view, or no such version.
    """
    if not (repository / "feature_store.yaml").is_file():
        raise GraphError(
            "G006",
            f"there is no Feast repository in {repository} (no feature_store.yaml)",
            hint="set `feature_repo` of the source to its folder",
        )
    from feast import FeatureStore

    name, _, version = reference.partition("@v")
    try:
        store = FeatureStore(repo_path=str(repository))
        views = {view.name: view for view in store.list_batch_feature_views()}
    except Exception as error:
        raise GraphError("G006", f"the Feast repository in {repository} cannot be opened: {error}") from error
    if name not in views:
        raise GraphError(
            "G006", f"the Feast repository has no feature view {name!r}", hint=did_you_mean(name, list(views))
        )
    view = views[name]
    if version:
        try:
            view = store.registry.get_feature_view_by_version(name, store.project, int(version))
        except Exception as error:
            raise GraphError("G006", f"the feature view {name!r} has no version {version}: {error}") from error
    source = view.batch_source
    mapping = {renamed: original for original, renamed in source.field_mapping.items()}
    return FeastView(
        name=reference,
        source=source,
        keys=tuple(c.name for c in view.entity_columns if c.name.lower() not in deny),
        features=tuple(
            mapping.get(c.name, c.name) for c in view.features if mapping.get(c.name, c.name).lower() not in deny
        ),
        timestamp=source.timestamp_field,
        created=source.created_timestamp_column or None,
        store=store,
    )
