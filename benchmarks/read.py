"""Reading vectors: our client beside Feast's and beside the store itself, on Redis and on SQLite.

    python -m benchmarks.read [--quick]

One request asks for 1, 100 or 500 random entities of 200 float32 values and ends with them in an array (Feast: in
`to_dict()`). The four ways take turns, request by request, in an order of chance, each with ids of its own:

    feast   FeatureStore.get_online_features(...).to_dict(), Feast's own store class, a pinned reference
    raw     what a Python programmer writes without either: one redis-py pipeline of HGET, or one SELECT ... IN (...),
            on a connection that is open, with keys that are ready, and np.frombuffer over the joined values
    ours    EmbeddingClient.read(ids, consumer=...)
    mapped  the same, of a retired release that a map 200 -> 200 answers for (map_64: 200 -> 64, as releases grow)

First one reader alone; then 8 reader processes at once; then one while another process publishes a release. All have
gc.freeze() behind them and one BLAS thread, Feast's client an online configuration that never refreshes in a request.

Ratios (each also by store; the plain one is the worse store, alone, at 100 entities):
    p50_100_vs_feast  feast's p50 over ours: how many times faster. Goal: 4 and more
    p50_100_vs_raw    raw's p50 over ours. Goal: 0.5 and more
    map_overhead      mapped p50 over ours, less 1, taking turns alone. Goal: under 0.15. The matmul of 100 rows is 8
                      MFLOP, whatever the read takes: `map_over_raw` has it in p50s of raw; `map_64_overhead`: 200 -> 64
    p99_over_p50      ours. Goal: under 3
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa

from benchmarks._harness import ratio, report, spread
from benchmarks._stores import redis_server, use_store
from star_platform.compat.model import CompatMap
from star_platform.publishing.client import EmbeddingClient
from star_platform.publishing.model import ConsumerPin, FeastState, NodeVectors, join_key, reference
from star_platform.publishing.publish import Publisher
from star_platform.publishing.scaffold import write_feature_repo

DIM, SIZES, READERS = 200, (1, 100, 500), 8
DIMS = {1: 200, 2: 64}
"""Of the retired releases; all others have DIM."""
ACTIVE = 3
AS_OF = 1_700_000_000_000_000
Request = Callable[[list[int]], object]


def vectors(release: int, rows: int) -> list[NodeVectors]:
    generator = np.random.default_rng(release)
    drawn = generator.standard_normal((rows, DIMS.get(release, DIM)), dtype=np.float32)
    return [NodeVectors("member", pa.array(np.arange(rows)), drawn)]


def route(target: int) -> CompatMap:
    """Answers for a retired release from the active one."""
    generator, dim = np.random.default_rng(target), DIMS[target]
    return CompatMap(
        node="member",
        source=ACTIVE,
        target=target,
        source_space=f"s{ACTIVE}",
        target_space=f"s{target}",
        weights=generator.standard_normal((DIM, dim)),
        bias=generator.standard_normal(dim),
        normalise=False,
        method="ridge",
    )


class World:
    """r1 and r2, retired and answered by maps, and r3, published to one online store."""

    def __init__(self, root: Path, kind: str, url: str, rows: int) -> None:
        self.root, self.kind, self.url, self.rows = root, kind, url, rows
        self.repo, self.stock = root / "feature_repo", root / "stock_repo"
        for folder, name in ((self.repo, f"star-{kind}"), (self.stock, kind)):
            write_feature_repo(folder, "bench_read")
            use_store(folder, name, url)
        self.publisher = Publisher(self.repo, root / "offline")
        self.state = FeastState(self.publisher.offline_root)
        for release in (*DIMS, ACTIVE):
            self.publish(release)
        pin = ConsumerPin("ranker", "bench@example.com", ("member",), ACTIVE)
        routes = tuple(route(target) for target in DIMS)
        self.state = replace(self.state, active=ACTIVE, consumers=(pin,), routes=routes)
        self.publisher.reconcile(self.state)

    def publish(self, release: int) -> None:
        work = self.root / "work" / str(release)
        work.mkdir(parents=True, exist_ok=True)
        published = self.publisher.publish(
            release,
            vectors(release, self.rows),
            spaces={"member": f"s{release}"},
            as_of=AS_OF,
            work_dir=work,
            state=self.state,
        )
        self.state = self.state.with_release(published)

    @contextmanager
    def ways(self) -> Iterator[dict[str, Request]]:
        """All of them, opened and warm."""
        stock, feature = _stock_client(self.stock), reference("member", ACTIVE)
        key = join_key("member")
        with EmbeddingClient(self.repo, consumer="ranker") as client:
            ways: dict[str, Request] = {
                "feast": lambda ids: stock.get_online_features(
                    features=[feature], entity_rows=[{key: each} for each in ids]
                ).to_dict(),
                "raw": self._raw(),
                "ours": lambda ids: client.read(ids).vectors,
                "mapped": lambda ids: client.read(ids, node="member", release=1).vectors,
                "map_64": lambda ids: client.read(ids, node="member", release=2).vectors,
            }
            for way in ways.values():
                way(list(range(10)))
            gc.collect()
            gc.freeze()
            yield ways
            gc.unfreeze()

    def _raw(self) -> Request:
        from feast.infra.online_stores.helpers import _mmh3

        from star_platform.publishing.wire import value_prefix

        column = join_key("member").encode()
        head = struct.pack("<III", 1, 2, len(column)) + column + struct.pack("<II", 4, 8)
        skip, width = len(value_prefix(DIM)), len(value_prefix(DIM)) + 4 * DIM

        def array(blobs: list[bytes]) -> object:
            flat = np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, width)
            return np.ascontiguousarray(flat[:, skip:]).view("<f4")

        if self.kind == "redis":
            import redis

            client = redis.Redis.from_url(self.url)
            names = [head + struct.pack("<q", row) + b"bench_read" for row in range(self.rows)]
            field = _mmh3(f"member_embedding_v{ACTIVE}:embedding")

            def pipeline(ids: list[int]) -> object:
                with client.pipeline(transaction=False) as pipe:
                    for each in ids:
                        pipe.hget(names[each], field)
                    return array(pipe.execute())

            return pipeline

        connection = sqlite3.connect(self.root / ".star" / "feast_online.db")
        keys = [head + struct.pack("<q", row) for row in range(self.rows)]
        select = f"SELECT entity_key, value FROM bench_read_member_embedding_v{ACTIVE} WHERE entity_key IN "

        def query(ids: list[int]) -> object:
            wanted = [keys[each] for each in ids]
            found = dict(connection.execute(f"{select}({','.join('?' * len(wanted))})", wanted))
            return array([found[name] for name in wanted])

        return query


def _stock_client(repo: Path) -> Any:
    from feast import FeatureStore

    from star_platform.publishing.projection import load_config

    config = load_config(repo)
    config.registry.cache_ttl_seconds = 0
    config.registry.cache_mode = "thread"
    return FeatureStore(repo_path=str(repo), config=config)


def measure(ways: dict[str, Request], rows: int, size: int, rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of every request."""
    generator = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-5, rounds):
        for name in generator.permutation(list(ways)).tolist():  # whoever follows Feast finds its caches cold
            way = ways[name]
            ids = generator.choice(rows, size, replace=False).tolist()  # its own: not warmed by who went before
            start = time.perf_counter()
            way(ids)
            took = time.perf_counter() - start
            if turn >= 0:
                seconds[name].append(took)
    return seconds


