"""The texts of the active release as changes, so that what has had no event yet is served near-line too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.project.nearline import node_of, release_artefacts
from star_platform.text.cache import TextCache, text_keys
from star_platform.text.nearline.model import Change, Message, Order, TextSignal
from star_platform.text.normalise import normalise

if TYPE_CHECKING:
    from star_platform.project.project import Project

_ROWS = 512
_NO_MESSAGE = Message("seed", None, 0)


@dataclass(frozen=True)
class Seed:
    """One feature's texts. ids: of the nodes. rows: node and text, and when it became true, the newest of each node."""

    signal: TextSignal
    ids: pa.ChunkedArray
    folder: Path
    as_of: int

    @property
    def rows(self) -> int:
        """How many nodes have a row; some of them may have no text."""
        return int(self._newest().sum())

    def changes(self) -> Iterator[list[Change]]:
        """In batches; as of the moment that the text became true, or of the release where it has none."""
        newest, at = self._newest(), 0
        with pq.ParquetFile(self.folder / "texts.parquet") as file:
            for batch in file.iter_batches(_ROWS):
                mask = newest[at : at + len(batch)]
                at += len(batch)
                yield list(self._batch(batch.filter(pa.array(mask))))

    def uncached(self, cache: TextCache) -> int:
        """Distinct texts that have to be encoded; all of them where the encoder's vectors are not kept."""
        encoder = self.signal.encoder
        space = cache.space(encoder.fingerprint, encoder.dim) if encoder.cacheable else None
        missing: set[bytes] = set()
        for changes in self.changes():
            keys, _ = text_keys(encoder.fingerprint, [change.text for change in changes])
            absent = keys if space is None else keys[space.find(keys) < 0]
            missing.update(key.tobytes() for key in absent)
        return len(missing)

    def _newest(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows are the last of their node: they are in the order of node and version."""
        nodes = pq.read_table(self.folder / "texts.parquet", columns=["node"]).column("node").to_numpy()
        return np.append(nodes[1:] != nodes[:-1], np.ones(min(len(nodes), 1), np.bool_))

    def _batch(self, batch: pa.RecordBatch) -> Iterator[Change]:
        entities = self.ids.take(batch.column("node")).to_pylist()
        times = batch.column("valid_from").to_pylist()
        for entity, time, raw in zip(entities, times, batch.column("text").to_pylist(), strict=True):
            text = normalise(raw or "")
            if text and not self.signal.refuses(entity):
                order = Order(max(self.as_of if time is None else time, 0), 0)
                yield Change(_NO_MESSAGE, self.signal.feature, entity, order, text)


def seeds(project: Project, signals: Mapping[str, TextSignal]) -> list[Seed]:
    """The texts of every served feature, as the active release has them."""
    release = project.published()[project.find_release("latest").number]
    as_of = max(node.as_of for node in release.nodes.values())
    made = release_artefacts(project)
    return [
        Seed(
            signal,
            pq.read_table(made["nodes", node_of(name)].path / "ids.parquet").column("id"),
            made["texts", name].path,
            as_of,
        )
        for name, signal in signals.items()
    ]
