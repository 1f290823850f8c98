"""Publishes a release to Feast: offline, online, verified, then registered; and keeps Feast equal to our registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from star_platform.progress import SILENT, Progress
from star_platform.publishing.model import FeastState, NodeVectors, PublishedRelease


class Publisher:
    """The only writer of Feast.

    feature_repo: folder of `feature_store.yaml`.
    offline_root: folder of the Parquet datasets; absolute or relative to the process's folder, stored absolute.
    """

    def __init__(
        self,
        feature_repo: Path,
        offline_root: Path,
        *,
        batch_rows: int = 2_000,
        shard_rows: int = 250_000,
        sample: int = 1_000,
    ) -> None:
        self.feature_repo = feature_repo.resolve()
        self.offline_root = offline_root.resolve()

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

        Does not activate: `state` (all that is published before, without or with this release) keeps its active
        release in front. Resumable: called again after a crash it goes on at the first shard that `work_dir` has no
        acknowledgement of; called again after success it only verifies. `spaces` is the space fingerprint by node type.

        Raises:
            PublishError: when the input is unfit, or Feast returns anything but what `vectors` holds.
        """
        raise NotImplementedError

    def reconcile(self, state: FeastState) -> tuple[str, ...]:
        """Make Feast's registry hold exactly `state`, idempotently; the changes made, in words.

        This is activation and rollback too: call it with the new `active` and the pins of the consumers.
        """
        raise NotImplementedError
