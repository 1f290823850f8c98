"""An index for nearest neighbours beside the offline dataset, for online stores that cannot search.

    <offline_root>/r<N>/<node>.ann/index.usearch     a graph over the vectors (HNSW, arXiv 1603.09320), by row number
    <offline_root>/r<N>/<node>.ann/ids.arrow         the id of every row
    <offline_root>/r<N>/<node>.ann/manifest.json     space, checksums of vectors and files, how it was built

Both large files are memory-mapped, so that all processes of a machine share one copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_platform.errors import DependencyMissing, PublishError
from star_platform.progress import SILENT, Progress
from star_platform.publishing import dataset, offline
from star_platform.publishing.model import FIELD, PublishedNode, dataset_folder, join_key

Metric = Literal["cos", "ip", "l2sq"]

EXACT_ROWS = 10_000
"""Up to so many vectors looking at all of them takes about a millisecond."""
_FORMAT = 1
_FILES = ("index.usearch", "ids.arrow")


@dataclass(frozen=True)
class AnnConfig:
    """How an index is built.

    metric: cosine, inner product or squared Euclidean distance. connectivity: neighbours kept per vector. build and
    search: how many candidates are looked at; more find more of the true neighbours and take longer.
    """

    metric: Metric = "cos"
    connectivity: int = 16
    build: int = 128
    search: int = 128


@dataclass(frozen=True, eq=False)
class AnnIndex:
    """An opened index of one node type of one release. checksum: of the vectors that it was built of."""

    node: str
    release: int
    space: str
    checksum: str
    dim: int
    metric: Metric
    ids: pa.Array
    _index: Any

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """For queries [n, dim] the rows int64 [n, k] of the nearest vectors, nearest first, and distances float32.

        Every vector is looked at where there are few, or where so many are wanted that the graph would miss some.
        """
        exact = len(self.ids) <= EXACT_ROWS or 2 * k > self._index.expansion_search
        wanted = np.ascontiguousarray(queries, dtype=np.float32)
        found = self._index.search(wanted, min(k, len(self.ids)), exact=exact)
        shape = (len(queries), -1)
        return np.asarray(found.keys).astype(np.int64).reshape(shape), np.asarray(found.distances).reshape(shape)


def ann_folder(offline_root: Path, release: int, node: str) -> Path:
    """Where the index of a release and node type lies."""
    folder = dataset_folder(offline_root, release, node)
    return folder.with_name(f"{folder.name}.ann")


def export_index(
    offline_root: Path,
    release: int,
    published: PublishedNode,
    config: AnnConfig | None = None,
    *,
    threads: int = 0,
    progress: Progress = SILENT,
) -> Path:
    """Build the index out of the offline dataset of a published release; the folder.

    One that was built of the same vectors in the same way stays. A killed build leaves nothing visible. threads: 0
    means all cores; the graph depends on the order that threads take turns in, what it finds hardly does.

    Raises:
        DependencyMissing: D030 without the extra `ann`.
        PublishError: F065 the dataset is not there or not complete.
    """
    config = config or AnnConfig()
    folder = ann_folder(offline_root, release, published.node)
    facts = _facts(release, published, config)
    known = _read_manifest(folder)
    if known is not None and {name: known.get(name) for name in facts} == facts:
        return folder
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    rows = _build(offline_root, release, published, config, draft, threads, progress)
    if rows != published.rows:
        raise PublishError(
            "F065",
            f"the offline dataset of {published.node} in r{release} has {rows} rows, {published.rows} were published",
            hint=f"run `star-platform doctor --repair`, then export the index of r{release} again",
        )
    manifest = {**facts, "files": {name: _digest(draft / name) for name in _FILES}}
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder


def open_index(offline_root: Path, release: int, node: str, *, space: str, verify: bool = True) -> AnnIndex:
    """Open an index, in memory shared with other processes.

    space: what the reader takes it to be of. verify: read both files once and compare their checksums.

    Raises:
        DependencyMissing: D030 without the extra `ann`.
        PublishError: F065 there is none, or it is damaged, of another space, or of former vectors.
    """
    folder = ann_folder(offline_root, release, node)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise _unusable(node, release, "was not exported")
    if manifest["space"] != space:
        raise _unusable(node, release, "is of another embedding space")
    if not is_current(offline_root, release, node, manifest["checksum"]):
        raise _unusable(node, release, "is older than the vectors that were published into the release")
    if verify and any(_digest(folder / name) != manifest["files"][name] for name in _FILES):
        raise _unusable(node, release, "is damaged")
    index = _usearch().Index.restore(str(folder / _FILES[0]), view=True)
    if index is None or len(index) != manifest["rows"]:
        raise _unusable(node, release, "is damaged")
    index.expansion_search = int(manifest["config"]["search"])
    ids = pa.ipc.open_file(pa.memory_map(str(folder / _FILES[1]))).read_all().column(0)
    ids = ids.combine_chunks() if ids.num_chunks != 1 else ids.chunk(0)
    metric: Metric = manifest["config"]["metric"]
    return AnnIndex(node, release, space, manifest["checksum"], int(manifest["dim"]), metric, ids, index)


def is_current(offline_root: Path, release: int, node: str, checksum: str) -> bool:
    """Whether an index of vectors with `checksum` is of what the dataset holds now, as far as there is one to ask."""
    return offline.checksum(offline_root, release, node) in (None, checksum)


def remove_index(offline_root: Path, release: int, node: str) -> int:
    """Delete an index; the bytes that gave back."""
    folder = ann_folder(offline_root, release, node)
    size = sum(path.stat().st_size for path in folder.glob("*")) if folder.exists() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _build(
    offline_root: Path,
    release: int,
    published: PublishedNode,
    config: AnnConfig,
    draft: Path,
    threads: int,
    progress: Progress,
) -> int:
    index = _usearch().Index(
        ndim=published.dim,
        metric=config.metric,
        dtype="f32",
        connectivity=config.connectivity,
        expansion_add=config.build,
        expansion_search=config.search,
    )
    schema = pa.schema([pa.field("id", pa.int64() if published.key_type == "int64" else pa.string())])
    at = 0
    with (
        progress.task(f"index {published.node}", total=published.rows, unit="rows") as task,
        pa.OSFile(str(draft / _FILES[1]), "wb") as file,
        pa.ipc.new_file(file, schema) as ids,
    ):
        for batch in dataset.current(offline_root, release, published.node):
            batch = batch.filter(pc.is_valid(batch.column(FIELD)))
            vectors = offline.as_matrix(batch.column(FIELD), published.dim)
            index.add(np.arange(at, at + len(vectors), dtype=np.uint64), vectors, threads=threads)
            ids.write_batch(pa.RecordBatch.from_arrays([batch.column(join_key(published.node))], schema=schema))
            at += len(vectors)
            task.advance(len(vectors))
    index.save(str(draft / _FILES[0]))
    return at


def _facts(release: int, published: PublishedNode, config: AnnConfig) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "node": published.node,
        "release": release,
        "space": published.space,
        "dim": published.dim,
        "rows": published.rows,
        "checksum": published.checksum,
        "config": asdict(config),
    }


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return manifest if manifest.get("format") == _FORMAT else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unusable(node: str, release: int, what: str) -> PublishError:
    return PublishError(
        "F065",
        f"the search index of {node} in r{release} {what}",
        hint=f"export it: star-platform index r{release} --node {node}",
    )


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise DependencyMissing(
            "D030",
            f"searching an exported index needs usearch: {error}",
            hint='install the extra: pip install "star-platform[ann]"',
        ) from error
    return usearch.index
