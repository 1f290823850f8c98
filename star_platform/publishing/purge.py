"""Removes the vectors of a release, online and offline, and says how much space that gave back.

Online first: the ids come out of the offline dataset, which goes last. Each step is noted with its figures before it
is done, so a purge that was killed is finished by calling it again and reports the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_platform.progress import Progress
from star_platform.publishing import dataset, objects, offline
from star_platform.publishing.ann import ann_folder, remove_index
from star_platform.publishing.model import PublishedRelease, dataset_folder

if TYPE_CHECKING:
    from feast import FeatureView

    from star_platform.publishing.writers import OnlineWriter

_ROWS = 2_000
_WHOLE = "all rows"


@dataclass(frozen=True)
class Freed:
    """What a purge gives back.

    rows: vectors in the online store. online_bytes: what they took there: with SQL the pages of the tables (in SQLite
    they are free for other tables, the file keeps its size), with Redis names and values without its own overhead.
    offline_bytes: the files.
    """

    rows: int
    online_bytes: int
    offline_bytes: int

    def __add__(self, other: Freed) -> Freed:
        return Freed(
            self.rows + other.rows,
            self.online_bytes + other.online_bytes,
            self.offline_bytes + other.offline_bytes,
        )


NOTHING = Freed(0, 0, 0)


class Ledger:
    """The steps of a purge with what each frees, one line of JSON each in `path`; a torn last line does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._planned: dict[str, Freed] = {}
        self._done: set[str] = set()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "freed" in entry:
                self._planned[entry["step"]] = Freed(*entry["freed"])
            else:
                self._done.add(entry["step"])

    def run(self, step: str, measure: Callable[[], Freed], act: Callable[[], object]) -> None:
        """Measure and act, unless an earlier try has; its measure stands."""
        if step not in self._planned:
            self._planned[step] = measure()
            self._add({"step": step, "freed": list(vars(self._planned[step]).values())})
        if step not in self._done:
            act()
            self._done.add(step)
            self._add({"step": step})

    def total(self) -> Freed:
        return sum(self._planned.values(), start=NOTHING)

    def _add(self, entry: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry))  # the break first: a torn line stays alone
            file.flush()
            os.fsync(file.fileno())


def purge_release(
    writer: OnlineWriter,
    offline_root: Path,
    release: PublishedRelease,
    rate: int | None,
    work_dir: Path,
    progress: Progress,
) -> Freed:
    """`Publisher.purge`."""
    work_dir.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(work_dir / f"purge-r{release.number}.jsonl")
    for node, published in sorted(release.nodes.items()):
        view = objects.detached_view(offline_root, release.number, published)
        with progress.task(f"purge {node}", total=published.rows, unit="rows") as task:
            for name, keys in _steps(writer, offline_root, release.number, node):
                ledger.run(
                    f"{node}: {name}",
                    lambda keys=keys, view=view: Freed(*writer.size(view, keys), 0),  # type: ignore[misc]
                    lambda keys=keys, view=view: _remove(writer, view, keys, rate, task.advance),  # type: ignore[misc]
                )
        ledger.run(
            f"{node}: offline",
            lambda node=node: Freed(0, 0, _offline_bytes(offline_root, release.number, node)),  # type: ignore[misc]
            lambda node=node: _remove_offline(offline_root, release.number, node),  # type: ignore[misc]
        )
    return ledger.total()


def size_of(writer: OnlineWriter, offline_root: Path, release: PublishedRelease) -> Freed:
    """What `purge_release` would free; nothing is removed."""
    total = NOTHING
    for node, published in release.nodes.items():
        view = objects.detached_view(offline_root, release.number, published)
        for _, keys in _steps(writer, offline_root, release.number, node):
            total += Freed(*writer.size(view, keys), 0)
        total += Freed(0, 0, _offline_bytes(offline_root, release.number, node))
    return total


def _offline_bytes(offline_root: Path, release: int, node: str) -> int:
    """Bytes of the dataset and of the search index beside it."""
    folders = (dataset_folder(offline_root, release, node), ann_folder(offline_root, release, node))
    return sum(map(_bytes_in, folders))


def _remove_offline(offline_root: Path, release: int, node: str) -> None:
    remove_index(offline_root, release, node)
    offline.remove(offline_root, release, node)


def _steps(writer: OnlineWriter, offline_root: Path, release: int, node: str) -> Iterator[tuple[str, pa.Array]]:
    """Ids to remove with a name for each portion: all at once where the store drops tables, else file by file.

    An id that several files hold is in the portion of the first.
    """
    files = dataset.files(offline_root, release, node) + dataset.materialised(offline_root, release, node)
    portions = ((path.name, dataset.keys_of(path, node)) for path in files)
    if writer.drops:
        whole = [keys for _, keys in portions]
        yield _WHOLE, pa.concat_arrays(whole) if whole else pa.array([], pa.int64())
        return
    first = len(dataset.shards(offline_root, release, node))
    seen: list[pa.Array] = []
    for number, (name, keys) in enumerate(portions):
        yield name, keys if number < first else dataset.without(keys, seen)
        if len(files) > first:
            seen.append(keys)


def _remove(
    writer: OnlineWriter, view: FeatureView, keys: pa.Array, rate: int | None, advance: Callable[[int], None]
) -> None:
    """Remove `keys` at no more than `rate` rows a second, then the table where there is one."""
    if rate is not None or not writer.drops:
        start = time.monotonic()
        for at in range(0, len(keys), _ROWS):
            part = keys.slice(at, _ROWS)
            writer.remove(view, part)
            advance(len(part))
            if rate is not None:
                time.sleep(max(0.0, (at + len(part)) / rate - (time.monotonic() - start)))
    else:
        advance(len(keys))
    writer.drop(view)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
