"""Writes the maps, routes and notices of our registry into the online store, and offline beside the vectors.

They are data, not definitions: rows of one feature view (`routes`), put there before Feast's registry is swapped, so
that no reader sees a release retired without what answers for it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import PublishError
from star_platform.publishing import routes
from star_platform.publishing.model import FeastState
from star_platform.publishing.objects import compat_view
from star_platform.publishing.wire import entity_keys

if TYPE_CHECKING:
    from feast import FeatureStore

_ROWS = 20
"""Rows per write: one holds a whole matrix."""


def rows_of(state: FeastState) -> dict[str, dict[str, Any]]:
    """Every row that `state` asks for, by id; raises PublishError F054 when a route cannot answer."""
    for route in state.routes:
        _check(state, route)
    return {
        **{routes.map_id(each.node, each.source, each.target): routes.map_row(each) for each in state.maps},
        **{routes.route_id(each.node, each.target): routes.map_row(each) for each in state.routes},
        **{routes.notice_id(number): routes.notice_row(number, told) for number, told in state.notices.items()},
    }


def write_transforms(store: FeatureStore, state: FeastState) -> list[str]:
    """Make the online store hold the rows of `state`; what was changed, in words.

    Rows that are there already are not written again. A route or a notice that `state` no longer has is overwritten
    with a row that says nothing.
    """
    rows = rows_of(state)
    known = _known(store, [*rows, *_possible(state)])
    cancelled = {name: routes.nothing() for name in known if name not in rows and _says_something(known[name])}
    changed = {
        name: row for name, row in {**rows, **cancelled}.items() if name not in known or not _same(row, known[name])
    }
    if changed:
        view = compat_view(state.offline_root)
        store.provider.update_infra(store.project, [], [view], [], [], partial=True)
        _write(store, view, changed, _moment(state))
        held = _known(store, list(changed))
        missing = [name for name, row in changed.items() if name not in held or not _same(row, held[name])]
        if missing:
            raise PublishError(
                "F042",
                f"the online store did not keep {missing[0]}",
                hint="see that nobody else writes to it, then run the command again",
            )
    if rows:
        _write_offline(state, rows)
    return [f"wrote {name}" if name in rows else f"cancelled {name}" for name in sorted(changed)]


def _check(state: FeastState, route: Any) -> None:
    """A route answers from a release that is published, in the space and dimension that its readers expect."""
    source, target = (state.release(number) for number in (route.source, route.target))
    from_node = source.nodes.get(route.node) if source is not None else None
    to_node = target.nodes.get(route.node) if target is not None else None
    fits = from_node is not None and (from_node.space, from_node.dim) == (route.source_space, route.weights.shape[0])
    if to_node is not None:
        fits = fits and (to_node.space, to_node.dim) == (route.target_space, route.weights.shape[1])
    if not fits:
        raise PublishError(
            "F054",
            f"the map {route.name} does not lead from what r{route.source} holds to what r{route.target} held",
            hint="take a map of these two releases; `star-platform show` names their spaces",
        )


def _possible(state: FeastState) -> list[str]:
    """Ids of routes and notices that an earlier state may have written."""
    numbers = sorted(release.number for release in state.releases)
    nodes = {release.number: sorted(release.nodes) for release in state.releases}
    return [
        *(routes.route_id(node, number) for number in numbers for node in nodes[number]),
        *(routes.notice_id(number) for number in numbers),
    ]


def _known(store: FeatureStore, ids: list[str]) -> dict[str, dict[str, Any]]:
    return routes.read_rows(routes.online_reader(store.provider.online_store, store.config), list(dict.fromkeys(ids)))


def _says_something(row: routes.Row) -> bool:
    return bool(len(row["weights"]) or row["details"])


def _same(one: routes.Row, other: routes.Row) -> bool:
    plain = all(one[name] == other[name] for name in (*routes.NUMBERS, *routes.TEXTS))
    return plain and all(np.array_equal(one[name], other[name]) for name in routes.ARRAYS)


def _moment(state: FeastState) -> datetime:
    """The newest data of any release: never a clock, so that equal states give equal rows."""
    newest = max((node.as_of for release in state.releases for node in release.nodes.values()), default=0)
    return datetime.fromtimestamp(newest / 1e6, tz=UTC)


def _write(store: FeatureStore, view: Any, rows: dict[str, dict[str, Any]], moment: datetime) -> None:
    names = sorted(rows)
    for at in range(0, len(names), _ROWS):
        part = names[at : at + _ROWS]
        keys = entity_keys(routes.KEY, part)
        data: list[Any] = [
            (key, routes.to_values(rows[name]), moment, None) for key, name in zip(keys, part, strict=True)
        ]
        store.provider.online_write_batch(store.config, view, data, None)


def _write_offline(state: FeastState, rows: dict[str, dict[str, Any]]) -> None:
    """One Parquet file, replaced as a whole; equal rows give equal bytes."""
    names = sorted(rows)
    columns: dict[str, pa.Array] = {routes.KEY: pa.array(names, pa.string())}
    columns |= {name: pa.array([rows[each][name] for each in names], pa.int64()) for name in routes.NUMBERS}
    columns |= {name: pa.array([rows[each][name] for each in names], pa.string()) for name in routes.TEXTS}
    columns |= {name: pa.array([rows[each][name] for each in names], pa.list_(pa.float64())) for name in routes.ARRAYS}
    times = pa.array([_moment(state)] * len(names), pa.timestamp("us", tz="UTC"))
    path = routes.dataset(state.offline_root)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    pq.write_table(pa.table({**columns, "event_timestamp": times}), draft, compression="zstd")
    os.replace(draft, path)  # noqa: PTH105 - as everywhere else where a rename is what counts
