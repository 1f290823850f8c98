"""Metadata of one moment, and how a read is answered by it: whose release, out of what, through which map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from star_platform.errors import PublishError
from star_platform.publishing.layout import Layout

if TYPE_CHECKING:
    from feast import FeatureView

    from star_platform.compat.model import CompatMap


@dataclass(frozen=True, eq=False)
class Version:
    """One node type of one release, as the online store holds it. view: Feast's, pinned to this version."""

    node: str
    release: int
    space: str
    layout: Layout
    view: FeatureView


@dataclass(frozen=True, eq=False)
class Resolved:
    """How one kind of read is answered.

    release, space, dim: what the reader gets. source: what is read for it. route: what is applied to that, if anything.
    """

    node: str
    release: int
    space: str
    dim: int
    source: Version
    route: CompatMap | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All metadata of one moment.

    versions: by node type and release. front: release by node type, for readers that pin none. pins: by consumer.
    routes: the map that answers for a retired release. notices: what the readers of a release are told.
    unstamped: versions that do not say which space they are; nothing reads them.
    """

    versions: Mapping[tuple[str, int], Version]
    front: Mapping[str, int]
    pins: Mapping[str, Mapping[str, int]]
    routes: Mapping[tuple[str, int], CompatMap]
    notices: Mapping[int, Mapping[str, Any]]
    unstamped: frozenset[tuple[str, int]] = frozenset()
    _resolved: dict[tuple[str | None, str | None, int | None], Resolved] = field(default_factory=dict)

    def resolve(self, consumer: str | None, node: str | None, release: int | None) -> Resolved:
        """What answers a read.

        An explicit release comes first, then the consumer's pin, then, for a reader without a name, the active release.

        Raises:
            PublishError: F030 the release lacks the node type or is unknown, F034 the consumer is, F060 the release is
                gone, F061 the node type is not clear, F062 its space is unknown, F063 a map does not fit.
        """
        key = (consumer, node, release)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._resolve(*key)
        return found

    def _resolve(self, consumer: str | None, node: str | None, release: int | None) -> Resolved:
        pins = self.pins.get(consumer) if consumer is not None else None
        node = node if node is not None else _only_node(consumer, pins)
        if release is None:
            release = self._pinned(consumer, pins, node)
        asked = self.versions.get((node, release))
        route = self.routes.get((node, release))
        if route is None:
            if asked is None:
                raise self._unreadable(node, release)
            return Resolved(node, release, asked.space, asked.layout.dim, asked, None)
        source = self.versions.get((node, route.source))
        _check_fit(route, source, asked)
        assert source is not None  # noqa: S101 - checked above
        mapped = None if route.method == "identity" and not route.normalise else route
        return Resolved(node, release, route.target_space, route.dims[1], source, mapped)

    def _pinned(self, consumer: str | None, pins: Mapping[str, int] | None, node: str) -> int:
        if pins is not None and node in pins:
            return pins[node]
        if pins is not None:
            raise PublishError(
                "F030",
                f"consumer {consumer} does not read {node}",
                hint=f"it declares {', '.join(sorted(pins))}; name a release to read {node} all the same",
            )
        if consumer is not None:
            raise PublishError(
                "F034",
                f"Feast has no feature service {consumer}",
                hint="declare the consumer in consumers/ and activate a release, or name the release to read",
            )
        if node not in self.front:
            raise PublishError("F030", f"no release has embeddings of {node}", hint=_list(self.front))
        return self.front[node]

    def _unreadable(self, node: str, release: int) -> PublishError:
        if (node, release) in self.unstamped:
            return PublishError(
                "F062",
                f"{node} of release r{release} does not say which space it is",
                hint="it was published by an older version; run `star-platform doctor --repair`",
            )
        notice = self.notices.get(release, {})
        if notice.get("state") in ("retired", "purged"):
            successor = notice.get("successor") or self.front.get(node)
            return PublishError(
                "F060",
                f"release r{release} of {node} is {notice['state']}: its vectors are no longer served",
                hint=f"read r{successor}, another embedding space: what was trained on r{release} must be retrained",
            )
        there = sorted(number for name, number in self.versions if name == node)
        known = ", ".join(f"r{number}" for number in there)
        return PublishError(
            "F030",
            f"release r{release} has no embedding of {node}",
            hint=f"{node} is in {known}" if known else _list(self.front),
        )


def _only_node(consumer: str | None, pins: Mapping[str, int] | None) -> str:
    if pins is not None and len(pins) == 1:
        return next(iter(pins))
    reads = f"reads {', '.join(sorted(pins))}" if pins else "is not known to Feast"
    raise PublishError(
        "F061",
        f"consumer {consumer} {reads}" if consumer is not None else "a read names neither consumer nor node type",
        hint='say which node type: read(ids, node="...")',
    )


def _check_fit(route: CompatMap, source: Version | None, target: Version | None) -> None:
    """A vector is mapped out of the space that the map was fitted for and no other."""
    if (
        source is None
        or source.space != route.source_space
        or source.layout.dim != route.dims[0]
        or (target is not None and target.space != route.target_space)
    ):
        raise PublishError(
            "F063",
            f"the map {route.name} does not fit the releases that Feast holds",
            hint="run `star-platform doctor --repair`; it writes the maps anew",
        )


def _list(front: Mapping[str, int]) -> str:
    return f"there are embeddings of {', '.join(sorted(front)) or 'nothing'}"
