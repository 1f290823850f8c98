"""A near-line shop on a real Redis and a real Feast, with a tiny real encoder; and workers as processes."""

from __future__ import annotations

import json
import multiprocessing
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.publishing.nearline.sink import FeastSink
from star_platform.publishing.nearline.views import TextView, open_text_store, write_repo
from star_platform.publishing.scaffold import write_feature_repo
from star_platform.text.cache import TextCache
from star_platform.text.config import TextConfig
from star_platform.text.encoder import EncodedBatch, EncoderKind, TextEncoder, encode, open_encoder
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.metrics import Metrics
from star_platform.text.nearline.model import TextSignal
from star_platform.text.nearline.redis_stream import RedisStream, open_redis_stream
from star_platform.text.nearline.worker import Worker
from tests.publishing.stores import use_store

COLUMNS = {"member.profile": ("headline", "summary"), "job.description": ("description",)}
KEYS = {"member.profile": "int64", "job.description": "string"}
START = 1_750_000_000_000
"""Milliseconds: the event time that the tests count from."""

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["feast", "pandas", "redis", "transformers.models.bert.modeling_bert", "tests.text.nearline.world"]
)


class Counting:
    """An encoder that remembers what it was asked to encode."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.asked: list[str] = []

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    @property
    def kind(self) -> EncoderKind:
        return self.encoder.kind

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def cacheable(self) -> bool:
        return self.encoder.cacheable

    @property
    def ready(self) -> bool:
        return self.encoder.ready

    def describe(self) -> dict[str, Any]:
        return self.encoder.describe()

    def for_feature(self, feature: str) -> TextEncoder:
        return self

    def fitted(self, corpus: Sequence[str]) -> TextEncoder:
        return self

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        self.asked += texts
        return self.encoder.batches(texts)


@dataclass
class World:
    """Everything a worker process needs to know can be pickled: `Spec`."""

    spec: Spec
    signals: dict[str, TextSignal]
    sink: FeastSink
    workers: list[Worker] = field(default_factory=list)

    @property
    def encoder(self) -> TextEncoder:
        return self.signals["member.profile"].encoder

    def stream(self, worker: str = "w1", **settings: Any) -> RedisStream:
        return open_redis_stream(self.spec.redis, self.spec.config(worker, **settings))

    def worker(self, name: str = "w1", stopping: Callable[[], bool] = lambda: False, **settings: Any) -> Worker:
        config = self.spec.config(name, **settings)
        stream = open_redis_stream(self.spec.redis, config)
        cache = TextCache(self.spec.root / "text-cache")
        metrics = Metrics(config.latency_target)
        return Worker(stream, self.sink, self.signals, cache, config, metrics, stopping)

    def send(self, *events: Mapping[str, Any] | bytes) -> list[str]:
        client = self.stream("producer")._client
        with client.pipeline(transaction=False) as pipe:
            for event in events:
                payload = event if isinstance(event, bytes) else json.dumps(event)
                pipe.xadd(self.spec.stream, {"event": payload})
            return [key.decode() for key in pipe.execute()]

    def drain(self, worker: Worker | None = None) -> Metrics:
        """Let a worker do all there is."""
        worker = worker or self.worker()
        list(worker.run(until_empty=True))
        return worker.metrics

    def dead(self) -> list[dict[str, str]]:
        rows = self.stream("reader")._client.xrange(f"{self.spec.stream}:dead")
        return [{k.decode(): v.decode(errors="replace") for k, v in fields.items()} for _, fields in rows]

    def served(self, feature: str, entities: Sequence[Any]) -> tuple[list[list[float] | None], list[str | None]]:
        """Vectors and tags as a stock Feast client gives them."""
        from feast import FeatureStore

        name, node = feature.replace(".", "_") + "_text", feature.partition(".")[0]
        stock = FeatureStore(repo_path=str(stock_repo(self.spec.repo / "text")))
        version = self.sink.version(feature)
        answer = stock.get_online_features(
            features=[f"{name}@v{version}:embedding", f"{name}@v{version}:text_key"],
            entity_rows=[{f"{node}_id": entity} for entity in entities],
        ).to_dict()
        return answer["embedding"], answer["text_key"]

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        return encode(self.encoder, [text])[0]

    def history(self, feature: str) -> Any:
        """The rows of the offline dataset, as pandas."""
        import pyarrow.parquet as pq

        view = self.sink._views[feature]
        tables = [pq.read_table(path) for path in sorted(Path(view.batch_source.path).glob("*.parquet"))]
        import pyarrow as pa

        return pa.concat_tables(tables).to_pandas().sort_values("event_timestamp", kind="stable")


@dataclass(frozen=True)
class Spec:
    root: Path
    redis: str
    stream: str
    model: Path

    @property
    def repo(self) -> Path:
        return self.root / "feature_repo"

    def config(self, worker: str, **settings: Any) -> ServeConfig:
        return ServeConfig(**{"stream": self.stream, "worker": worker, "claim_after": 0.5, **settings})

    def open(self) -> World:
        encoder: TextEncoder = Counting(open_encoder(TextConfig(encoder=str(self.model), device="cpu"), self.root))
        signals = {
            name: TextSignal(name, columns, KEYS[name], encoder)  # type: ignore[arg-type]
            for name, columns in COLUMNS.items()
        }
        store = open_text_store(write_repo(self.repo))
        views = [TextView(name, KEYS[name], encoder.dim, encoder.fingerprint) for name in COLUMNS]  # type: ignore[arg-type]
        return World(self, signals, FeastSink(store, views, self.root / "text-offline"))


def make_spec(root: Path, redis: str, model: Path) -> Spec:
    name = f"shop_{secrets.token_hex(4)}"
    write_feature_repo(root / "feature_repo", name)
    use_store(root / "feature_repo", "star-redis", redis)
    return Spec(root, redis, f"events-{name}", model)


def stock_repo(folder: Path) -> Path:
    """The near-line project as a client has it that knows nothing of ours."""
    target = folder.parent / "stock"
    if not target.exists():
        target.mkdir()
        text = (folder / "feature_store.yaml").read_text()
        text = text.replace("star_platform.publishing.nearline.online.TextRedisOnlineStore", "redis")
        text = text.replace("star_platform.publishing.nearline.offline.TextDuckDBOfflineStore", "duckdb")
        (target / "feature_store.yaml").write_text(text)
    return target


def event(entity: Any, text: str | None, at: int, feature: str = "member.profile") -> dict[str, Any]:
    """`at`: seconds after `START`; a text of None is a deletion."""
    body: dict[str, Any] = {"deleted": True} if text is None else {"text": text}
    return {"feature": feature, "entity": entity, "event_time": START + 1000 * at, **body}


def _work(spec: Spec, name: str, settings: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    for _ in spec.open().worker(name, **settings).run(until_empty=True):
        pass


class Working:
    """A worker as a process of its own, which may be killed."""

    def __init__(self, spec: Spec, name: str, **settings: Any) -> None:
        self.process: BaseProcess = FORK.Process(target=_work, args=(spec, name, settings))
        self.process.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def join(self, seconds: float = 120) -> int | None:
        self.process.join(seconds)
        return self.process.exitcode


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)
