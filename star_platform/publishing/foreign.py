"""What Feast's registry must lose or have noted before it can hold what ours says; used by `projection` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from star_platform.publishing import objects, routes
from star_platform.publishing.layout import DIM_TAG, SPACE_TAG
from star_platform.publishing.model import FeastState, PublishedNode, dataset_folder, view_name

if TYPE_CHECKING:
    from feast import FeatureStore

VersionKey = tuple[str, ...]


def versions(store: FeatureStore, name: str) -> dict[int, VersionKey]:
    """What makes each declared version of a view what it is, by number."""
    result: dict[int, VersionKey] = {}
    for entry in store.registry.list_feature_view_versions(name, store.project):
        number = int(entry["version_number"])
        view: Any = store.registry.get_feature_view_by_version(name, store.project, number)
        tags = (view.tags.get(SPACE_TAG, ""), view.tags.get(DIM_TAG, ""))
        result[number] = (str(view.batch_source.path), str(view.entity_columns[0].dtype), *tags)
    return result


def version_key(state: FeastState, release: int, node: PublishedNode) -> VersionKey:
    """What `versions` says of a version once it is registered as `state` has it."""
    path = objects.source(state.offline_root, release, node.node).path
    return (str(path), "Int64" if node.key_type == "int64" else "String", node.space, str(node.dim))


def drop_foreign(store: FeatureStore, state: FeastState) -> list[str]:
    """Remove what `state` does not know, and views whose declared versions say something else than ours; in words.

    Feast never lets a declared version change, so such a view is registered anew, all versions of it; rows stay.
    """
    project, changes = store.project, []
    removed = _drop_views(store, state)
    changes += [f"removed {name}" for name in sorted(removed)]
    pins = {pin.name for pin in state.consumers}
    for service in store.list_feature_services():  # a service holds copies of the sources of its views
        if service.name not in pins or any(part.name in removed for part in service.feature_view_projections):
            store.registry.delete_feature_service(service.name, project)
            changes.append(f"removed feature service {service.name}")
    sources = {
        f"{view_name(node)}_r{release.number}": str(dataset_folder(state.offline_root, release.number, node))
        for release in state.releases
        for node in release.nodes
    }
    entities = {node for release in state.releases for node in release.nodes}
    if objects.has_transforms(state):
        sources[routes.VIEW] = str(routes.dataset(state.offline_root))
        entities.add(objects.TRANSFORM)
    for source in store.list_data_sources():
        if sources.get(source.name) != getattr(source, "path", None):
            store.registry.delete_data_source(source.name, project)
            changes.append(f"removed source {source.name}")
    for entity in store.list_entities():
        if entity.name not in entities and entity.name != "__dummy":
            store.registry.delete_entity(entity.name, project)
            changes.append(f"removed entity {entity.name}")
    return changes


def _drop_views(store: FeatureStore, state: FeastState) -> set[str]:
    wanted: dict[str, dict[int, VersionKey]] = {}
    for release in state.releases:
        for node in release.nodes.values():
            wanted.setdefault(view_name(node.node), {})[release.number] = version_key(state, release.number, node)
    removed = set()
    for view in store.list_feature_views():
        if view.name == routes.VIEW:
            path = str(routes.dataset(state.offline_root))
            foreign = not objects.has_transforms(state) or view.batch_source.path != path
        else:
            expected, known = wanted.get(view.name, {}), versions(store, view.name)
            foreign = any(expected.get(number) != key for number, key in known.items())
        if foreign:
            store.registry.delete_feature_view(view.name, store.project)
            removed.add(view.name)
    return removed


def record_tables(store: FeatureStore) -> list[str]:
    """Tell Feast's registry which tables the front views have; what was changed, in words.

    `feast apply` drops every table that its registry lists and its definitions lack. Were the former front still
    listed after a release, a plain `feast apply` would delete the vectors that pinned consumers read.
    """
    from feast.infra.infra_object import Infra
    from feast.protos.feast.core.Registry_pb2 import Registry

    wanted = Registry()
    wanted.feature_views.extend(view.to_proto() for view in store.list_feature_views())
    infra: Infra = store.provider.plan_infra(store.config, wanted)
    if infra.to_proto() == store.registry.get_infra(store.project).to_proto():
        return []
    store.registry.update_infra(infra, store.project)
    return ["recorded the tables of the front views"]
