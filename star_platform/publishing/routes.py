"""Maps, routes and notices in the online store: rows of the feature view `compat_transform`.

    member:r3->r1    every published map
    member@r1        the route: a copy of the map that answers reads of r1 now; where there is none, r1 is read itself
    notice@r1        what readers of r1 are told, as JSON

The view has no version and its schema never changes. Rows are replaced, never deleted: a row without weights and
details says "nothing".
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from star_platform.publishing.wire import entity_keys

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig

    from star_platform.compat.model import CompatMap

VIEW = "compat_transform"
KEY = "transform_id"
NUMBERS = ("source_release", "target_release", "source_dim", "target_dim", "hidden_dim", "normalise")
TEXTS = ("node", "source_space", "target_space", "method", "via", "fidelity", "details")
ARRAYS = ("weights", "bias", "hidden_w1", "hidden_b1", "hidden_w2", "hidden_b2")
"""Float64, row by row."""

_FIELDS = (*NUMBERS, *TEXTS, *ARRAYS)
"""Named in every read: Feast's Postgres store cannot read all without names, and its Redis store changes the list."""

Row = Mapping[str, Any]
"""A row as plain values: int, str, float64 [k]."""


def dataset(offline_root: Path) -> Path:
    """The Parquet file of all rows."""
    return offline_root / f"{VIEW}.parquet"


def map_id(node: str, source: int, target: int) -> str:
    """Key of a published map, such as `member:r3->r1`."""
    return f"{node}:r{source}->r{target}"


def route_id(node: str, release: int) -> str:
    """Key of the route in use, such as `member@r1`."""
    return f"{node}@r{release}"


def notice_id(release: int) -> str:
    """Key of what readers of a release are told, such as `notice@r1`."""
    return f"notice@r{release}"


def nothing() -> dict[str, Any]:
    """The row that stands for no map and no notice."""
    empty: dict[str, Any] = dict.fromkeys(NUMBERS, 0) | dict.fromkeys(TEXTS, "")
    return empty | {name: np.empty(0, dtype=np.float64) for name in ARRAYS}


def map_row(each: CompatMap) -> dict[str, Any]:
    """The row of a map; `row_map` reads it back."""
    hidden = each.hidden
    parts = (each.weights, each.bias, *((hidden.w1, hidden.b1, hidden.w2, hidden.b2) if hidden is not None else ()))
    return (
        nothing()
        | {
            "node": each.node,
            "source_release": each.source,
            "target_release": each.target,
            "source_dim": each.weights.shape[0],
            "target_dim": each.weights.shape[1],
            "hidden_dim": hidden.b1.shape[0] if hidden is not None else 0,
            "normalise": int(each.normalise),
            "source_space": each.source_space,
            "target_space": each.target_space,
            "method": each.method,
            "via": each.via,
            "fidelity": json.dumps(dict(each.fidelity), sort_keys=True),
        }
        | {
            name: np.ascontiguousarray(part, dtype=np.float64).reshape(-1)
            for name, part in zip(ARRAYS, parts, strict=False)
        }
    )


def row_map(row: Row) -> CompatMap | None:
    """The map of a row, None where the row holds none."""
    from star_platform.compat.model import CompatMap, Hidden

    if not len(row["weights"]):
        return None
    d_n, d_m, h = (int(row[name]) for name in ("source_dim", "target_dim", "hidden_dim"))
    hidden = None
    if h:
        hidden = Hidden(
            row["hidden_w1"].reshape(d_n, h), row["hidden_b1"], row["hidden_w2"].reshape(h, d_m), row["hidden_b2"]
        )
    return CompatMap(
        node=row["node"],
        source=int(row["source_release"]),
        target=int(row["target_release"]),
        source_space=row["source_space"],
        target_space=row["target_space"],
        weights=row["weights"].reshape(d_n, d_m),
        bias=row["bias"],
        normalise=bool(row["normalise"]),
        method=row["method"],
        via=row["via"],
        hidden=hidden,
        fidelity=json.loads(row["fidelity"]),
    )


