"""Feast's registry as a projection of ours: compared, amended in a copy, and swapped in by one rename.

Feast writes its registry file object by object and in place. Doing that to a copy means that no reader ever sees a
half-applied release, that what will be visible can be verified before it is, and that a killed publisher leaves the
old registry untouched.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import PublishError
from star_platform.publishing import objects, routes
from star_platform.publishing.foreign import drop_foreign, record_tables, version_key, versions
from star_platform.publishing.model import ConsumerPin, FeastState, view_name
from star_platform.publishing.transforms import write_transforms
from star_platform.publishing.wire import check_feast

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig


def open_store(feature_repo: Path, *, stock: bool = False) -> FeatureStore:
    """A Feast client of our own, whose reads nobody counts.

    stock: through Feast's own online store, whatever feature_store.yaml names: no routes, as others see it.
    Raises PublishError F001, F003 or F004 when version or settings do not fit.
    """
    from feast import FeatureStore

    config = load_config(feature_repo)
    return FeatureStore(repo_path=str(feature_repo), config=as_stock(config) if stock else config)


def as_stock(config: RepoConfig) -> RepoConfig:
    """The same settings with Feast's own online store in the place of ours."""
    settings = config.online_store
    if not type(settings).__module__.startswith("star_platform."):
        return config
    module = importlib.import_module(type(settings).__module__)
    config.online_config = config._online_store = module.stock_config(settings)
    return config


def load_config(feature_repo: Path, *, quiet: bool = True) -> RepoConfig:
    """feature_store.yaml, with the settings that releases depend on checked. quiet: the store counts no reads."""
    check_feast()
    from feast.repo_config import load_repo_config

    path = feature_repo / "feature_store.yaml"
    if not path.is_file():
        raise PublishError("F004", f"{path} is missing", hint="run `star-platform init` in the project's folder")
    config = load_repo_config(feature_repo, path)
    wrong = []
    if not config.registry.enable_online_feature_view_versioning:
        wrong.append("registry.enable_online_feature_view_versioning must be true")
    if config.entity_key_serialization_version != 3:
        wrong.append("entity_key_serialization_version must be 3")
    if getattr(config.online_store, "skip_dedup", True) is False:
        wrong.append("online_store.skip_dedup must be true, or Redis silently skips rows that are written again")
    if wrong:
        raise PublishError("F003", f"{path}: {'; '.join(wrong)}", hint="change these lines and run again")
    if quiet and hasattr(config.online_store, "count_reads"):
        config.online_store.count_reads = False
    registry = _registry_file(config, feature_repo)
    if registry is not None:
        registry.parent.mkdir(parents=True, exist_ok=True)  # Feast makes one level of folders only
    return config


@dataclass
class Staged:
    """A client whose registry nobody else sees yet; `changes` says in words what was done to it."""

    store: FeatureStore
    changes: list[str] = field(default_factory=list)


