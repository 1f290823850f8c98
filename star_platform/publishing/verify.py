"""What Feast returns, compared bit for bit with the artefact (DESIGN section 7), through a stock client.

Offline rows are compared one by one (`offline.compare`) and online rows are counted (`online.check_count`); here a
sample goes the way of a consumer: `get_online_features` and `get_historical_features`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_platform.errors import PublishError
from star_platform.publishing.model import FIELD, PublishedNode, join_key
from star_platform.publishing.prepare import Prepared
from star_platform.publishing.read import read_historical, read_online

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

    from star_platform.publishing.writers import OnlineWriter

_RESUME = "nothing was activated; run `star-platform release --resume`"


def sample_rows(prepared: Prepared, shard_rows: int, size: int) -> npt.NDArray[np.int64]:
    """At least `size` rows (or all there are), with the first and last of every shard; the same ones every time."""
    if prepared.rows <= size:
        return np.arange(prepared.rows, dtype=np.int64)
    edges = [row for shard in prepared.shards(shard_rows) for row in (shard.start, shard.stop - 1)]
    generator = np.random.default_rng(int(prepared.checksum[:16], 16))
    drawn = generator.choice(prepared.rows, size, replace=False)
    return np.unique(np.concatenate([drawn, np.asarray(edges, dtype=np.int64)]))


def absent_ids(prepared: Prepared, count: int = 5) -> list[int] | list[str]:
    """Ids of the right type that have no vector; the same ones every time."""
    drawn = np.random.default_rng(prepared.rows).integers(-(2**63), 2**63 - 1, 20 * count)
    tried = pa.array(drawn if prepared.key_type == "int64" else [f"absent-{number}" for number in drawn])
    absent: list[Any] = tried.filter(pc.invert(pc.is_in(tried, prepared.keys))).to_pylist()
    return absent[:count]


def verify_stored(writer: OnlineWriter, view: FeatureView, prepared: Prepared, rows: npt.NDArray[np.int64]) -> None:
    """Compare `rows` of `prepared` with the bytes in the online store; raises PublishError F022 or F023."""
    _same(prepared, rows, *writer.read(view, prepared.keys.take(pa.array(rows))), view.projection.version_tag)
    absent = pa.array(absent_ids(prepared), prepared.keys.type)
    if writer.read(view, absent)[1].any():
        raise _ghosts(prepared.node, view.projection.version_tag)


def _same(
    prepared: Prepared,
    rows: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    found: npt.NDArray[np.bool_],
    release: int,
) -> None:
    expected = np.ascontiguousarray(prepared.vectors[rows])
    wrong = ~found | (vectors.view(np.uint32) != expected.view(np.uint32)).any(axis=1)
    if wrong.any():
        raise PublishError(
            "F022",
            f"{int(wrong.sum())} of {len(rows)} sampled online vectors of {prepared.node} in r{release} differ"
            f" ({int((~found).sum())} are missing); the first is row {int(rows[np.argmax(wrong)])} of the artefact",
            hint=_RESUME,
        )


def _ghosts(node: str, release: int) -> PublishError:
    return PublishError("F023", f"Feast finds vectors of {node} in r{release} for ids that have none", hint=_RESUME)


def verify_stock(
    store: FeatureStore, release: int, node: PublishedNode, prepared: Prepared, rows: npt.NDArray[np.int64]
) -> None:
    """Compare `rows` of `prepared` with what a stock client reads online and offline.

    Raises:
        PublishError: F022 a vector differs or is missing online, F023 an absent id is found, F024 the historical join
            returns anything else.
    """
    ids = prepared.keys.take(pa.array(rows)).to_pylist()
    expected = np.ascontiguousarray(prepared.vectors[rows])
    _same(prepared, rows, *read_online(store, release, node, ids), release)
    _, ghosts = read_online(store, release, node, absent_ids(prepared))
    if ghosts.any():
        raise _ghosts(node.node, release)
    _verify_historical(store, release, node, ids, expected)


def _verify_historical(
    store: FeatureStore,
    release: int,
    node: PublishedNode,
    ids: list[int] | list[str],
    expected: npt.NDArray[np.float32],
) -> None:
    """The sample at the release's time must be there, bit-equal; before its first rows there must be nothing."""
    import pandas as pd

    if not ids:
        return
    first = node.as_of if node.since is None else node.since
    moments = np.repeat(np.array([node.as_of, first - 1], dtype="datetime64[us]"), len(ids))
    asked = pd.DataFrame({join_key(node.node): [*ids, *ids], "event_timestamp": pd.to_datetime(moments, utc=True)})
    answer = read_historical(store, release, node, asked, strict=False)[FIELD].tolist()
    now, before = answer[: len(ids)], answer[len(ids) :]
    good = all(
        value is not None and np.asarray(value, dtype=np.float32).tobytes() == row.tobytes()
        for value, row in zip(now, expected, strict=True)
    )
    if not good or any(value is not None for value in before):
        raise PublishError(
            "F024",
            f"the historical join of {node.node} in r{release} returns "
            + ("other vectors than the artefact" if not good else "vectors for moments before the release's data ends"),
            hint=_RESUME,
        )
