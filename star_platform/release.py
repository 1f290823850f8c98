"""A release from plan to activation: runs the stages of a plan, skips the done ones, stops before harm.

The plan's stages are values; each kind has one function here that builds its artefact. A stage whose artefact is in the
store is verified and reused. A killed run leaves finished artefacts, the checkpoint of a training under way, and the
release in state `building`: `resume` goes on with the same number.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from star_platform.errors import ArtefactError, GateFailed, RegistryError, StarError
from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import BranchRevision, Release

if TYPE_CHECKING:
    from star_platform.evaluation.config import EvaluationConfig
    from star_platform.gnn.config import TrainingConfig
    from star_platform.graph.engine import Engine
    from star_platform.graph.inputs import Compiler
    from star_platform.graph.privacy import Pseudonymiser
    from star_platform.graph.storage import Graph
    from star_platform.planning.plan import Plan
    from star_platform.planning.spec import GraphSpec
    from star_platform.planning.stages import Stage
    from star_platform.publishing.model import FeastState, NodeVectors
    from star_platform.publishing.publish import Publisher
    from star_platform.registry.leases import Lease
    from star_platform.registry.registry import Registry
    from star_platform.text.cache import TextCache
    from star_platform.text.encoder import TextEncoder

LEASE = "release"
"""One release at a time per registry."""
PUBLISHED = "published"
"""Event kind: what Feast holds of a release, as `PublishedRelease.record()`."""


class FeastStates(Protocol):
    """All that Feast shall know, from our registry; with release `active` in front, or the active one when None."""

    def __call__(self, active: int | None) -> FeastState: ...


@dataclass(frozen=True)
class Workshop:
    """What the stages work with; `project.py` puts it together."""

    registry: Registry
    store: ArtefactStore
    engine: Engine
    pseudonymiser: Pseudonymiser
    encoder: TextEncoder
    text_cache: TextCache
    training: TrainingConfig
    evaluation: EvaluationConfig
    publisher: Publisher
    feast_state: FeastStates
    progress: Progress = SILENT


@dataclass(frozen=True)
class ReleaseRequest:
    """Who releases what: a plan, the spec that it was made from, and the branch files."""

    plan: Plan
    spec: GraphSpec
    branches: tuple[BranchRevision, ...]
    actor: str
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """One release under way.

    `done` fills with the artefacts of its stages, by stage name; `encoder` holds the text encoder once it is fitted.
    """

    shop: Workshop
    request: ReleaseRequest
    number: int
    lease: Lease
    done: dict[str, Artefact] = field(default_factory=dict)
    encoder: list[TextEncoder] = field(default_factory=list)

    @property
    def spec(self) -> GraphSpec:
        return self.request.spec

    def graph(self) -> Graph:
        from star_platform.graph.storage import open_graph

        return open_graph(self.done["graph"].path)

    def compiler(self) -> Compiler:
        from star_platform.graph.inputs import Compiler

        shop = self.shop
        return Compiler(self.spec, shop.engine, shop.store, shop.pseudonymiser, shop.progress)

    def of_kind(self, kind: str) -> dict[str, Artefact]:
        """Finished artefacts of one kind, by what they are of."""
        return {name.partition("/")[2]: artefact for name, artefact in self.done.items() if artefact.kind == kind}


# --- the run ----------------------------------------------------------------------------------------------------------


def start(shop: Workshop, request: ReleaseRequest, lease: Lease, *, rebuild: bool = False) -> Release:
    """Give the plan the next release number and run it. A run that was killed before is marked failed.

    With `rebuild` every artefact is made anew beside the stored one, and must have the same bytes.

    Raises:
        StarError: of the stage that failed; the release is then `failed`, and `resume` tries it again.
    """
    registry = shop.registry
    for abandoned in registry.unfinished():
        if abandoned.state is ReleaseState.BUILDING:
            registry.set_state(
                abandoned.number, ReleaseState.FAILED, request.actor, "superseded by a later release", lease
            )
    plan = request.plan
    release = registry.start_release(plan.id, plan.base_number, plan.record(), request.actor, lease)
    registry.record_branches(request.branches, release.number)
    return _run(shop, request, release.number, lease, rebuild)


def resume(shop: Workshop, request: ReleaseRequest, lease: Lease, number: int) -> Release:
    """Go on with an interrupted or failed release; `request` must be the same plan.

    Raises:
        RegistryError: R020 when branches, data or settings have changed since it was started.
    """
    release = shop.registry.release(number)
    if release.plan_id != request.plan.id:
        raise RegistryError(
            "R020",
            f"{release.name} cannot be resumed: branches, data or settings have changed since it was started",
            hint="run `star-platform release`: it starts a new release and reuses every finished stage that still fits",
        )
    if release.state is ReleaseState.FAILED:
        shop.registry.set_state(number, ReleaseState.BUILDING, request.actor, "resumed", lease)
    return _run(shop, request, number, lease, rebuild=False)


def _run(shop: Workshop, request: ReleaseRequest, number: int, lease: Lease, rebuild: bool) -> Release:
    run = Run(shop, request, number, lease)
    try:
        with _workplace(run, rebuild) as workplace:
            stages = request.plan.stages
            for position, stage in enumerate(stages, 1):
                lease.check()
                shop.progress.line(f"[{position:>2}/{len(stages)}] {stage.name:<36} {_intent(run, stage, rebuild)}")
                _run_stage(workplace, run, stage)
    except StarError as error:
        shop.registry.set_state(number, ReleaseState.FAILED, request.actor, str(error), lease)
        raise
    return shop.registry.release(number)


@contextmanager
def _workplace(run: Run, rebuild: bool) -> Iterator[Run]:
    """Where artefacts are built: the store itself, or for a rebuild an empty store and cache beside it."""
    if not rebuild:
        yield run
        return
    root = run.shop.store.root / ".work" / f"rebuild-r{run.number}"
    shutil.rmtree(root, ignore_errors=True)
    shop = replace(run.shop, store=ArtefactStore(root), text_cache=run.shop.text_cache.beside(root / "text-cache"))
    try:
        yield replace(run, shop=shop)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run_stage(workplace: Run, run: Run, stage: Stage) -> None:
    """Reuse or build one stage and record it; `run` has the store that lasts, `workplace` the one to build in."""
    registry, begin = run.shop.registry, time.monotonic()
    effect = _EFFECTS.get(stage.kind)
    if effect is not None and registry.done_stages(run.number).get(stage.name) == stage.fingerprint:
        return
    registry.mark_stage(run.number, stage.name, "running", stage.fingerprint, lease=run.lease)
    try:
        reused = False
        if effect is not None:
            effect(run, stage)
        else:
            artefact, reused = _obtain(workplace, run, stage)
            run.done[stage.name] = artefact
            registry.attach(
                run.number, stage.name, stage.kind, stage.fingerprint, artefact.content_hash, artefact.bytes, run.lease
            )
            if stage.kind == "evaluate":
                _check_gate(run, artefact)
    except StarError:
        registry.mark_stage(run.number, stage.name, "failed", stage.fingerprint, time.monotonic() - begin)
        raise
    seconds = time.monotonic() - begin
    registry.mark_stage(run.number, stage.name, "done", stage.fingerprint, seconds, reused, run.lease)


def _intent(run: Run, stage: Stage, rebuild: bool) -> str:
    there = stage.kind not in _EFFECTS and run.shop.store.find(stage.kind, stage.fingerprint) is not None
    if there:
        return "rebuild and compare" if rebuild else "reuse"
    return stage.what


def _obtain(workplace: Run, run: Run, stage: Stage) -> tuple[Artefact, bool]:
    """The artefact of a stage, and whether it was there before; always verified against its manifest."""
    found = run.shop.store.find(stage.kind, stage.fingerprint)
    if found is None or workplace is not run:
        built = _BUILDERS[stage.kind](workplace, stage)
        if workplace is run:
            return built, False
        if found is None:
            return _keep(run, built), False
        if found.content_hash != built.content_hash:
            raise ArtefactError(
                "A003",
                f"rebuilding {stage.name} gave other bytes than the stored artefact {stage.fingerprint}",
                hint="a source changed while it was read, or a stage is not deterministic on this machine",
            )
        return found, False
    run.shop.store.verify(found)
    return found, True


def _keep(run: Run, built: Artefact) -> Artefact:
    """Copy a rebuilt artefact into the store that lasts."""
    with run.shop.store.create(built.kind, built.fingerprint) as draft:
        shutil.copytree(built.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        draft.details.update(built.details)
    return run.shop.store.open(built.kind, built.fingerprint)


def _check_gate(run: Run, report: Artefact) -> None:
    """A release that is not good enough stops before anything is published."""
    from star_platform.evaluation.report import gate_failures

    failures = gate_failures(report.details, run.shop.evaluation.gate)
    if failures:
        raise GateFailed(
            "E001",
            "; ".join(failures),
            hint="`star-platform show` has the figures; change the branches, or the gate in star.yaml",
        )


# --- stages that leave an artefact ------------------------------------------------------------------------------------


def _nodes(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import build_nodes

    return build_nodes(run.compiler(), str(stage.subject), stage.fingerprint)


def _edges(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import build_edges

    name = str(stage.subject)
    edge, nodes = run.spec.edges[name], run.of_kind("nodes")
    return build_edges(run.compiler(), name, nodes[edge.src.node], nodes[edge.dst.node], stage.fingerprint)


def _on_nodes(stage_kind: str) -> Callable[[Run, Stage], Artefact]:
    """Features, texts and cohorts: compiled against the nodes of the type that they describe."""

    def build(run: Run, stage: Stage) -> Artefact:
        from star_platform.graph import compile as graph

        name = str(stage.subject)
        node = run.spec.cohorts[name].node if stage_kind == "cohorts" else name.partition(".")[0]
        function = {"features": graph.build_feature, "texts": graph.build_texts, "cohorts": graph.build_cohort}[
            stage_kind
        ]
        return function(run.compiler(), name, run.of_kind("nodes")[node], stage.fingerprint)

    return build


def _text(run: Run, stage: Stage) -> Artefact:
    from star_platform.text.stage import encode_texts, fit_encoder

    shop, texts = run.shop, run.of_kind("texts")
    if not run.encoder:
        run.encoder.append(fit_encoder(shop.encoder, texts.values()))
    return encode_texts(
        texts[str(stage.subject)], run.encoder[0], shop.text_cache, shop.store, stage.fingerprint, shop.progress
    )


def _graph(run: Run, stage: Stage) -> Artefact:
    from star_platform.graph.compile import GraphParts, assemble_graph

    parts = GraphParts(
        nodes=run.of_kind("nodes"),
        edges=run.of_kind("edges"),
        features=run.of_kind("features"),
        texts=run.of_kind("texts"),
        vectors=run.of_kind("text"),
        cohorts=run.of_kind("cohorts"),
    )
    return assemble_graph(run.compiler(), parts, stage.fingerprint)


def _train(run: Run, stage: Stage) -> Artefact:
    from star_platform.gnn.trainer import train

    shop = run.shop
    work_dir = shop.store.work_dir(stage.kind, stage.fingerprint)
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        draft.details.update(
            train(run.graph(), run.spec.objectives, shop.training, work_dir, draft.path, shop.progress)
        )
    return shop.store.open(stage.kind, stage.fingerprint)


def _embed(run: Run, stage: Stage) -> Artefact:
    from star_platform.gnn.inference import embed

    shop = run.shop
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        draft.details.update(embed(run.graph(), run.done["train"].path, draft.path, shop.progress))
    return shop.store.open(stage.kind, stage.fingerprint)


def _evaluate(run: Run, stage: Stage) -> Artefact:
    from star_platform.evaluation.report import evaluate

    shop = run.shop
    work_dir = shop.store.work_dir(stage.kind, stage.fingerprint)
    with shop.store.create(stage.kind, stage.fingerprint) as draft:
        report = evaluate(
            run.graph(), run.done["train"].path, run.spec.objectives, shop.evaluation, work_dir, shop.progress
        )
        draft.details.update(report)
    return shop.store.open(stage.kind, stage.fingerprint)


_BUILDERS: Mapping[str, Callable[[Run, Stage], Artefact]] = {
    "nodes": _nodes,
    "edges": _edges,
    "features": _on_nodes("features"),
    "texts": _on_nodes("texts"),
    "text": _text,
    "cohorts": _on_nodes("cohorts"),
    "graph": _graph,
    "train": _train,
    "embed": _embed,
    "evaluate": _evaluate,
}


# --- stages that change the world -------------------------------------------------------------------------------------


def _publish(run: Run, stage: Stage) -> None:
    shop, embedded = run.shop, run.done["embed"]
    published = shop.publisher.publish(
        run.number,
        entity_vectors(run.graph(), embedded.path),
        spaces=dict.fromkeys(embedded.details["nodes"], embedded.details["space"]),
        as_of=run.graph().as_of,
        work_dir=shop.store.work_dir(stage.kind, f"r{run.number}-{stage.fingerprint}"),
        state=shop.feast_state(None),
        progress=shop.progress,
    )
    shop.registry.note(PUBLISHED, run.number, run.request.actor, published.record(), lease=run.lease)


def _activate(run: Run, _stage: Stage) -> None:
    registry, request = run.shop.registry, run.request
    if registry.release(run.number).state is ReleaseState.BUILDING:
        registry.set_state(run.number, ReleaseState.CANDIDATE, request.actor, "published and verified", run.lease)
    shop = run.shop
    state = shop.feast_state(run.number)
    event = Activation(run.number, request.plan.base_number, request.actor, request.reason)
    activate(shop.registry, shop.publisher, state, event, run.lease)


_EFFECTS: Mapping[str, Callable[[Run, Stage], None]] = {"publish": _publish, "activate": _activate}


@dataclass(frozen=True)
class Activation:
    """Which release `latest` shall name, instead of which, by whom and why."""

    number: int
    previous: int | None
    actor: str
    reason: str


def activate(registry: Registry, publisher: Publisher, state: FeastState, event: Activation, lease: Lease) -> None:
    """Move `latest` in one transaction, then let Feast follow; `state` has the release in front already. Reversible.

    Raises:
        PublishError: F043 when a consumer's pin would lead nowhere; nothing has happened then.
        BaseMoved: R008 when `latest` does not name `event.previous` any more.
    """
    state.check()
    registry.activate(event.number, event.actor, event.reason, expected_previous=event.previous, lease=lease)
    publisher.reconcile(state)


def finish(release: Release, registry: Registry, publisher: Publisher, state: FeastState, lease: Lease) -> None:
    """Let Feast follow a release that was activated by a process that died before it could tell Feast."""
    publisher.reconcile(state)
    for stage, fingerprint in release.record["stages"].items():
        if stage not in registry.done_stages(release.number):
            registry.mark_stage(release.number, stage, "done", fingerprint, lease=lease)


def entity_vectors(graph: Graph, folder: Path) -> list[NodeVectors]:
    """The stored embeddings of every entity node type: `<node>.npy`, float32 [n, dim], beside the ids of the graph."""
    import numpy as np

    from star_platform.publishing.model import NodeVectors

    return [
        NodeVectors(node, graph.ids(node), np.load(folder / f"{node}.npy", mmap_mode="r"))
        for node in graph.node_types
        if graph.node_kind(node) == "entity"
    ]
