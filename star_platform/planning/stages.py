"""The stages of a release as values: what is built, why, from what, and at what cost.

`plan` prints this list, `release --explain` prints it, `release` runs it.

    stage             inputs               and
    nodes/<type>                           the node, who opts out of it, edge types that create nodes of it
    edges/<name>      nodes of both ends   the edge, the label columns that objectives read
    features/<f>      nodes                the feature (categorical, numeric, vector; id: see below)
    texts/<f>         nodes                the text feature: rendered rows
    text/<f>          texts/<f>            the text settings: their vectors
    cohorts/<c>       nodes                the cohort
    graph             all of the above     kinds of node types, id features
    derive            graph                examples of objectives, sampler and densification; cohorts do not count
    train             graph, derive        objectives, training settings; cohorts do not count
    embed             train, graph         cohorts do not count
    evaluate          embed, graph         objectives, cohorts, evaluation settings
    compat            embed, graph         vectors that earlier releases serve, consumers of these, compat settings
    publish           embed, compat        publishing settings
    activate          publish, evaluate

Training that is joined with alignment (`compat.mode: joint-*`) depends on the vectors that it stays close to as well. A
release that nobody reads an older one of has no `compat` stage, and one whose training asks for no derived edges
(`strategy: ppr`, `densify`) no `derive` stage. Where there is one, all that reads the graph reads its edges as well.

Equal fingerprints mean equal content, so a stage whose artefact is in the store is reused. Cohorts only divide reports:
they enter the graph's artefact and the evaluation, but not the identity of model and embeddings, so a new cohort trains
nothing again. An id feature has no array: its vectors are part of the model, and its declaration of graph and model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from star_platform.planning.base import BaseRelease
from star_platform.planning.canonical import digest
from star_platform.planning.estimate import NOTHING, Estimate, Sizes, estimate
from star_platform.planning.fingerprint import Fingerprints, label_columns, parents
from star_platform.planning.reasons import Reasons
from star_platform.planning.settings import StageSettings
from star_platform.planning.snapshot import Snapshots
from star_platform.planning.spec import GraphSpec, SignalKey
from star_platform.signals.model import IdFeature, TextFeature

__all__ = ["Exists", "Stage", "StageKind", "StageSettings", "build_stages"]

StageKind = Literal[
    "nodes",
    "edges",
    "features",
    "texts",
    "text",
    "cohorts",
    "graph",
    "derive",
    "train",
    "embed",
    "evaluate",
    "compat",
    "publish",
    "activate",
]
"""Also the kind of the artefact that the stage leaves; `publish` and `activate` leave none."""

Exists = Callable[[str, str], bool]
"""`(kind, fingerprint)`: is that artefact in the store?"""


@dataclass(frozen=True)
class Stage:
    """One step of a release.

    `inputs` are names of earlier stages. `subject` is the node type, edge type, feature or cohort that it builds.
    """

    name: str
    kind: StageKind
    subject: str | None
    fingerprint: str
    what: str
    why: str
    inputs: tuple[str, ...] = ()
    action: Literal["reuse", "build"] = "build"
    estimate: Estimate = NOTHING


def build_stages(
    spec: GraphSpec,
    fingerprints: Fingerprints,
    snapshots: Snapshots,
    settings: StageSettings,
    exists: Exists,
    base: BaseRelease | None = None,
    history: Mapping[str, float] | None = None,
    *,
    changed: bool = False,
) -> tuple[Stage, ...]:
    """Every stage of a release in the order in which they run; each comes after its inputs.

    `history` holds measured seconds per unit by kind of stage (`estimate.rates`). `changed` says that this will be a
    new release even if no fingerprint differs from the base (an owner changed): it is published under its own number.
    """
    sizes = Sizes(spec, snapshots, settings.training, settings.text, len(settings.served))
    bench = _Bench(
        spec, fingerprints, exists, Reasons(base, spec, snapshots, settings), sizes, history or {}, base, changed
    )
    _signal_stages(bench, settings)
    _model_stages(bench, settings)
    return tuple(bench.stages.values())


@dataclass
class _Bench:
    """The list under construction, and what every stage is made with."""

    spec: GraphSpec
    fingerprints: Fingerprints
    exists: Exists
    reasons: Reasons
    sizes: Sizes
    history: Mapping[str, float]
    base: BaseRelease | None
    changed: bool
    stages: dict[str, Stage] = field(default_factory=dict)

    def add(
        self,
        kind: StageKind,
        subject: str | None,
        what: str,
        identity: Any,
        inputs: Iterable[str] = (),
        signals: Iterable[SignalKey] = (),
        settings: str | None = None,
    ) -> None:
        """Put a stage at the end. `identity` is what besides kind and subject decides its content."""
        name = kind if subject is None else f"{kind}/{subject}"
        names = tuple(inputs)
        fingerprint = digest([kind, subject, identity])
        effect = kind in ("publish", "activate")
        same = self.base is not None and self.base.stages.get(name) == fingerprint
        done = same and not self.changed if effect else self.exists(kind, fingerprint)
        rebuilt = [other for other in names if self.stages[other].fingerprint != self._before(other)]
        why = self.reasons.why(name, fingerprint, done, rebuilt, signals, settings)
        cost = NOTHING if done else estimate(kind, subject, self.sizes, self.history)
        self.stages[name] = Stage(
            name, kind, subject, fingerprint, what, why, names, "reuse" if done else "build", cost
        )

    def _before(self, name: str) -> str | None:
        return None if self.base is None else self.base.stages.get(name)

    def prints(self, names: Iterable[str]) -> dict[str, str]:
        """Fingerprints of earlier stages by name."""
        return {name: self.stages[name].fingerprint for name in names}

    def named(self, *kinds: StageKind) -> list[str]:
        """Names of the stages of some kinds so far."""
        return [name for name, stage in self.stages.items() if stage.kind in kinds]


def _signal_stages(bench: _Bench, settings: StageSettings) -> None:
    """Nodes, edges, features, texts and their vectors, cohorts."""
    spec = bench.spec
    for name, node in spec.nodes.items():
        key: SignalKey = ("node", name)
        above = parents(spec, spec.signals[key])
        origin = f"from {node.source}" if node.source else "as edges bring them"
        bench.add("nodes", name, f"index the {name} nodes {origin}", _physical(bench, key), signals=(key, *above))
    for name, edge in spec.edges.items():
        ends = sorted({f"nodes/{edge.src.node}", f"nodes/{edge.dst.node}"})
        labels = label_columns(spec, name)
        what = f"compile edges {edge.src.node} -> {edge.dst.node} from {edge.source}"
        key = ("edge", name)
        identity = [_physical(bench, key), bench.prints(ends)]
        bench.add("edges", name, what + (f" with labels {', '.join(labels)}" if labels else ""), identity, ends, [key])
    _feature_stages(bench, settings)
    for name, cohort in spec.cohorts.items():
        nodes, key = [f"nodes/{cohort.node}"], ("cohort", name)
        identity = [_physical(bench, key), bench.prints(nodes)]
        bench.add("cohorts", name, f"group the {cohort.node} nodes by {cohort.column}", identity, nodes, [key])


def _feature_stages(bench: _Bench, settings: StageSettings) -> None:
    """Arrays of features, then rendered texts, then their vectors."""
    features = bench.spec.features
    texts = [name for name, feature in features.items() if isinstance(feature, TextFeature)]
    for name, feature in features.items():
        if not isinstance(feature, TextFeature | IdFeature):
            kind: str = feature.kind  # type: ignore[attr-defined]  # every feature has one
            _on_nodes(bench, "features", name, f"compile the {kind} feature")
    for name in texts:
        _on_nodes(bench, "texts", name, "render the texts, one per node and version")
    encoder = settings.text.get("encoder", "the text encoder")
    for name in texts:
        # an encoder that is fitted to the texts of the release gives all of them one space
        rows = [f"texts/{other}" for other in (texts if settings.text_fitted else [name])]
        identity = [bench.prints(rows), settings.text_features.get(name, settings.text_fingerprint)]
        if settings.inner_text:
            identity.append("tokens")  # which the GNN's training reads
        bench.add("text", name, f"encode the texts with {encoder}", identity, rows, settings="text")


def _on_nodes(bench: _Bench, kind: StageKind, name: str, what: str) -> None:
    key: SignalKey = ("feature", name)
    nodes = [f"nodes/{name.partition('.')[0]}"]
    bench.add(kind, name, what, [_physical(bench, key), bench.prints(nodes)], nodes, [key])


def _model_stages(bench: _Bench, settings: StageSettings) -> None:
    """The graph and what is learned from it."""
    spec = bench.spec
    parts = bench.named("nodes", "edges", "features", "texts", "text", "cohorts")
    content, declared = _graph_content(bench)
    cohorts = bench.prints(bench.named("cohorts"))
    bench.add("graph", None, "assemble the graph", [content, cohorts], parts, declared)

    objectives: list[SignalKey] = [("objective", name) for name in spec.objectives]
    read = ["graph", *_derive_stage(bench, settings, content)]
    aims = {name: bench.fingerprints["objective", name].data for name in spec.objectives}
    identity = [content, aims, settings.training]
    if "derive" in read:
        identity.append(bench.prints(["derive"]))
    if settings.inner_text:
        identity.append(settings.inner_text)
    what = f"train on {_list(aims)}"
    if settings.aligned_to is not None:
        identity.append(settings.alignment())
        what += f", aligned with r{settings.aligned_to.release}"
    bench.add("train", None, what, identity, read, objectives, "training")

    entities = [name for name, node in spec.nodes.items() if node.kind == "entity"]
    identity = [bench.prints(["train"]), content]
    bench.add("embed", None, f"embed every {_list(entities)}", identity, ["train", *read])

    identity = [bench.prints(["embed"]), cohorts, settings.evaluation]
    what = "measure on examples later than training"
    bench.add("evaluate", None, what, identity, ["embed", *read], settings="evaluation")

    made = ["embed"]
    if settings.maps:
        older = ", ".join(f"r{space.release}" for space in settings.served)
        vectors = [asdict(space) for space in settings.served]
        identity = [bench.prints(["embed"]), vectors, settings.compat, settings.gate_inputs]
        what = f"map to {older}, and judge the maps"
        bench.add("compat", None, what, identity, ["embed", *read], settings="compat")
        made.append("compat")
    identity = [bench.prints(made), settings.publishing]
    what = "write to the feature stores, count and compare"
    bench.add("publish", None, what, identity, made, settings="publishing")
    ends = ["publish", "evaluate"]
    bench.add("activate", None, "let readers of latest have it", bench.prints(ends), ends)


def _derive_stage(bench: _Bench, settings: StageSettings, content: list[Any]) -> list[str]:
    """Edges that are computed from the graph, where training asks for them; the name of the stage.

    Weights of objectives do not count: they change neither the examples nor their division by time.
    """
    derived = settings.derived
    if derived is None:
        return []
    objectives = bench.spec.objectives
    examples = {name: each.model_dump(mode="json", exclude={"weight"}) for name, each in objectives.items()}
    made = [
        *(["neighbours by PageRank"] if derived["ppr"] is not None else []),
        *(["edges between similar nodes"] if derived["densify"] is not None else []),
    ]
    keys: list[SignalKey] = [("objective", name) for name in objectives]
    what = f"compute {' and '.join(made)}, as of several moments"
    bench.add("derive", None, what, [content, derived, examples], ["graph"], keys, "training")
    return ["derive"]


def _graph_content(bench: _Bench) -> tuple[list[Any], list[SignalKey]]:
    """What a model sees of the graph, as an identity, and the signals that are in it without a stage of their own."""
    parts = bench.named("nodes", "edges", "features", "texts", "text")
    nodes: list[SignalKey] = [("node", name) for name in bench.spec.nodes]
    ids: list[SignalKey] = [
        ("feature", name) for name, feature in bench.spec.features.items() if isinstance(feature, IdFeature)
    ]
    kinds = {name: bench.fingerprints[kind, name].metadata for kind, name in nodes}
    learned = {name: bench.fingerprints[kind, name].data for kind, name in ids}
    return [kinds, learned, bench.prints(parts)], [*nodes, *ids]


def _physical(bench: _Bench, key: SignalKey) -> str:
    return bench.fingerprints[key].physical


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
