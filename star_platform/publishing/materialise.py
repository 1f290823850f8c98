"""Writes the mapped vectors of a newer release under the version of a retired one, for clients that know no routes.

They read what every other client gets through the map. Ids that only the retired release had are gone: nobody is ever
answered with a vector of another time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_platform.errors import PublishError
from star_platform.progress import Progress
from star_platform.publishing import dataset, objects
from star_platform.publishing.model import FIELD, PublishedRelease, dataset_folder, join_key
from star_platform.publishing.offline import as_matrix

if TYPE_CHECKING:
    from star_platform.compat.model import CompatMap
    from star_platform.publishing.writers import OnlineWriter


def materialise_route(
    writer: OnlineWriter,
    offline_root: Path,
    route: CompatMap,
    source: PublishedRelease,
    target: PublishedRelease,
    progress: Progress,
) -> int:
    """`Publisher.materialise`; the rows written."""
    _check(route, source, target)
    node, column = route.node, join_key(route.node)
    view = objects.detached_view(offline_root, target.number, target.nodes[node])
    as_of = source.nodes[node].as_of
    _note_ids(offline_root, route)  # first: whoever purges the version must find them
    writer.create(view, fresh=False)
    written: list[pa.Array] = []
    with progress.task(f"materialise {node}", total=source.nodes[node].rows, unit="rows") as task:
        for batch in dataset.current(offline_root, source.number, node):
            batch = batch.filter(pc.is_valid(batch.column(FIELD)))
            keys = batch.column(column)
            writer.write(view, keys, route.apply(as_matrix(batch.column(FIELD), route.weights.shape[0])), as_of)
            written.append(keys)
            task.advance(len(keys))
    rows = sum(map(len, written))
    if rows != source.nodes[node].rows:
        raise PublishError(
            "F020",
            f"the dataset of {node} in r{source.number} has {rows} vectors, {source.nodes[node].rows} were published",
            hint=f"publish r{source.number} again, then retire r{target.number} again",
        )
    for path in dataset.files(offline_root, target.number, node):
        gone = dataset.without(dataset.keys_of(path, node), written)
        if len(gone):
            writer.remove(view, gone)
    return rows


def _note_ids(offline_root: Path, route: CompatMap) -> None:
    """Beside the dataset of the target, one file of ids per source."""
    folder = dataset_folder(offline_root, route.source, route.node)
    files = [*sorted(folder.glob("part-*.parquet")), *dataset.deltas(folder)]
    if not files:
        return
    keys = pa.concat_arrays([dataset.keys_of(path, route.node) for path in files])
    path = offline_root / f"r{route.target}" / f"{route.node}.ids-r{route.source}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    pq.write_table(pa.table({join_key(route.node): keys.unique()}), draft)
    draft.rename(path)


def _check(route: CompatMap, source: PublishedRelease, target: PublishedRelease) -> None:
    """Raises PublishError F054 when the route does not lead from the one release to the other."""
    sides = ((source, route.source, route.weights.shape[0]), (target, route.target, route.weights.shape[1]))
    for release, number, dim in sides:
        node = release.nodes.get(route.node)
        if release.number != number or node is None or node.dim != dim:
            raise PublishError(
                "F054",
                f"the map {route.name} does not lead from r{source.number} to r{target.number}",
                hint="take a map of these two releases",
            )
