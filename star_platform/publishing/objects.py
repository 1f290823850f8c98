"""Feast's objects as pure functions of our registry's values.

`feature_repo/definitions.py` and the publisher build them from the same functions, so a plain `feast apply` finds
nothing to change.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import PublishError
from star_platform.publishing import routes
from star_platform.publishing.layout import DIM_TAG, SPACE_TAG
from star_platform.publishing.model import (
    FIELD,
    ConsumerPin,
    FeastState,
    KeyType,
    PublishedNode,
    PublishedRelease,
    dataset_folder,
    join_key,
    reference,
    view_name,
)

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView, FileSource


TRANSFORM = "compat"
"""The entity of maps, routes and notices."""


def has_transforms(state: FeastState) -> bool:
    """Whether there is anything for the view of maps, routes and notices."""
    return bool(state.maps or state.routes or state.notices)


def entity(node: str, key_type: KeyType) -> Entity:
    """One per entity node type; its join key is `<node>_id`."""
    from feast import Entity
    from feast.value_type import ValueType

    value_type = ValueType.INT64 if key_type == "int64" else ValueType.STRING
    return Entity(name=node, join_keys=[join_key(node)], value_type=value_type)


def source(offline_root: Path, release: int, node: str) -> FileSource:
    """The Parquet dataset of one release. Its path is absolute: DuckDB resolves others by the reader's folder."""
    from feast import FileSource
    from feast.data_format import ParquetFormat

    return FileSource(
        name=f"{view_name(node)}_r{release}",
        path=str(dataset_folder(offline_root.resolve(), release, node)),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
    )


def view(offline_root: Path, release: int, node: PublishedNode) -> FeatureView:
    """Version `v<release>` of `<node>_embedding`. Nothing mutable is in it: a declared version never changes."""
    from feast import FeatureView, Field
    from feast.types import Array, Float32, Int64, String

    result = FeatureView(
        name=view_name(node.node),
        entities=[entity(node.node, node.key_type)],
        schema=[
            Field(name=join_key(node.node), dtype=Int64 if node.key_type == "int64" else String),
            Field(name=FIELD, dtype=Array(Float32)),
        ],
        source=source(offline_root, release, node.node),
        ttl=timedelta(0),
        tags={SPACE_TAG: node.space, DIM_TAG: str(node.dim)},
        version=f"v{release}",
    )
    # Without it, `feast apply` plans the table of an unversioned view, and drops that of the version in its place.
    result.current_version_number = release
    return result


def compat_entity() -> Entity:
    """The entity of maps, routes and notices."""
    from feast import Entity
    from feast.value_type import ValueType

    return Entity(name=TRANSFORM, join_keys=[routes.KEY], value_type=ValueType.STRING)


def compat_view(offline_root: Path | None) -> FeatureView:
    """Maps, routes and notices (`routes`): no version, and a schema that never changes.

    offline_root: None for a view that only an online store is shown.
    """
    from feast import FeatureView, Field, FileSource
    from feast.data_format import ParquetFormat
    from feast.types import Array, Float64, Int64, String

    return FeatureView(
        name=routes.VIEW,
        entities=[compat_entity()],
        schema=[
            Field(name=routes.KEY, dtype=String),
            *(Field(name=name, dtype=Int64) for name in routes.NUMBERS),
            *(Field(name=name, dtype=String) for name in routes.TEXTS),
            *(Field(name=name, dtype=Array(Float64)) for name in routes.ARRAYS),
        ],
        source=FileSource(
            name=routes.VIEW,
            path=str(routes.dataset(offline_root.resolve() if offline_root is not None else Path("/"))),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        ),
        ttl=timedelta(0),
    )


def detached_view(offline_root: Path, release: int, node: PublishedNode) -> FeatureView:
    """The view as the online store sees it, so that rows can be written before any registry knows the version."""
    result = view(offline_root, release, node)
    result.projection.version_tag = release
    return result


def service(state: FeastState, pin: ConsumerPin) -> FeatureService:
    """One per consumer, every reference pinned; raises PublishError F043 when the release cannot serve it."""
    from feast import FeatureService

    state.check_pin(pin)
    return FeatureService(
        name=pin.name, features=[reference(node, pin.release) for node in sorted(pin.nodes)], owner=pin.owner
    )


def feast_objects(state: FeastState) -> list[Any]:
    """Entities, sources of every release, the front view of every node type, and services, for `definitions.py`."""
    nodes = {node: published for release in state.in_order() for node, published in release.nodes.items()}
    releases: dict[int, PublishedRelease] = {release.number: release for release in state.releases}
    front = state.front()
    transforms = [compat_view(state.offline_root)] if has_transforms(state) else []
    return [
        *(entity(node, published.key_type) for node, published in sorted(nodes.items())),
        *(
            source(state.offline_root, release.number, node)
            for release in state.in_order()
            for node in sorted(release.nodes)
            if front[node] != release.number  # the view brings its own
        ),
        *(view(state.offline_root, number, releases[number].nodes[node]) for node, number in front.items()),
        *(each for view in transforms for each in (compat_entity(), view)),
        *(service(state, pin) for pin in sorted(state.consumers, key=lambda pin: pin.name)),
    ]


def definitions(state: FeastState, feature_repo: Path) -> list[Any]:
    """`feast_objects`, for `definitions.py`: only while Feast's registry holds what ours says.

    Raises:
        PublishError: F041 otherwise. `feast apply` drops the tables of versions that leave the front, before it looks
            at anything else; refusing to load is what keeps it from doing so while the two registries disagree.
    """
    from star_platform.publishing.projection import compare_state, open_store

    differences = compare_state(open_store(feature_repo), state)
    if differences:
        raise PublishError(
            "F041",
            f"Feast's registry is out of step with ours: {differences[0]}",
            hint="run `star-platform doctor --repair`; it rebuilds Feast's registry and touches no vector",
        )
    return feast_objects(state)
