"""Near-line text encoding, wired: the text features of the active release, their encoders, Feast, and a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from star_platform.errors import LeaseHeld, RegistryError, TextError

if TYPE_CHECKING:
    from feast import FeatureStore

    from star_platform.project.project import Project
    from star_platform.registry.artefacts import Artefact
    from star_platform.text.cache import TextCache
    from star_platform.text.nearline.config import ServeConfig
    from star_platform.text.nearline.metrics import Metrics
    from star_platform.text.nearline.model import EntityId, EventStream, KeyType, TextSignal, VectorSink
    from star_platform.text.nearline.worker import Worker

T = TypeVar("T")

LEASE = "text-views"
"""Held while the views of Feast are made, so that two workers who start together make one version."""
_LEASE_SECONDS = 60.0
_OFFLINE = "text-offline"


@dataclass(frozen=True)
class TextServing:
    """What a worker needs besides its stream. views: reference of each feature's view, `member_profile_text@v1`."""

    signals: Mapping[str, TextSignal]
    sink: VectorSink
    cache: TextCache
    views: Mapping[str, str]
    repo: Path
    redis: Mapping[str, Any] | None
    """How to reach the online store's Redis; None behind a sentinel."""

    def worker(
        self,
        stream: EventStream,
        config: ServeConfig,
        metrics: Metrics,
        stopping: Callable[[], bool],
        said: Callable[[str], None],
    ) -> Worker:
        """A worker over `stream`."""
        from star_platform.text.nearline.worker import Worker

        return Worker(stream, self.sink, self.signals, self.cache, config, metrics, stopping, said)


def open_serving(project: Project, config: ServeConfig) -> TextServing:
    """The text features of the active release, ready to be served near-line.

    Raises:
        RegistryError: R022 when no release is active. LeaseHeld: R006 another worker has been starting for a minute.
        TextError: T049, T050, T052, T053, and those of the encoder.
    """
    from star_platform.publishing.nearline.sink import FeastSink
    from star_platform.publishing.nearline.views import TextView, open_text_store, write_repo
    from star_platform.text.cache import TextCache

    if project.active_number() is None:
        raise RegistryError("R022", "no release is active yet", hint="run `star-platform release`")
    repo = write_repo(project.feature_repo)
    signals = text_signals(project, config)
    views = [
        TextView(signal.feature, signal.key_type, signal.encoder.dim, signal.encoder.fingerprint)
        for signal in signals.values()
    ]
    store = open_text_store(repo)
    sink = _leased(project, lambda: FeastSink(store, views, project.artefacts / _OFFLINE))
    return TextServing(
        signals=signals,
        sink=sink,
        cache=TextCache(project.artefacts / "text-cache"),
        views={item.feature: f"{item.name}@v{sink.version(item.feature)}" for item in views},
        repo=repo,
        redis=_redis_of(store),
    )


def text_signals(project: Project, config: ServeConfig) -> dict[str, TextSignal]:
    """Every text feature of the active release on a node type with whole numbers or text as ids."""
    from star_platform.text.nearline.model import TextSignal, everybody
    from star_platform.text.stage import fit_encoder

    made = release_artefacts(project)
    texts = {name: artefact for (kind, name), artefact in made.items() if kind == "texts"}
    key_types = {name: _key_type(made["nodes", node_of(name)]) for name in texts}
    if not any(key_types.values()):
        raise TextError(
            "T050", "the active release has no text feature to serve", hint="declare one of kind text and release it"
        )
    encoder = fit_encoder(project.encoder, texts.values())  # all texts of a release share one space
    nodes = {node_of(name): made["nodes", node_of(name)] for name, key_type in key_types.items() if key_type}
    refuses = {node: frozenset(ids).__contains__ for node, ids in _opted_out(project, nodes).items()}
    admits = {
        node: _known(artefact) if config.entities == "released" else everybody for node, artefact in nodes.items()
    }
    return {
        name: TextSignal(
            feature=name,
            columns=tuple(texts[name].details["columns"]),
            key_type=key_type,
            encoder=encoder.for_feature(name),
            admits=admits[node_of(name)],
            refuses=refuses[node_of(name)],
        )
        for name, key_type in sorted(key_types.items())
        if key_type
    }


