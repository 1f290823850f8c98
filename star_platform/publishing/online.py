"""The online half: writes the rows of a version that no registry knows yet, shard by shard, and counts them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from star_platform.errors import PublishError
from star_platform.progress import Progress
from star_platform.publishing.prepare import Prepared
from star_platform.publishing.writers import OnlineWriter

if TYPE_CHECKING:
    from feast import FeatureView

PARALLEL_ROWS = 500_000
"""Fewer rows are written before other processes have started."""
_CHECK_ROWS = 10_000


@dataclass(frozen=True)
class Parts:
    """How a version is cut: the rows of each shard, and the Parquet file that holds them."""

    shards: list[range]
    files: list[Path]


@dataclass
class Acknowledgements:
    """The shards that the online store has taken, one line each in `path`, so that a killed publish goes on there.

    identity: what was written and how it was cut; lines of another identity do not count.
    """

    path: Path
    identity: str

    def done(self) -> set[int]:
        """Numbers of the shards taken; an unfinished last line does not count."""
        result: set[int] = set()
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry["identity"] == self.identity:
                result.add(int(entry["shard"]))
        return result

    def forget(self) -> None:
        """Let the next try write every shard again."""
        self.path.unlink(missing_ok=True)

    def add(self, shard: int, rows: int) -> None:
        entry = {"identity": self.identity, "shard": shard, "rows": rows}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry, sort_keys=True))  # the break first: a torn line stays alone
            file.flush()
            os.fsync(file.fileno())


def write_online(
    writer: OnlineWriter,
    view: FeatureView,
    prepared: Prepared,
    as_of: int,
    parts: Parts,
    acknowledged: Acknowledgements,
    live: bool,
    progress: Progress,
) -> None:
    """Write every shard that is not acknowledged, then compare the count; raises PublishError F021.

    `live`: a registry knows the version already. Its rows are then overwritten with themselves, never dropped. A store
    that lost what it had acknowledged (it was restarted, say) is given it again.
    """
    done = acknowledged.done()
    writer.create(view, fresh=not done and not live)
    with progress.task(f"online {prepared.node}", total=prepared.rows, unit="rows") as task:
        done = _still_there(writer, view, prepared, parts, done)
        missing = {number: rows for number, rows in enumerate(parts.shards) if number not in done}
        task.advance(sum(len(parts.shards[number]) for number in done))
        files = {number: parts.files[number] for number in missing}
        large = sum(map(len, missing.values())) >= PARALLEL_ROWS
        for number in (writer.write_files(view, files, as_of) if large else None) or _one_by_one(
            writer, view, prepared, as_of, missing
        ):
            acknowledged.add(number, len(missing[number]))
            task.advance(len(missing[number]))
    check_count(writer, view, prepared)


def _one_by_one(
    writer: OnlineWriter, view: FeatureView, prepared: Prepared, as_of: int, shards: Mapping[int, range]
) -> Iterator[int]:
    for number, rows in shards.items():
        keys = prepared.keys.slice(rows.start, len(rows))
        writer.write(view, keys, prepared.vectors[rows.start : rows.stop], as_of)
        yield number


def _still_there(writer: OnlineWriter, view: FeatureView, prepared: Prepared, parts: Parts, done: set[int]) -> set[int]:
    """The shards of `done` that the store has not lost."""
    shards = [parts.shards[number] for number in sorted(done)]
    keys = pa.concat_arrays([prepared.keys.slice(0, 0), *(prepared.keys.slice(r.start, len(r)) for r in shards)])
    held = writer.count(view, keys) if done else None
    if held is None or held >= len(keys):
        return done
    return {number for number in done if _holds(writer, view, prepared, parts.shards[number])}


def _holds(writer: OnlineWriter, view: FeatureView, prepared: Prepared, rows: range) -> bool:
    """Whether every id of a shard has a vector."""
    for at in range(rows.start, rows.stop, _CHECK_ROWS):
        _, found = writer.read(view, prepared.keys.slice(at, min(_CHECK_ROWS, rows.stop - at)))
        if not found.all():
            return False
    return True


def check_count(writer: OnlineWriter, view: FeatureView, prepared: Prepared) -> None:
    """Raises PublishError F021 when the store counts other than the rows of `prepared`."""
    count = writer.count(view, prepared.keys)
    if count is not None and count != prepared.rows:
        raise PublishError(
            "F021",
            f"the online store holds {count} vectors of {prepared.node}, {prepared.rows} were published",
            hint="run `star-platform release --resume`: it writes them again",
        )
