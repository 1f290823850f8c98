"""Publishes into a release that is there: only what differs, online and offline; the repair of a damaged store too.

The space stays the release's. What the store holds is read and compared, not assumed, so a call that was killed is
finished by calling it again, and a call that finds nothing to do writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_platform.errors import PublishError
from star_platform.progress import Progress
from star_platform.publishing import dataset, objects, offline
from star_platform.publishing.model import PublishedNode, PublishedRelease
from star_platform.publishing.online import check_count
from star_platform.publishing.prepare import Prepared

if TYPE_CHECKING:
    from feast import FeatureView

    from star_platform.publishing.writers import OnlineWriter

_ROWS = 10_000


@dataclass(frozen=True)
class Synced:
    """What `Publisher.sync` did, in rows of all node types, and the release as it is now, for our registry."""

    written: int
    removed: int
    unchanged: int
    release: PublishedRelease


def sync_node(
    writer: OnlineWriter,
    offline_root: Path,
    release: PublishedRelease,
    item: Prepared,
    as_of: int | None,
    shard_rows: int,
    progress: Progress,
) -> Synced:
    """`Publisher.sync` for one node type."""
    known = release.nodes[item.node]
    _check_fits(known, item)
    node = _sync_offline(offline_root, release.number, known, item, as_of, shard_rows, progress)
    now = replace(release, nodes={**release.nodes, item.node: node})
    view = objects.detached_view(offline_root, release.number, node)
    writer.create(view, fresh=False)
    written = 0
    with progress.task(f"compare {item.node}", total=item.rows, unit="rows") as task:
        for at in range(0, item.rows, _ROWS):
            rows = np.arange(at, min(at + _ROWS, item.rows))
            changed = rows[_differ(writer, view, item, rows)]
            if len(changed):
                writer.write(view, item.keys.take(pa.array(changed)), item.vectors[changed], node.as_of)
            written += len(changed)
            task.advance(len(rows))
    removed = _remove_others(writer, view, offline_root, release.number, item)
    check_count(writer, view, item)
    return Synced(written, removed, item.rows - written, now)


def _check_fits(known: PublishedNode, item: Prepared) -> None:
    if (known.dim, known.key_type) != (item.dim, item.key_type):
        raise PublishError(
            "F056",
            f"vectors of {item.node} have {item.dim} dimensions and {item.key_type} ids; the release has"
            f" {known.dim} and {known.key_type}",
            hint="another space is another release: `star-platform release`",
        )


def _sync_offline(
    offline_root: Path,
    release: int,
    known: PublishedNode,
    item: Prepared,
    as_of: int | None,
    shard_rows: int,
    progress: Progress,
) -> PublishedNode:
    """The record of the node type once its dataset holds `item`."""
    offline.forget_unlisted(offline_root, release, item.node)
    if item.checksum == known.checksum:  # nothing new: the dataset is whole, or it is written again
        offline.export(item, offline_root, release, known.as_of, shard_rows, progress)
        try:
            dataset.check(item, offline_root, release, known.as_of)
        except PublishError:
            offline.export(item, offline_root, release, known.as_of, shard_rows, progress)
        return known
    newest = offline.newest(offline_root, release, item.node)
    found = dataset.difference(item, offline_root, release)
    if len(found.rows) or len(found.gone) or newest is None:
        if as_of is None or newest is None or as_of <= newest:
            raise PublishError(
                "F056",
                f"{len(found.rows)} vectors of {item.node} in r{release} are new, and their time is not after"
                f" {np.datetime64(newest or known.as_of, 'us')}Z, that of the vectors which are there",
                hint="pass the newest event of the data that they were computed from as `as_of`",
            )
        offline.add_delta(item, offline_root, release, as_of, found.rows, found.gone)
        newest = as_of
    since = known.as_of if known.since is None else known.since
    return replace(known, rows=item.rows, norm=item.norm, checksum=item.checksum, as_of=newest, since=since)


def _differ(
    writer: OnlineWriter, view: FeatureView, item: Prepared, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which of some consecutive rows the online store lacks or has otherwise; all, where it holds foreign bytes."""
    wanted = np.ascontiguousarray(item.vectors[rows[0] : rows[-1] + 1])
    try:
        stored, found = writer.read(view, item.keys.slice(int(rows[0]), len(rows)))
    except PublishError as error:
        if error.code != "F033":
            raise
        return np.ones(len(rows), dtype=np.bool_)
    differs: npt.NDArray[np.bool_] = ~found | (stored.view(np.uint32) != wanted.view(np.uint32)).any(axis=1)
    return differs


def _remove_others(writer: OnlineWriter, view: FeatureView, offline_root: Path, release: int, item: Prepared) -> int:
    """Remove every id that was ever published and is not in `item`; how many were still there."""
    removed = 0
    for path in dataset.files(offline_root, release, item.node):
        keys = dataset.keys_of(path, item.node)
        others = keys.filter(pc.invert(pc.is_in(keys, item.keys)))
        if len(others):
            _, found = writer.read(view, others)
            there = others.filter(pa.array(found))
            removed += writer.remove(view, there) if len(there) else 0
    return removed