@contextmanager
def staged_registry(feature_repo: Path) -> Iterator[Staged]:
    """Work on a copy of the registry file; it replaces the real one when the block ends without an error.

    A registry in a database has no copy: there the work is done in place, object by object, and `reconcile` with the
    former state takes it back.
    """
    from feast import FeatureStore

    config = as_stock(load_config(feature_repo))
    target = _registry_file(config, feature_repo)
    if target is None:
        yield Staged(FeatureStore(repo_path=str(feature_repo), config=config))
        return
    draft = target.with_name(target.name + ".staged")
    draft.unlink(missing_ok=True)
    if target.exists():
        shutil.copyfile(target, draft)
    config.registry.path = str(draft)
    staged = Staged(FeatureStore(repo_path=str(feature_repo), config=config))
    try:
        yield staged
        if staged.changes:
            os.replace(draft, target)  # Feast has synced the file  # noqa: PTH105
            _sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def apply_state(staged: Staged, state: FeastState) -> None:
    """Make the staged registry hold exactly `state`; raises PublishError F042 if Feast then says otherwise."""
    state.check()
    store = staged.store
    staged.changes += write_transforms(store, state)
    staged.changes += drop_foreign(store, state)
    if objects.has_transforms(state) and routes.VIEW not in {view.name for view in store.list_feature_views()}:
        view = objects.compat_view(state.offline_root)
        store.apply([objects.compat_entity(), view.batch_source, view])
        staged.changes.append(f"registered {view.name}")
    for release in state.in_order():
        for _, node in sorted(release.nodes.items()):
            if release.number not in versions(store, view_name(node.node)):
                view = objects.view(state.offline_root, release.number, node)
                store.apply([objects.entity(node.node, node.key_type), view.batch_source, view])
                staged.changes.append(f"registered {view_name(node.node)}@v{release.number}")
    for node_name, number in state.front().items():
        active = store.registry.get_feature_view(view_name(node_name), store.project)
        if active.current_version_number != number:
            active.version = f"v{number}"
            store.apply([active])
            staged.changes.append(f"put {view_name(node_name)}@v{number} in front")
    for pin in sorted(state.consumers, key=lambda pin: pin.name):
        if _service_key(store, pin.name) != _pin_key(pin):
            store.apply([objects.service(state, pin)])
            staged.changes.append(f"pinned {pin.name} to r{pin.release}")
    staged.changes += record_tables(store)
    differences = compare_state(store, state)
    if differences:
        raise PublishError(
            "F042",
            f"Feast's registry is not what was applied to it: {differences[0]}",
            hint="run `star-platform doctor --repair`; the former registry is still in place",
        )


def compare_state(store: FeatureStore, state: FeastState) -> list[str]:
    """Where Feast's registry differs from `state`, in words; empty when it holds exactly that."""
    store.refresh_registry()
    result: list[str] = []
    for release in state.in_order():
        for node in release.nodes.values():
            known = versions(store, view_name(node.node)).get(release.number)
            if known is None:
                result.append(f"{view_name(node.node)}@v{release.number} is missing")
            elif known != version_key(state, release.number, node):
                result.append(f"{view_name(node.node)}@v{release.number} reads {known[0]}")
    views = {view.name: view.current_version_number for view in store.list_feature_views()}
    known_transforms = routes.VIEW in views
    views.pop(routes.VIEW, None)
    if known_transforms != objects.has_transforms(state):
        result.append(f"{routes.VIEW} is {'missing' if objects.has_transforms(state) else 'not expected'}")
    front = {view_name(node): number for node, number in state.front().items()}
    result += [
        f"{name} shows v{views.get(name)} instead of v{front.get(name)}"
        for name in sorted(views.keys() | front.keys())
        if views.get(name) != front.get(name)
    ]
    services = {service.name for service in store.list_feature_services()}
    pins = {pin.name: pin for pin in state.consumers}
    result += [
        f"feature service {name} is pinned otherwise"
        for name in sorted(services | pins.keys())
        if name not in pins or _service_key(store, name) != _pin_key(pins[name])
    ]
    return result


def _service_key(store: FeatureStore, name: str) -> tuple[Any, ...] | None:
    from feast.errors import FeatureServiceNotFoundException

    try:
        service = store.registry.get_feature_service(name, store.project)
    except FeatureServiceNotFoundException:
        return None
    parts = sorted((part.name, part.version_tag) for part in service.feature_view_projections)
    return (service.owner, tuple(parts))


def _pin_key(pin: ConsumerPin) -> tuple[Any, ...]:
    return (pin.owner, tuple((view_name(node), pin.release) for node in sorted(pin.nodes)))


def _registry_file(config: RepoConfig, feature_repo: Path) -> Path | None:
    """The registry's file, or None when the registry is not a local file."""
    settings = config.registry
    if settings.registry_type != "file" or "://" in settings.path:
        return None
    return Path(feature_repo, settings.path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