def notice_row(release: int, details: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a notice; `row_notice` reads it back."""
    return nothing() | {"target_release": release, "details": json.dumps(details, sort_keys=True)}


def row_notice(row: Row) -> dict[str, Any] | None:
    """What a notice row says, None where it says nothing."""
    return dict(json.loads(row["details"])) if row["details"] else None


def to_values(row: Row) -> dict[str, Any]:
    """A row as Feast's values."""
    from feast.protos.feast.types.Value_pb2 import Value

    return {
        **{name: Value(int64_val=int(row[name])) for name in NUMBERS},
        **{name: Value(string_val=row[name]) for name in TEXTS},
        **{name: Value(double_list_val={"val": row[name].tolist()}) for name in ARRAYS},
    }


def from_values(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A row out of Feast's values, None where the store has no such row."""
    if not values or values.get("node", None) is None or values["node"].WhichOneof("val") is None:
        return None
    return {
        **{name: int(values[name].int64_val) for name in NUMBERS},
        **{name: str(values[name].string_val) for name in TEXTS},
        **{name: _doubles(values[name].double_list_val) for name in ARRAYS},
    }


def _doubles(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Feast's list of doubles, without a Python object for each: a matrix has tens of thousands."""
    count = len(values.val)
    packed = values.SerializeToString()
    return np.frombuffer(packed[len(packed) - 8 * count :], "<f8").astype(np.float64)


Read = Callable[[list[Any]], Sequence[tuple[Any, Mapping[str, Any] | None]]]
"""Feast's `online_read` of `compat_transform` for entity keys."""


def online_reader(online_store: Any, config: RepoConfig) -> Read:
    """`Read` over any Feast online store; one that has no such table yet has no rows."""
    from star_platform.publishing.objects import compat_view

    view = compat_view(None)

    def read(keys: list[Any]) -> Sequence[tuple[Any, Mapping[str, Any] | None]]:
        try:
            rows: Sequence[tuple[Any, Any]] = online_store.online_read(config, view, keys, list(_FIELDS))
        except Exception as error:
            if "no such table" in str(error) or type(error).__name__ == "UndefinedTable":
                return [(None, None)] * len(keys)
            raise
        return rows

    return read


def read_rows(read: Read, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows that are there, by id; 500 a request, for SQLite limits the variables of a statement."""
    result: dict[str, dict[str, Any]] = {}
    for at in range(0, len(ids), 500):
        asked = list(ids[at : at + 500])
        for name, (_, values) in zip(asked, read(entity_keys(KEY, asked)), strict=True):
            row = from_values(values)
            if row is not None:
                result[name] = row
    return result


def read_routes(read: Read, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], CompatMap]:
    """The route in use of every (node, release) of `wanted` that has one."""
    asked = list(wanted)
    rows = read_rows(read, [route_id(*item) for item in asked])
    routes = {item: row_map(rows[route_id(*item)]) for item in asked if route_id(*item) in rows}
    return {item: route for item, route in routes.items() if route is not None}


def read_notices(read: Read, releases: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What the readers of each release are told, where there is something."""
    asked = list(releases)
    rows = read_rows(read, [notice_id(item) for item in asked])
    notices = {item: row_notice(rows[notice_id(item)]) for item in asked if notice_id(item) in rows}
    return {item: notice for item, notice in notices.items() if notice is not None}


class RouteCache:
    """The routes that a store looked up, each for `ttl` seconds; that there is none is remembered as well.

    Thread-safe: two threads may look the same route up, and neither waits for the other.
    """

    def __init__(
        self,
        read: Callable[[str, int], CompatMap | None],
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._ttl, self._clock = read, ttl, clock
        self._known: dict[tuple[str, int], tuple[float, CompatMap | None]] = {}
        self._lock = threading.Lock()

    def fresh(self, node: str, release: int) -> bool:
        """Whether `get` answers without the store."""
        known = self._known.get((node, release))
        return known is not None and self._clock() < known[0]

    def get(self, node: str, release: int) -> CompatMap | None:
        """The route of a release, None where it is read itself; at most `ttl` seconds old."""
        known = self._known.get((node, release))
        if known is not None and self._clock() < known[0]:
            return known[1]
        route = self._read(node, release)
        if known is not None and known[1] is not None and route is not None:
            route = known[1] if known[1].fingerprint == route.fingerprint else route  # keeps its float32 copies
        with self._lock:
            self._known[node, release] = (self._clock() + self._ttl, route)
        return route
