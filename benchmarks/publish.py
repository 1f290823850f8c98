"""Rows per second into the online store: the publisher beside Feast's data-frame path and the raw limit of the store.

    python -m benchmarks.publish [--quick]

Vectors of 200 float32 with whole numbers as ids, into an empty version each time, on a Redis server of its own and on
SQLite. `ours` is the online half of a publish as a release runs it: shards acknowledged on disk one by one, then every
row counted in the store; large versions by several processes where there are more than two cores. `feast` is
`FeatureStore.write_to_online_store` of a data frame (fewer rows: it is per row). `raw` is what one would write by hand,
byte-identical, in one process: a redis-py pipeline of HSETs, or `executemany` with write-ahead logging. All three write
to the same server or file. At the end a stock client reads random vectors back, bit for bit.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._harness import ratio, report, spread
from services.processes import free_port
from services.redis_server import start_redis
from star_platform.progress import SILENT
from star_platform.publishing import dataset, objects, offline
from star_platform.publishing.layout import Layout, layout_of
from star_platform.publishing.model import FeastState, NodeVectors, PublishedNode, PublishedRelease
from star_platform.publishing.online import Acknowledgements, Parts, write_online
from star_platform.publishing.prepare import Prepared, prepare
from star_platform.publishing.projection import apply_state, open_store, staged_registry
from star_platform.publishing.read import read_online
from star_platform.publishing.scaffold import write_feature_repo
from star_platform.publishing.writers import best_writer, default_processes

DIM, AS_OF, SHARD_ROWS = 200, 1_700_000_000_000_000, 50_000
PROCESSES = default_processes()


class Case:
    """One kind of store: a Feast repository with one version registered, and three ways to fill it."""

    def __init__(self, folder: Path, item: Prepared, feast_rows: int, settings: str) -> None:
        write_feature_repo(folder / "feature_repo", "bench")
        path = folder / "feature_repo" / "feature_store.yaml"
        head, rest = path.read_text().split("online_store:\n", 1)
        path.write_text(f"{head}online_store:\n{settings}{rest[rest.index('offline_store:') :]}")
        self.folder, self.item, self.feast_rows = folder, item, feast_rows
        self.node = PublishedNode("member", DIM, item.rows, "int64", "space", AS_OF, item.norm, item.checksum)
        self.root = folder / "offline"
        offline.export(item, self.root, 1, AS_OF, SHARD_ROWS, SILENT)
        self.parts = Parts(item.shards(SHARD_ROWS), dataset.shards(self.root, 1, "member"))
        self.store = open_store(folder / "feature_repo", stock=True)
        self.writer = best_writer(PROCESSES)(self.store)
        self.view = objects.detached_view(self.root, 1, self.node)
        self.writer.create(self.view, fresh=True)  # as in a publish, before any registry knows the version
        with staged_registry(folder / "feature_repo") as staged:
            apply_state(staged, FeastState(self.root, (PublishedRelease(1, {"member": self.node}),), 1))
        self.store.refresh_registry()
        self.layout: Layout = layout_of(self.store.config, self.view)

    def empty(self) -> None:
        """Remove the version; the time for that is nobody's."""
        if not self.writer.drops:
            self.writer.remove(self.view, self.item.keys)
        self.writer.create(self.view, fresh=True)
        (self.folder / "acks").unlink(missing_ok=True)

    def ours(self) -> None:
        acknowledged = Acknowledgements(self.folder / "acks", "bench")
        write_online(self.writer, self.view, self.item, AS_OF, self.parts, acknowledged, True, SILENT)

    def feast(self) -> None:
        self.store.write_to_online_store("member_embedding", self.frame())

    def frame(self) -> Any:
        """What a user of Feast has in hand."""
        import pandas as pd

        if not hasattr(self, "_frame"):
            rows = list(self.item.vectors[: self.feast_rows])
            moments = pd.to_datetime(np.full(len(rows), AS_OF), unit="us", utc=True)
            ids = self.item.keys.to_numpy()[: len(rows)]
            self._frame = pd.DataFrame({"member_id": ids, "embedding": rows, "event_timestamp": moments})
        return self._frame

    def check(self, rows: int) -> int:
        """Random vectors through a stock client, bit for bit; their number."""
        drawn = np.random.default_rng(5).choice(self.item.rows, min(rows, self.item.rows), replace=False)
        ids = self.item.keys.take(pa.array(drawn)).to_pylist()
        vectors, found = read_online(self.store, 1, self.node, ids)
        if not found.all() or vectors.tobytes() != self.item.vectors[drawn].tobytes():
            raise SystemExit("a stock client reads other vectors than were published")
        if self.writer.count(self.view, self.item.keys) != self.item.rows:
            raise SystemExit("the store holds another number of vectors than were published")
        return len(ids)


