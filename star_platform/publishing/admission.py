"""Whether a release may be published beside those that are there, and under which record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from star_platform.errors import PublishError
from star_platform.publishing.layout import Layout, make_layout
from star_platform.publishing.model import FeastState, PublishedNode, PublishedRelease
from star_platform.publishing.prepare import Prepared
from star_platform.publishing.usage_sinks import store_family

if TYPE_CHECKING:
    from feast import FeatureStore

_POSTGRES_NAME = 63
"""Bytes of an identifier; Postgres drops the rest without an error."""


def published_node_of(item: Prepared, spaces: Mapping[str, str], as_of: int) -> PublishedNode:
    """The record of checked vectors; raises PublishError F014 when their space has no fingerprint."""
    if item.node not in spaces:
        raise PublishError(
            "F014",
            f"the embedding space of {item.node} has no fingerprint",
            hint="the embed stage writes one per node type; build it again",
        )
    return PublishedNode(
        item.node, item.dim, item.rows, item.key_type, spaces[item.node], as_of, item.norm, item.checksum
    )


def as_known(state: FeastState, release: PublishedRelease) -> PublishedRelease:
    """The release as `state` has it, where it is published already.

    Raises:
        PublishError: F015 it is published with other vectors, F016 the key of a node type had another type before.
    """
    known = state.release(release.number)
    if known is not None:
        plain = {name: replace(node, since=None) for name, node in known.nodes.items()}
        if plain != release.nodes:
            raise PublishError(
                "F015",
                f"release r{release.number} is already published with other vectors",
                hint="numbers are never reused; make a new release",
            )
        release = known
    for other in state.releases:
        for name in other.nodes.keys() & release.nodes.keys():
            if other.nodes[name].key_type != release.nodes[name].key_type:
                raise PublishError(
                    "F016",
                    f"ids of {name} are {release.nodes[name].key_type} in r{release.number}"
                    f" and {other.nodes[name].key_type} in r{other.number}",
                    hint="keep the key's type, or declare a new node type; Feast has one entity for all versions",
                )
    return release


def check_names(store: FeatureStore, state: FeastState) -> None:
    """Before anything is written: do all versions of `state` have a place of their own in the online store?

    Raises:
        PublishError: F052 two versions would share a field of Redis, F057 Postgres would cut the name of a table.
    """
    family = store_family(store.config)
    layouts = [
        make_layout(store.project, name, release.number, node.key_type, node.dim)
        for release in state.in_order()
        for name, node in release.nodes.items()
    ]
    if family == "postgres":
        _check_lengths(layouts)
    elif family == "redis":
        from star_platform.publishing import redis

        redis.check_names(layouts)


def _check_lengths(layouts: list[Layout]) -> None:
    for layout in layouts:
        index = f"{layout.table}_ek"  # Feast's, the longest name that a version has
        if len(index.encode()) > _POSTGRES_NAME:
            raise PublishError(
                "F057",
                f"the name {index} has {len(index.encode())} bytes, and Postgres cuts it at {_POSTGRES_NAME}:"
                f" two versions of {layout.node} could be one table",
                hint="give the project in feature_store.yaml or the node type a shorter name",
            )
