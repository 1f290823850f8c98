"""Reads published vectors: online as any client does, point in time, and through stock Feast, to compare."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.errors import PublishError
from star_platform.publishing.model import (
    FIELD,
    PublishedNode,
    PublishedRelease,
    join_key,
    node_of_view,
    reference,
)

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

    from star_platform.publishing.client import EmbeddingClient

ONLINE_BATCH = 500
"""Ids per online request; SQLite limits the variables of a statement."""
_ORDER = "__star_row"


@dataclass(frozen=True)
class Fetched:
    """Vectors as asked for, in the order asked for, with where they come from.

    vectors: float32 [n, dim], zeros where not found. found: bool [n].
    """

    node: str
    release: int
    space: str
    ids: tuple[int | str, ...]
    vectors: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]

    def table(self) -> pa.Table:
        """Columns `<node>_id`, `found`, `embedding` (null where not found)."""
        offsets = np.zeros(len(self.ids) + 1, dtype=np.int32)
        np.cumsum(self.found * self.vectors.shape[1], out=offsets[1:])
        lists = pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(self.vectors[self.found].reshape(-1)), mask=pa.array(~self.found)
        )
        return pa.table({join_key(self.node): list(self.ids), "found": self.found, FIELD: lists})


class Reader:
    """One long-lived client of a feature repository; opening Feast is paid once."""

    def __init__(self, feature_repo: Path) -> None:
        self.feature_repo = feature_repo.resolve()

    @cached_property
    def _store(self) -> FeatureStore:
        from star_platform.publishing.projection import open_store

        return open_store(self.feature_repo)

    @cached_property
    def _client(self) -> EmbeddingClient:
        from star_platform.publishing.client import EmbeddingClient

        return EmbeddingClient(self.feature_repo, staleness_seconds=None, count_reads=False)

    def fetch(self, release: PublishedRelease, node: str, ids: Sequence[int | str]) -> Fetched:
        """Online vectors of `ids`, in their order; mapped where the release is answered from a later one.

        Not counted: whoever looks does not use.

        Raises:
            PublishError: F030 the release lacks the node type, F031 an id is not of the key's type, F033 what is stored
                has another dimension, F060 the release is gone, F063 a map does not fit.
        """
        published = published_node(release, node)
        keys = coerce(published, ids)
        self._client.refresh()
        answer = self._client.read(keys, node=node, release=release.number)
        if answer.vectors.shape[1] != published.dim:
            raise PublishError(
                "F033",
                f"a vector of {node} in r{release.number} has {answer.vectors.shape[1]} values, not {published.dim}",
                hint="publish the release again",
            )
        return Fetched(node, release.number, published.space, tuple(keys), answer.vectors, answer.found)

    def pins(self, consumer: str) -> dict[str, int]:
        """Release by node type, as the consumer's feature service pins them; raises PublishError F034 without one."""
        from feast.errors import FeatureServiceNotFoundException

        try:
            service = self._store.get_feature_service(consumer)
        except FeatureServiceNotFoundException as error:
            raise PublishError(
                "F034",
                f"Feast has no feature service {consumer}",
                hint="declare the consumer in consumers/ and activate a release",
            ) from error
        return {node_of_view(part.name): int(part.version_tag) for part in service.feature_view_projections}

    def historical(self, release: PublishedRelease, node: str, entity_df: pd.DataFrame) -> pd.DataFrame:
        """`entity_df` (columns `<node>_id`, `event_timestamp`, any others) with the column `embedding` added.

        Point in time, and strictly so: a row at or before the release's `as_of` gets null, while Feast alone would
        serve a row at that very moment. As many rows come out as went in, in their order. One release per call: a join
        that chose the release by row would mix embedding spaces.

        Raises:
            PublishError: F030 the release lacks the node type, F032 Feast lost or doubled rows.
        """
        published = published_node(release, node)
        return read_historical(self._store, release.number, published, entity_df, strict=True)

    def refresh(self) -> None:
        """See what was published since; otherwise Feast's registry cache decides when."""
        self._store.refresh_registry()


def published_node(release: PublishedRelease, node: str) -> PublishedNode:
    """Raises PublishError F030 when the release does not hold `node`."""
    if node not in release.nodes:
        raise PublishError(
            "F030",
            f"release r{release.number} has no embedding of {node}",
            hint=f"it has {', '.join(sorted(release.nodes)) or 'none'}",
        )
    return release.nodes[node]


def coerce(node: PublishedNode, ids: Sequence[int | str]) -> list[int] | list[str]:
    """`ids` in the key's type: text that is a whole number is taken where the key is one."""
    if node.key_type == "string":
        return [str(item) for item in ids]
    try:
        return [int(item) for item in ids]
    except ValueError as error:
        raise PublishError(
            "F031", f"ids of {node.node} are whole numbers: {error}", hint="ask with the ids of the source tables"
        ) from error


def read_online(
    store: FeatureStore, release: int, node: PublishedNode, ids: list[int] | list[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Vectors float32 [n, dim] and found bool [n] of a pinned version, by `get_online_features`.

    Found is told from the value: the status that Feast reports for an absent entity depends on the store.
    """
    vectors = np.zeros((len(ids), node.dim), dtype=np.float32)
    found = np.zeros(len(ids), dtype=np.bool_)
    for at in range(0, len(ids), ONLINE_BATCH):
        rows: list[dict[str, Any]] = [{join_key(node.node): key} for key in ids[at : at + ONLINE_BATCH]]
        answer = store.get_online_features(features=[reference(node.node, release)], entity_rows=rows).proto
        column = list(answer.metadata.feature_names.val).index(FIELD)
        for row, value in enumerate(answer.results[column].values, start=at):
            floats = value.float_list_val.val
            if len(floats) not in (0, node.dim):
                raise PublishError(
                    "F033",
                    f"a vector of {node.node} in r{release} has {len(floats)} values, not {node.dim}",
                    hint="publish the release again",
                )
            if len(floats):
                vectors[row], found[row] = floats, True
    return vectors, found


def read_historical(
    store: FeatureStore, release: int, node: PublishedNode, entity_df: pd.DataFrame, *, strict: bool
) -> pd.DataFrame:
    """`get_historical_features` with rows counted and their order kept; `strict` turns Feast's <= into <."""
    import pandas as pd

    moments = pd.to_datetime(entity_df["event_timestamp"], utc=True)
    asked = pd.DataFrame(
        {
            join_key(node.node): coerce(node, entity_df[join_key(node.node)].tolist()),
            "event_timestamp": (moments - pd.Timedelta(1, "us") if strict else moments).to_numpy(),
            _ORDER: np.arange(len(entity_df)),
        }
    )
    asked["event_timestamp"] = pd.to_datetime(asked["event_timestamp"], utc=True)
    result = entity_df.reset_index(drop=True).copy()
    if result.empty:
        return result.assign(**{FIELD: pd.Series(dtype=object)})
    with warnings.catch_warnings():  # Feast's use of Ibis warns about Ibis's use of DuckDB
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ibis")
        answer = store.get_historical_features(entity_df=asked, features=[reference(node.node, release)]).to_df()
    order = answer[_ORDER].to_numpy() if _ORDER in answer else np.empty(0, dtype=np.int64)
    if len(order) != len(result) or not np.array_equal(np.sort(order), np.arange(len(result))):
        raise PublishError(
            "F032",
            f"{len(result)} rows went into the historical join and {len(answer)} came out",
            hint="feature_store.yaml must name the duckdb offline store; others drop rows",
        )
    result[FIELD] = answer.sort_values(_ORDER)[FIELD].to_numpy()
    return result