def node_of(feature: str) -> str:
    """The node type of a feature."""
    return feature.partition(".")[0]


def release_artefacts(project: Project) -> dict[tuple[str, str], Artefact]:
    """Nodes and texts of the active release, by stage and name."""
    found = {}
    for item in project.registry.artefacts(project.find_release("latest").number):
        stage, _, name = item.stage.partition("/")
        if stage in ("nodes", "texts"):
            found[stage, name] = project.store.open(item.kind, item.fingerprint)
    return found


def _key_type(nodes: Artefact) -> KeyType | None:
    """None where Feast has no entity for such ids."""
    name = str(nodes.details["key_type"]).lstrip("!")
    return "int64" if name == "int64" else "string" if name == "string" else None


def _opted_out(project: Project, nodes: Mapping[str, Artefact]) -> dict[str, list[EntityId]]:
    """Ids that left each node type, as the sources of the release's branches say now."""
    from star_platform.graph.inputs import Compiler
    from star_platform.graph.mentions import opted_out
    from star_platform.graph.nodes import key_type_of
    from star_platform.graph.privacy import pseudonymiser

    names = {revision.branch for revision in project.registry.branches(project.find_release("latest").number)}
    spec = project.merged([item for item in project.branches() if item.branch.branch in names])
    result: dict[str, list[EntityId]] = {node: [] for node in nodes}
    with closing(project.engine(spec.deny_columns)) as engine:
        compiler = Compiler(spec, engine, project.store, pseudonymiser(project.pseudonym_key))
        for node, artefact in nodes.items():
            table = opted_out(compiler, node, key_type_of(artefact)) if node in spec.nodes else None
            batches = engine.batches(table, f"opt-outs of {node}") if table is not None else ()
            result[node] += [item for batch in batches for item in batch.column("id").to_pylist()]
    return result


def _known(nodes: Artefact) -> Callable[[EntityId], bool]:
    """Whether the release knows an id."""
    import pyarrow.parquet as pq

    return frozenset(pq.read_table(nodes.path / "ids.parquet").column("id").to_pylist()).__contains__


def _leased(project: Project, work: Callable[[], T]) -> T:
    """Do `work` under the lease; waits for another worker that is starting too."""
    until = time.monotonic() + _LEASE_SECONDS
    while True:
        try:
            with project.registry.lease(LEASE):
                return work()
        except LeaseHeld:
            if time.monotonic() > until:
                raise
        time.sleep(0.2)


def open_stream(serving: TextServing, config: ServeConfig, url: str | None) -> EventStream:
    """The stream at `url` (`redis://...`, `kafka://host:9092`); on the Redis of the online store when None.

    Raises:
        DependencyMissing: T054 without the client's package. TextError: T040 when the server does not answer, T053
            when its address cannot be told.
    """
    from star_platform.text.nearline.kafka_stream import SCHEME, open_kafka_stream
    from star_platform.text.nearline.redis_stream import open_redis_stream

    if url is not None and url.startswith(SCHEME):
        return open_kafka_stream(url, config)
    where = url or serving.redis
    if where is None:
        raise TextError("T053", "the online store is behind a Redis Sentinel", hint="name the stream's server: --at")
    return open_redis_stream(where, config)


def _redis_of(store: FeatureStore) -> dict[str, Any] | None:
    """Arguments of a Redis client, from Feast's way of writing them; None where the address is that of a sentinel."""
    settings = store.config.online_store
    if settings.redis_type.value != "redis":
        return None
    nodes, more = store.provider.online_store._parse_connection_string(settings.connection_string)
    return {"host": nodes[0]["host"], "port": int(nodes[0]["port"]), **more}
