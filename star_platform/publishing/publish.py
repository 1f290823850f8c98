"""Publishes a release to Feast: offline, online, verified, then registered; and keeps Feast equal to our registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star_platform.errors import PublishError
from star_platform.progress import SILENT, Progress
from star_platform.publishing import objects, offline
from star_platform.publishing.model import FeastState, NodeVectors, PublishedNode, PublishedRelease, view_name
from star_platform.publishing.online import Acknowledgements, FeastWriter, OnlineWriter, check_count, write_online
from star_platform.publishing.prepare import Prepared, prepare
from star_platform.publishing.projection import apply_state, open_store, staged_registry, versions
from star_platform.publishing.verify import sample_rows, verify_stock

if TYPE_CHECKING:
    from feast import FeatureStore


class Publisher:
    """The only writer of Feast; its caller holds the release lease.

    feature_repo: folder of `feature_store.yaml`.
    offline_root: folder of the Parquet datasets.
    shard_rows: rows of a Parquet file and of an online acknowledgement; where a killed publish goes on.
    sample: vectors per node type that are read back through a stock client.
    writer: how rows reach the online store.
    """

    def __init__(
        self,
        feature_repo: Path,
        offline_root: Path,
        *,
        shard_rows: int = 50_000,
        sample: int = 1_000,
        writer: Callable[[FeatureStore], OnlineWriter] = FeastWriter,
    ) -> None:
        self.feature_repo = feature_repo.resolve()
        self.offline_root = offline_root.resolve()
        self._shard_rows = shard_rows
        self._sample = sample
        self._writer = writer

    def publish(
        self,
        number: int,
        vectors: Sequence[NodeVectors],
        *,
        spaces: Mapping[str, str],
        as_of: int,
        work_dir: Path,
        state: FeastState,
        progress: Progress = SILENT,
    ) -> PublishedRelease:
        """Write release `number` offline and online, compare with `vectors`, register version `v<number>`.

        Does not activate: `state`, which is all that was published before (with or without this release), keeps its
        active release in front. Nothing is visible to a consumer until every comparison has passed. Resumable: called
        again after a crash it goes on at the first shard that `work_dir` has no acknowledgement of; called again after
        success it verifies. `spaces` is the space fingerprint by node type, `as_of` the newest event of the graph in
        microseconds since the epoch.

        Raises:
            PublishError: F010 to F016 the input is unfit, F020 to F024 Feast returns anything but what `vectors` holds.
        """
        if number < 1 or not vectors:
            raise PublishError(
                "F014",
                f"release r{number} with {len(vectors)} node types cannot be published",
                hint="releases count from 1 and need an entity node type",
            )
        prepared = {item.node: prepare(item) for item in vectors}
        release = PublishedRelease(
            number, {node: _published(item, spaces, as_of) for node, item in sorted(prepared.items())}
        )
        _check_against(state, release)
        store = open_store(self.feature_repo)
        writer = self._writer(store)
        taken = {node: self._acknowledgements(work_dir, item, as_of) for node, item in prepared.items()}
        try:
            for node, item in sorted(prepared.items()):
                live = number in versions(store, view_name(node))
                self._write(writer, release, node, item, taken[node], live, progress)
            with staged_registry(self.feature_repo) as staged:
                apply_state(staged, state.with_release(release))
                with progress.task("verify", total=len(prepared), unit="node types") as task:
                    for node, item in sorted(prepared.items()):
                        self._verify(staged.store, release, node, item)
                        task.advance()
        except PublishError:
            for acknowledged in taken.values():
                acknowledged.forget()  # what the store took is not what it holds: write it again
            raise
        return release

    def verify(self, release: PublishedRelease, vectors: Sequence[NodeVectors]) -> None:
        """Compare a published release with `vectors` again, as `publish` did; raises PublishError F020 to F024."""
        store = open_store(self.feature_repo)
        writer = self._writer(store)
        for source in vectors:
            item, node = prepare(source), release.nodes[source.node]
            check_count(writer, objects.detached_view(self.offline_root, release.number, node), item)
            offline.compare(item, self.offline_root, release.number, node.as_of)
            self._verify(store, release, source.node, item)

    def reconcile(self, state: FeastState) -> tuple[str, ...]:
        """Make Feast's registry hold exactly `state`, idempotently; the changes made, in words.

        This is activation and rollback too: call it with the new `active` and the pins of the consumers. Rows are not
        touched, and readers see the old registry or the new one, nothing between.

        Raises:
            PublishError: F043 a consumer is pinned to what no release holds.
        """
        with staged_registry(self.feature_repo) as staged:
            apply_state(staged, state)
        return tuple(staged.changes)

    def _write(
        self,
        writer: OnlineWriter,
        release: PublishedRelease,
        node: str,
        item: Prepared,
        acknowledged: Acknowledgements,
        live: bool,
        progress: Progress,
    ) -> None:
        published = release.nodes[node]
        offline.export(item, self.offline_root, release.number, published.as_of, self._shard_rows, progress)
        offline.compare(item, self.offline_root, release.number, published.as_of)
        view = objects.detached_view(self.offline_root, release.number, published)
        write_online(writer, view, item, published.as_of, self._shard_rows, acknowledged, live, progress)

    def _acknowledgements(self, work_dir: Path, item: Prepared, as_of: int) -> Acknowledgements:
        return Acknowledgements(work_dir / f"online-{item.node}.jsonl", f"{item.checksum}:{self._shard_rows}:{as_of}")

    def _verify(self, store: FeatureStore, release: PublishedRelease, node: str, item: Prepared) -> None:
        rows = sample_rows(item, self._shard_rows, self._sample)
        verify_stock(store, release.number, release.nodes[node], item, rows)


def _published(item: Prepared, spaces: Mapping[str, str], as_of: int) -> PublishedNode:
    if item.node not in spaces:
        raise PublishError(
            "F014",
            f"the embedding space of {item.node} has no fingerprint",
            hint="the embed stage writes one per node type; build it again",
        )
    return PublishedNode(
        item.node, item.dim, item.rows, item.key_type, spaces[item.node], as_of, item.norm, item.checksum
    )


def _check_against(state: FeastState, release: PublishedRelease) -> None:
    """A published release never changes, and the key of a node type has one type in all releases."""
    known = state.release(release.number)
    if known is not None and known != release:
        raise PublishError(
            "F015",
            f"release r{release.number} is already published with other vectors",
            hint="numbers are never reused; make a new release",
        )
    for other in state.releases:
        for name in other.nodes.keys() & release.nodes.keys():
            if other.nodes[name].key_type != release.nodes[name].key_type:
                raise PublishError(
                    "F016",
                    f"ids of {name} are {release.nodes[name].key_type} in r{release.number}"
                    f" and {other.nodes[name].key_type} in r{other.number}",
                    hint="keep the key's type, or declare a new node type; Feast has one entity for all versions",
                )