def check(ways: dict[str, Request], world: World) -> None:
    """All read the same, or nothing below means anything."""
    ids = [7, 3, world.rows - 1]
    expected = vectors(ACTIVE, world.rows)[0].vectors[ids]
    told: Any = ways["feast"](ids)
    assert np.array_equal(np.asarray(told["embedding"], dtype=np.float32), expected)
    assert np.array_equal(ways["raw"](ids), expected)
    assert np.array_equal(ways["ours"](ids), expected)
    for name, target in (("mapped", 1), ("map_64", 2)):
        assert np.allclose(ways[name](ids), route(target).apply(expected), rtol=1e-4, atol=1e-3)


def _reader(world: World, rounds: int, number: int, ready: Any, results: Any) -> None:
    with world.ways() as ways:
        ready.wait()
        results.put(measure(ways, world.rows, 100, rounds, number))


def together(world: World, readers: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every request of `readers` processes at once."""
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(readers), context.SimpleQueue()
    processes = [context.Process(target=_reader, args=(world, rounds, n, ready, results)) for n in range(readers)]
    for process in processes:
        process.start()
    parts = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return {name: [s for part in parts for s in part[name]] for name in parts[0]}


def _publish_for_ever(world: World, ready: Any, stop: Any) -> None:
    for release in range(ACTIVE + 1, 1_000):
        ready.set()
        world.publish(release)
        if stop.is_set():
            return


def during_publish(world: World, ways: dict[str, Request], rounds: int) -> dict[str, list[float]]:
    context = multiprocessing.get_context("fork")
    ready, stop = context.Event(), context.Event()
    publisher = context.Process(target=_publish_for_ever, args=(world, ready, stop))
    publisher.start()
    ready.wait()
    seconds = measure(ways, world.rows, 100, rounds, 5)
    stop.set()
    publisher.join()
    return seconds


def percentiles(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """p50 and p99 in milliseconds, by way."""
    return {name: [round(float(np.percentile(s, q)) * 1e3, 3) for q in (50, 99)] for name, s in seconds.items()}


def ratios_of(seconds: dict[str, list[float]]) -> dict[str, float]:
    ours = seconds["ours"]
    return {
        "p50_100_vs_feast": round(ratio(seconds["feast"], ours), 2),
        "p50_100_vs_raw": round(ratio(seconds["raw"], ours), 2),
        "p99_over_p50": tail(ours),
    }


def tail(seconds: list[float]) -> float:
    """p99 over p50."""
    return round(float(np.percentile(seconds, 99) / np.median(seconds)), 2)


WORSE = {"p50_100_vs_feast": min, "p50_100_vs_raw": min, "map_overhead": max, "p99_over_p50": max}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer entities and requests; under 50 s")
    args = parser.parse_args()
    rows, rounds, crowd = (20_000, 300, 40) if args.quick else (200_000, 2_000, 400)
    ratios: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, redis_server() as url:
        for kind in ("redis", "sqlite"):
            world = World(Path(folder, kind), kind, url, rows)
            situations: dict[str, dict[str, list[float]]] = {}
            with world.ways() as ways:
                check(ways, world)
                for size in SIZES:
                    count = rounds if size <= 100 else max(50, rounds // 4)
                    situations[f"{size} entities"] = measure(ways, rows, size, count, size)
                pair = measure({name: ways[name] for name in ("ours", "mapped", "map_64")}, rows, 100, rounds, 4)
            situations["100 entities, 8 readers"] = together(world, READERS, crowd)
            with world.ways() as ways:
                situations["100 entities, during a publish"] = during_publish(world, ways, rounds // 2)
            for name, seconds in situations.items():
                figures[f"{kind}, {name}: p50 and p99 in ms"] = shown = percentiles(seconds)
                print(f"{kind:7}{name:33}", shown, flush=True)
            alone = situations["100 entities"]
            ratios |= {f"{name}[{kind}]": value for name, value in ratios_of(alone).items()}
            ratios[f"map_overhead[{kind}]"] = round(ratio(pair["mapped"], pair["ours"]) - 1, 3)
            spreads[f"map_overhead[{kind}]"] = [round(each - 1, 3) for each in spread(pair["mapped"], pair["ours"])]
            adds = float(np.median(pair["mapped"]) - np.median(pair["ours"]))
            figures[f"map_us[{kind}]"] = round(adds * 1e6, 1)
            figures[f"map_64_overhead[{kind}]"] = round(ratio(pair["map_64"], pair["ours"]) - 1, 3)
            figures[f"map_over_raw[{kind}]"] = round(adds / float(np.median(alone["raw"])), 3)
            for other in ("8 readers", "during a publish"):
                seconds = situations[f"100 entities, {other}"]
                figures |= {f"{name}[{kind}, {other}]": value for name, value in ratios_of(seconds).items()}
            for name, seconds in situations.items():  # what of it is the machine's: nobody is steadier than raw
                for way in ("feast", "raw"):
                    figures[f"{way}_p99_over_p50[{kind}, {name}]"] = tail(seconds[way])
            spreads[f"p50_100_vs_feast[{kind}]"] = spread(alone["feast"], alone["ours"])
            spreads[f"p50_100_vs_raw[{kind}]"] = spread(alone["raw"], alone["ours"])
    for name, worse in WORSE.items():
        ratios[name] = worse(ratios[f"{name}[redis]"], ratios[f"{name}[sqlite]"])
    cases = {
        "entities": rows,
        "dim": DIM,
        "requests": rounds,
        "readers": READERS,
        "cores": len(os.sched_getaffinity(0)),
    }
    report("read", ratios, spreads, figures, cases)


if __name__ == "__main__":
    main()
