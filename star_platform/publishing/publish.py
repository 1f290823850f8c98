"""Publishes a release to Feast: offline, online, verified, then registered; and keeps Feast equal to our registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star_platform.errors import PublishError
from star_platform.progress import SILENT, Progress
from star_platform.publishing import dataset, objects, offline
from star_platform.publishing.admission import as_known, check_names, published_node_of
from star_platform.publishing.foreign import versions
from star_platform.publishing.materialise import materialise_route
from star_platform.publishing.model import FeastState, NodeVectors, PublishedRelease, view_name
from star_platform.publishing.online import Acknowledgements, Parts, check_count, write_online
from star_platform.publishing.prepare import Prepared, prepare
from star_platform.publishing.projection import apply_state, open_store, staged_registry
from star_platform.publishing.purge import Freed, purge_release, size_of
from star_platform.publishing.sync import Synced, sync_node
from star_platform.publishing.verify import sample_rows, verify_stock, verify_stored
from star_platform.publishing.writers import OnlineWriter, best_writer, default_processes

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

    from star_platform.compat.model import CompatMap

_KEEP_ACKNOWLEDGED = ("F050", "F051", "F053")
"""The store did not answer; what it has acknowledged, it holds or is found to have lost."""


class Publisher:
    """The only writer of Feast; its caller holds the release lease.

    feature_repo: folder of `feature_store.yaml`.
    offline_root: folder of the Parquet datasets.
    shard_rows: rows of a Parquet file and of an online acknowledgement; where a killed publish goes on.
    sample: vectors per node type that are read back through a stock client.
    processes: how many write to the online store at the same time, where that helps; None: one less than there are
        cores, three at most.
    writer: how rows reach the online store; None: the fastest way that it has.
    """

    def __init__(
        self,
        feature_repo: Path,
        offline_root: Path,
        *,
        shard_rows: int = 50_000,
        sample: int = 1_000,
        processes: int | None = None,
        writer: Callable[[FeatureStore], OnlineWriter] | None = None,
    ) -> None:
        self.feature_repo = feature_repo.resolve()
        self.offline_root = offline_root.resolve()
        self._shard_rows = shard_rows
        self._sample = sample
        self._writer = writer or best_writer(processes or default_processes())

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
            PublishError: F010 to F016 the input is unfit, F020 to F024 Feast returns anything but what `vectors` holds,
                F050 to F053 the online store does not take them.
        """
        if number < 1 or not vectors:
            raise PublishError(
                "F014",
                f"release r{number} with {len(vectors)} node types cannot be published",
                hint="releases count from 1 and need an entity node type",
            )
        prepared = {item.node: prepare(item) for item in vectors}
        release = PublishedRelease(
            number, {node: published_node_of(item, spaces, as_of) for node, item in sorted(prepared.items())}
        )
        release = as_known(state, release)
        store = open_store(self.feature_repo, stock=True)
        check_names(store, state.with_release(release))
        writer = self._writer(store)
        taken = {node: self._acknowledgements(work_dir, item, as_of) for node, item in prepared.items()}
        try:
            for node, item in sorted(prepared.items()):
                live = number in versions(store, view_name(node))
                self._write(writer, release, item, taken[node], live, progress)
            with staged_registry(self.feature_repo) as staged:
                apply_state(staged, state.with_release(release))
                with progress.task("verify", total=len(prepared), unit="node types") as task:
                    for node, item in sorted(prepared.items()):
                        self._verify(staged.store, writer, release, node, item)
                        task.advance()
        except PublishError as error:
            if error.code not in _KEEP_ACKNOWLEDGED:
                for acknowledged in taken.values():
                    acknowledged.forget()  # what the store took is not what it holds: write it again
            raise
        return release

    def sync(
        self,
        release: PublishedRelease,
        vectors: Sequence[NodeVectors],
        *,
        as_of: int | None = None,
        progress: Progress = SILENT,
    ) -> Synced:
        """Make a published release hold `vectors`, writing only what differs from what the stores hold.

        For entities that joined or whose vector was computed anew *by the same model*: the space stays. Online rows
        are replaced one by one and rows of other ids removed; offline, a shard is added whose rows count from `as_of`
        (microseconds since the epoch, later than any before), so point-in-time joins still see what was served then.
        With the vectors that the release was published with it repairs a damaged store and needs no `as_of`. Node
        types that are not in `vectors` stay. Called again after a crash it does the rest.

        Raises:
            PublishError: F010 to F013 the input is unfit, F030 the release lacks a node type, F056 the vectors are of
                another space or their time is missing, F021 and F022 Feast returns anything else afterwards.
        """
        from star_platform.publishing.read import published_node

        store = open_store(self.feature_repo, stock=True)
        writer, result = self._writer(store), Synced(0, 0, 0, release)
        for source in sorted(vectors, key=lambda source: source.node):
            published_node(release, source.node)
            item = prepare(source)
            done = sync_node(writer, self.offline_root, result.release, item, as_of, self._shard_rows, progress)
            result = Synced(
                result.written + done.written,
                result.removed + done.removed,
                result.unchanged + done.unchanged,
                done.release,
            )
            if release.number in versions(store, view_name(item.node)):
                self._verify(store, writer, done.release, item.node, item)
        return result

    def verify(self, release: PublishedRelease, vectors: Sequence[NodeVectors]) -> None:
        """Compare a published release with `vectors` again, as `publish` did; raises PublishError F020 to F024."""
        store = open_store(self.feature_repo, stock=True)
        writer = self._writer(store)
        for source in vectors:
            item, node = prepare(source), release.nodes[source.node]
            check_count(writer, objects.detached_view(self.offline_root, release.number, node), item)
            dataset.check(item, self.offline_root, release.number, node.as_of)
            self._verify(store, writer, release, source.node, item)

    def reconcile(self, state: FeastState) -> tuple[str, ...]:
        """Make Feast hold exactly `state`, idempotently: its registry, maps, routes, notices; the changes, in words.

        This is activation, rollback, deprecation and retirement too: call it with the new `active`, the pins of the
        consumers, and the routes of the releases that are answered through a map. Vectors are not touched, and readers
        see the old registry or the new one, nothing between; routes are there before it.

        Raises:
            PublishError: F043 a consumer is pinned to what no release holds, F054 a route leads elsewhere.
        """
        with staged_registry(self.feature_repo) as staged:
            apply_state(staged, state)
        return tuple(staged.changes)

    def materialise(
        self, route: CompatMap, source: PublishedRelease, target: PublishedRelease, *, progress: Progress = SILENT
    ) -> int:
        """Write the vectors of `source`, mapped by `route`, under the version of `target`; the rows written.

        For clients with neither our online store nor our client: they go on reading the retired version, in its space,
        and find whom `source` knows. Called again it writes the same.

        Raises:
            PublishError: F054 the route does not lead from `source` to `target`, F020 the dataset of `source` is not
                whole, F050 or F051 the online store does not take them.
        """
        writer = self._writer(open_store(self.feature_repo, stock=True))
        return materialise_route(writer, self.offline_root, route, source, target, progress)

    def purge(
        self, release: PublishedRelease, *, rate: int | None = None, work_dir: Path, progress: Progress = SILENT
    ) -> Freed:
        """Remove the vectors of a release from the online and the offline store; what that gave back in all.

        rate: rows a second at most, so that readers of other releases do not notice; None: as fast as it goes.
        Resumable and idempotent by notes in `work_dir`. Feast's registry is `reconcile`'s: call it first, without the
        release, or with it and its routes.

        Raises:
            PublishError: F050 or F051 the online store does not answer, F055 it cannot remove rows.
        """
        writer = self._writer(open_store(self.feature_repo, stock=True))
        return purge_release(writer, self.offline_root, release, rate, work_dir, progress)

    def purge_size(self, release: PublishedRelease) -> Freed:
        """What `purge` would give back now."""
        return size_of(self._writer(open_store(self.feature_repo, stock=True)), self.offline_root, release)

    def _write(
        self,
        writer: OnlineWriter,
        release: PublishedRelease,
        item: Prepared,
        acknowledged: Acknowledgements,
        live: bool,
        progress: Progress,
    ) -> None:
        node = release.nodes[item.node]
        view = objects.detached_view(self.offline_root, release.number, node)
        if not live and not writer.drops and not offline.is_of(item, self.offline_root, release.number, node.as_of):
            _remove_former(writer, view, dataset.files(self.offline_root, release.number, item.node), item.node)
        offline.export(item, self.offline_root, release.number, node.as_of, self._shard_rows, progress)
        dataset.check(item, self.offline_root, release.number, node.as_of)
        parts = Parts(item.shards(self._shard_rows), dataset.shards(self.offline_root, release.number, item.node))
        write_online(writer, view, item, node.as_of, parts, acknowledged, live, progress)

    def _acknowledgements(self, work_dir: Path, item: Prepared, as_of: int) -> Acknowledgements:
        return Acknowledgements(work_dir / f"online-{item.node}.jsonl", f"{item.checksum}:{self._shard_rows}:{as_of}")

    def _verify(
        self, store: FeatureStore, writer: OnlineWriter, release: PublishedRelease, node: str, item: Prepared
    ) -> None:
        rows = sample_rows(item, self._shard_rows, self._sample)
        verify_stored(writer, objects.detached_view(self.offline_root, release.number, release.nodes[node]), item, rows)
        verify_stock(store, release.number, release.nodes[node], item, rows)


def _remove_former(writer: OnlineWriter, view: FeatureView, files: Sequence[Path], node: str) -> None:
    """Remove the rows of a try with other vectors from a store that cannot drop a version."""
    for path in files:
        try:
            writer.remove(view, dataset.keys_of(path, node))
        except PublishError as error:
            if error.code != "F055":  # such a store keeps them; ids that were in both are written over
                raise
