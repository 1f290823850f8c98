"""What is published, as plain values: the registry keeps them as JSON, Feast's objects are derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from star_platform.errors import PublishError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from star_platform.compat.model import CompatMap

KeyType = Literal["int64", "string"]

FIELD = "embedding"
"""The one field of every view."""


@dataclass(frozen=True)
class NodeVectors:
    """The embeddings of one entity node type, as the `embed` stage left them.

    ids: [n], any integer or string type, ascending and unique (row i of `ids.parquet` is node i).
    vectors: float32 [n, dim], usually a memory map; row i belongs to ids[i].
    """

    node: str
    ids: pa.Array
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PublishedNode:
    """The vectors of one node type in one release.

    space: fingerprint of the embedding space; vectors of two spaces are never combined (DESIGN 4.5).
    as_of: event time of the newest rows in microseconds since the epoch, the newest event of the graph; never a clock.
    norm: smallest and largest L2 norm of a row.
    checksum: SHA-256 over ids and vectors in id order.
    """

    node: str
    dim: int
    rows: int
    key_type: KeyType
    space: str
    as_of: int
    norm: tuple[float, float]
    checksum: str
    dtype: str = "float32"
    since: int | None = None
    """Event time of the oldest rows where some were published later (`Publisher.sync`); None: all are of `as_of`."""


@dataclass(frozen=True)
class PublishedRelease:
    """One release as Feast holds it: version `v<number>` of the view of each of its node types."""

    number: int
    nodes: Mapping[str, PublishedNode]

    def record(self) -> dict[str, Any]:
        """As JSON data for our registry; `from_record` reads it back."""
        return {
            "number": self.number,
            "nodes": [_node_record(node) for _, node in sorted(self.nodes.items())],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PublishedRelease:
        nodes = (PublishedNode(**{**item, "norm": tuple(item["norm"])}) for item in record["nodes"])
        return cls(int(record["number"]), {node.node: node for node in nodes})


@dataclass(frozen=True)
class ConsumerPin:
    """One consumer and the release that it reads; the caller has resolved `latest` through our alias events."""

    name: str
    owner: str
    nodes: tuple[str, ...]
    release: int


@dataclass(frozen=True)
class FeastState:
    """All that Feast shall know, as our registry has it.

    releases: every release that is published, of any state but failed, and not purged unless it has a route: its
        readers stay pinned to it. In any order.
    active: number of the active release, None before the first activation.
    offline_root: folder of the Parquet datasets (`Publisher.offline_root`).
    maps: every compat map that readers may use, of releases whose own vectors are served.
    routes: for each retired release (`target`) and node type the map that answers for it, from `source`.
    notices: by release number, what its readers are told (JSON data), such as that it is deprecated.
    """

    offline_root: Path
    releases: tuple[PublishedRelease, ...] = ()
    active: int | None = None
    consumers: tuple[ConsumerPin, ...] = field(default=())
    maps: tuple[CompatMap, ...] = ()
    routes: tuple[CompatMap, ...] = ()
    notices: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def in_order(self) -> tuple[PublishedRelease, ...]:
        return tuple(sorted(self.releases, key=lambda release: release.number))

    def release(self, number: int) -> PublishedRelease | None:
        return next((release for release in self.releases if release.number == number), None)

    def front(self) -> dict[str, int]:
        """The version that each node type's view shows unpinned, sorted by node type.

        The active release; where it lacks the node type, the newest release that has it.
        """
        result: dict[str, int] = {}
        for release in self.in_order():
            result.update(dict.fromkeys(release.nodes, release.number))
        active = self.release(self.active) if self.active is not None else None
        if active is not None:
            result.update(dict.fromkeys(active.nodes, active.number))
        return dict(sorted(result.items()))

    def check_pin(self, pin: ConsumerPin) -> None:
        """Raises PublishError F043 when `pin` names a release or a node type that is not published."""
        release = self.release(pin.release)
        missing = [node for node in pin.nodes if release is None or node not in release.nodes]
        if missing or not pin.nodes:
            raise PublishError(
                "F043",
                f"consumer {pin.name} reads {', '.join(missing) or 'nothing'} of release r{pin.release},"
                " which does not hold it",
                hint="name entity node types of that release in its consumer file, or pin another release",
            )

    def check(self) -> None:
        """`check_pin` for every consumer: what `Publisher.reconcile` would refuse, before anything is changed."""
        for pin in self.consumers:
            self.check_pin(pin)

    def with_release(self, release: PublishedRelease) -> FeastState:
        """The state with one more release (or the same one again), not yet active."""
        others = tuple(known for known in self.releases if known.number != release.number)
        return replace(self, releases=(*others, release))


def _node_record(node: PublishedNode) -> dict[str, Any]:
    record = {**vars(node), "norm": list(node.norm)}
    if node.since is None:
        del record["since"]
    return record


def view_name(node: str) -> str:
    """The feature view of a node type."""
    return f"{node}_embedding"


def node_of_view(view: str) -> str:
    """The node type of a feature view."""
    return view.removesuffix(f"_{FIELD}")


def join_key(node: str) -> str:
    """The column that holds the ids of `node`, in entity rows and data frames."""
    return f"{node}_id"


def reference(node: str, release: int) -> str:
    """The pinned reference that consumers use, such as `member_embedding@v2:embedding`."""
    return f"{view_name(node)}@v{release}:{FIELD}"


def dataset_folder(offline_root: Path, release: int, node: str) -> Path:
    """Where the Parquet shards of one release and node type lie."""
    return offline_root / f"r{release}" / node
