"""Near-line encoding under load: at which rate a worker serves changed texts, and how late they are.

    python -m benchmarks.nearline [--quick] [--encoder minilm] [--target 2]

A real Redis, a real Feast, one worker, and a producer in a process of its own. 65 % of the events leave the text as it
is, a third of these with another layout. First the capacity is measured on a backlog, with and without such events;
then events arrive at 60 % of it, at random moments, and their latency is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import report
from benchmarks._stores import redis_server, use_store

UNCHANGED, LOAD = 0.65, 0.6
ENTITIES = 1_000
FEATURE, NODE = "member.profile", "member"
START_MS = 1_750_000_000_000


def words(generator: np.random.Generator, count: int) -> str:
    """A text of `count` words that no other call gives."""
    syllables = ("da", "ta", "en", "gi", "neer", "lead", "sales", "nur", "se", "cloud", "team", "ship", "grow", "for")
    return " ".join(map("".join, generator.choice(syllables, (count, 2)).tolist()))


def profile(generator: np.random.Generator) -> str:
    """Some 10 to 120 words (log-normal, median 30)."""
    return words(generator, int(np.clip(generator.lognormal(3.4, 0.5), 10, 120)))


def profiles(seed: int) -> dict[int, str]:
    """The texts before the events, of entities that no other seed has."""
    generator = np.random.default_rng([seed, 1])
    return {seed * ENTITIES + number: profile(generator) for number in range(ENTITIES)}


def events(count: int, unchanged: float, seed: int) -> list[bytes]:
    """Edits of profiles."""
    generator = np.random.default_rng(seed)
    last = profiles(seed)
    result = []
    for number in range(count):
        entity = seed * ENTITIES + int(generator.integers(ENTITIES))
        text = last[entity]
        if generator.random() >= unchanged:
            text = profile(generator)
        last[entity] = text
        shown = text.replace(" ", "\n ") if generator.random() < 1 / 3 else text
        event = {"feature": FEATURE, "entity": entity, "event_time": START_MS + number, "text": shown}
        result.append(json.dumps(event).encode())
    return result


class Bench:
    """Everything but the events."""

    def __init__(self, url: str, root: Path, encoder: str, target: float) -> None:
        from star_platform.publishing.nearline.sink import FeastSink
        from star_platform.publishing.nearline.views import TextView, open_text_store, write_repo
        from star_platform.publishing.scaffold import write_feature_repo
        from star_platform.text.config import TextConfig
        from star_platform.text.encoder import open_encoder
        from star_platform.text.nearline.model import TextSignal

        self.url, self.root, self.target = url, root, target
        write_feature_repo(root / "feature_repo", "bench")
        use_store(root / "feature_repo", "star-redis", url)
        self.encoder = open_encoder(TextConfig(encoder=encoder, device="cpu"), root)
        self.signals = {FEATURE: TextSignal(FEATURE, ("text",), "int64", self.encoder)}
        view = TextView(FEATURE, "int64", self.encoder.dim, self.encoder.fingerprint)
        store = open_text_store(write_repo(root / "feature_repo"))
        self.sink = FeastSink(store, [view], root / "offline")
        list(self.encoder.batches(["warm up"]))

    def serve_before(self, seed: int) -> None:
        """Serve something for the texts before the events, as if they had been encoded earlier."""
        from star_platform.text.cache import text_keys
        from star_platform.text.nearline.model import Order, Row

        known = profiles(seed)
        keys, _ = text_keys(self.encoder.fingerprint, list(known.values()))
        vector = np.full(self.encoder.dim, self.encoder.dim**-0.5, np.float32)
        before = Order((START_MS - 1) * 1000, 0)
        rows = [Row(entity, before, key.tobytes().hex(), vector) for entity, key in zip(known, keys, strict=True)]
        self.sink.put(FEATURE, rows)

    def run(self, name: str, seconds: float, until: float = 0.0) -> dict[str, Any]:
        """Let a worker work on a stream for some time; at least until the moment `until`, and then all that is left."""
        from star_platform.text.cache import TextCache
        from star_platform.text.nearline.config import ServeConfig
        from star_platform.text.nearline.metrics import Metrics
        from star_platform.text.nearline.redis_stream import open_redis_stream
        from star_platform.text.nearline.worker import Worker

        config = ServeConfig(stream=name, group=name, worker="bench", latency_target=self.target)
        metrics, began = Metrics(self.target), time.monotonic()
        cache = TextCache(self.root / f"cache-{name}")
        worker = Worker(open_redis_stream(self.url, config), self.sink, self.signals, cache, config, metrics)
        for now in worker.run(until_empty=not until):
            over = time.monotonic() - began
            if (over >= seconds and not until) or (until and time.monotonic() > until and now.lag and now.lag.empty):
                break
        return {**metrics.record(), "seconds": time.monotonic() - began}


def fill(url: str, stream: str, payloads: list[bytes]) -> None:
    """A backlog."""
    import redis

    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as pipe:
        for payload in payloads:
            pipe.xadd(stream, {"event": payload})
        pipe.execute()


def produce(url: str, stream: str, rate: float, seconds: float, seed: int) -> None:
    """Events at random moments, `rate` a second."""
    import redis

    generator = np.random.default_rng(seed)
    payloads = events(int(rate * seconds), UNCHANGED, seed)
    due = time.monotonic() + np.cumsum(generator.exponential(1 / rate, len(payloads)))
    with redis.Redis.from_url(url) as client:
        for payload, moment in zip(payloads, due, strict=True):
            time.sleep(max(moment - time.monotonic(), 0))
            client.xadd(stream, {"event": payload})


@contextmanager
def producing(*arguments: Any) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=produce, args=arguments)
    process.start()
    try:
        yield
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--target", type=float, default=2.0, help="latency target in seconds")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    backlog, load = (6.0, 12.0) if given.quick else (30.0, 90.0)
    import torch

    torch.set_num_threads(cores)
    with redis_server() as url, tempfile.TemporaryDirectory() as folder:
        bench = Bench(url, Path(folder), given.encoder, given.target)
        rates = {}
        for name, unchanged, seed in (("all-new", 0.0, 1), ("mixed", UNCHANGED, 2)):
            bench.serve_before(seed)
            fill(url, name, events(3_000 if given.quick else 20_000, unchanged, seed))
            ran = bench.run(name, backlog)
            rates[name] = ran["events"] / ran["seconds"]
        rate = LOAD * rates["mixed"]
        bench.serve_before(3)
        with producing(url, "load", rate, load, 3):
            loaded = bench.run("load", 0.0, until=time.monotonic() + load)
    figures = {
        "target_s": given.target,
        "sustained_events_per_s": rate,
        "p50_s": loaded["p50"],
        "p99_s": loaded["p99"],
        "late_share": loaded["late"] / max(loaded["events"], 1),
        "skip_share": loaded["skip_share"],
        "capacity_events_per_s": rates["mixed"],
        "capacity_all_new_per_s": rates["all-new"],
        "encoder": given.encoder,
        "cores": cores,
    }
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    ratios = {"vs_encoding_all": round(rates["mixed"] / rates["all-new"], 3)}
    report("nearline", ratios, {}, rounded, {"events": loaded["events"], "entities": ENTITIES})


if __name__ == "__main__":
    main()
