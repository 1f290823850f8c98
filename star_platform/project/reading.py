"""Published vectors by name of release or consumer, and the nearest among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star_platform.errors import RegistryError, UsageError
from star_platform.progress import SILENT, Progress

if TYPE_CHECKING:
    from star_platform.project.project import Project
    from star_platform.publishing.model import NodeVectors, PublishedRelease
    from star_platform.publishing.read import Fetched
    from star_platform.publishing.search import Neighbours


def fetch(
    project: Project, node: str, ids: Sequence[str | int], *, release: str = "latest", consumer: str | None = None
) -> Fetched:
    """Online vectors of one node type; ids given as text are read as the key's type.

    Raises:
        UsageError: U004 for a consumer that is not published.
        RegistryError: R010, R011, R022, R023 for a release that is not there.
    """
    if consumer is None:
        return project.reader.fetch(_published(project, release), node, ids)
    pins = {pin.name: pin for pin in project.feast_state().consumers}
    if consumer not in pins:
        known = ", ".join(sorted(pins)) or "none"
        raise UsageError("U004", f"there is no published consumer {consumer!r}", hint=f"there are: {known}")
    return project.reader.fetch(_published(project, f"r{pins[consumer].release}"), node, ids)


def search(project: Project, node: str, key: str, *, of: str, release: str = "latest", k: int = 10) -> Neighbours:
    """The `k` entities of `node` whose vectors are nearest to that of entity `key` of node type `of`, in one release.

    Raises:
        PublishError: F065 where the online store needs an index and there is none, F066 where `key` has no vector.
    """
    from star_platform.publishing.client import EmbeddingClient
    from star_platform.publishing.read import coerce, published_node
    from star_platform.publishing.search import EmbeddingSearch

    found = _published(project, release)
    (wanted,) = coerce(published_node(found, of), [key])
    with EmbeddingClient(project.feature_repo, staleness_seconds=None, count_reads=False) as client:
        searching = EmbeddingSearch(client)
        if of == node:
            return searching.search(wanted, node=node, k=k, release=found.number)
        vectors = client.read([wanted], node=of, release=found.number)
        return searching.search(vectors, node=node, k=k, release=found.number)


def export_index(
    project: Project, release: str, node: str | None = None, progress: Progress = SILENT
) -> dict[str, Path]:
    """Build the search index of every node type of a release, or of one; their folders by node type."""
    from star_platform.publishing import ann
    from star_platform.publishing.read import published_node

    found = _published(project, release)
    nodes = sorted(found.nodes) if node is None else [published_node(found, node).node]
    root = project.publisher.offline_root
    return {name: ann.export_index(root, found.number, found.nodes[name], progress=progress) for name in nodes}


def stored_vectors(project: Project, number: int) -> list[NodeVectors]:
    """The vectors of a release as its artefacts hold them; raises ArtefactError A001 when they are gone."""
    from star_platform.graph.storage import open_graph
    from star_platform.release.stored import entity_vectors

    made = {item.stage: item.fingerprint for item in project.registry.artefacts(number)}
    graph, embedded = project.store.open("graph", made["graph"]), project.store.open("embed", made["embed"])
    return entity_vectors(open_graph(graph.path), embedded.path)


def _published(project: Project, name: str) -> PublishedRelease:
    number = project.find_release(name).number
    found = project.published().get(number)
    if found is None:
        raise RegistryError("R023", f"r{number} is not published", hint="`star-platform releases` lists what is")
    return found