class RedisCase(Case):
    """A pipeline by hand."""

    def raw(self) -> None:
        import redis
        from feast.infra.online_stores.helpers import _mmh3
        from google.protobuf.timestamp_pb2 import Timestamp

        settings = self.store.config.online_store.connection_string.split(",")[0].split(":")
        client = redis.Redis(host=settings[0], port=int(settings[1]))
        stamp = Timestamp()
        stamp.FromMicroseconds(AS_OF)
        stamp_bytes, time_field = stamp.SerializeToString(), f"_ts:{self.layout.storage}"
        field, prefix, head = (
            _mmh3(f"{self.layout.storage}:embedding"),
            self.layout.value_prefix,
            self.layout.key_prefix,
        )
        ids = self.item.keys.to_numpy()
        for at in range(0, self.item.rows, 2_000):
            pipe = client.pipeline(transaction=False)
            for number, row in zip(ids[at : at + 2_000].tolist(), self.item.vectors[at : at + 2_000], strict=True):
                key = head + struct.pack("<q", number) + b"bench"
                pipe.hset(key, mapping={time_field: stamp_bytes, field: prefix + row.tobytes()})
            pipe.execute()


class SqliteCase(Case):
    """`executemany` by hand."""

    def raw(self) -> None:
        import sqlite3

        path = Path(self.store.config.repo_path, self.store.config.online_store.path)
        prefix, head, ids = self.layout.value_prefix, self.layout.key_prefix, self.item.keys.to_numpy()
        moment = AS_OF // 1_000_000
        sql = (
            f'INSERT INTO "{self.layout.table}" (entity_key, feature_name, value, value_text, event_ts, created_ts)'
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value,"
            " value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
        )
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            for at in range(0, self.item.rows, SHARD_ROWS):
                part = zip(ids[at : at + SHARD_ROWS].tolist(), self.item.vectors[at : at + SHARD_ROWS], strict=True)
                with connection:
                    connection.executemany(
                        sql,
                        (
                            (head + struct.pack("<q", number), "embedding", prefix + row.tobytes(), None, moment, None)
                            for number, row in part
                        ),
                    )


def turns(case: Case, rounds: int) -> dict[str, list[float]]:
    """Rows a second of each way, in turns, every time into an empty version."""
    ways: dict[str, tuple[Callable[[], None], int]] = {
        "feast": (case.feast, case.feast_rows),
        "raw": (case.raw, case.item.rows),  # type: ignore[attr-defined]
        "ours": (case.ours, case.item.rows),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    case.empty()
    case.feast()  # whatever Feast does only once
    for _ in range(rounds):
        for name, (run, rows) in ways.items():
            case.empty()
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) / rows)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds; under 50 s")
    args = parser.parse_args()
    rows, feast_rows, rounds = (50_000, 4_000, 3) if args.quick else (1_000_000, 50_000, 5)

    folder = Path(tempfile.mkdtemp(prefix="star-bench-"))
    port = free_port()
    server = start_redis(folder / "redis", port, None, durable=False)
    try:
        run(folder, port, rows, feast_rows, rounds)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run(folder: Path, port: int, rows: int, feast_rows: int, rounds: int) -> None:
    """Both stores; the last line is the report."""
    generator = np.random.default_rng(1)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, DIM))
    for at in range(0, rows, SHARD_ROWS):
        vectors[at : at + SHARD_ROWS] = generator.standard_normal((min(SHARD_ROWS, rows - at), DIM), dtype=np.float32)
    item = prepare(NodeVectors("member", pa.array(np.arange(rows) * 3 - 7), vectors))
    redis_settings = f"  type: redis\n  connection_string: 127.0.0.1:{port},db=0\n  skip_dedup: true\n"
    cases = {
        "redis": RedisCase(folder / "redis-repo", item, feast_rows, redis_settings),
        "sqlite": SqliteCase(folder / "sqlite-repo", item, feast_rows, "  type: sqlite\n  path: online.db\n"),
    }
    ratios: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for name, case in cases.items():
        seconds = turns(case, rounds)
        for other in ("feast", "raw"):
            ratios[f"{name}_vs_{other}"] = round(ratio(seconds[other], seconds["ours"]), 2)
            spreads[f"{name}_vs_{other}"] = spread(seconds[other], seconds["ours"])
        figures |= {f"{name}_{way}_rows_per_s": round(1 / float(np.median(s))) for way, s in seconds.items()}
        figures[f"{name}_bit_equal"] = case.check(1_000)
        print(name, {way: round(1 / float(np.median(s))) for way, s in seconds.items()}, "rows/s", flush=True)
    shape = {"rows": rows, "feast_rows": feast_rows, "dim": DIM, "rounds": rounds, "processes": PROCESSES}
    report("publish", ratios, spreads, figures, shape)


if __name__ == "__main__":
    main()
