"""What a release is made with and of: the services of its stages, who asks for it, how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.registry.values import BranchRevision

if TYPE_CHECKING:
    from star_platform.compat.config import CompatConfig
    from star_platform.compat.gate import GateConsumer
    from star_platform.evaluation.config import EvaluationConfig
    from star_platform.gnn.config import TrainingConfig
    from star_platform.graph.engine import Engine
    from star_platform.graph.inputs import Compiler
    from star_platform.graph.privacy import Pseudonymiser
    from star_platform.graph.storage import Graph
    from star_platform.planning.plan import Plan
    from star_platform.planning.spec import GraphSpec
    from star_platform.publishing.model import FeastState
    from star_platform.publishing.publish import Publisher
    from star_platform.registry.leases import Lease
    from star_platform.registry.registry import Registry
    from star_platform.text.cache import TextCache
    from star_platform.text.encoder import TextEncoder
    from star_platform.text.inner import InnerText

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
    released: ArtefactStore
    """Where the artefacts of earlier releases lie: `store`, but for a rebuild, which has an empty one."""
    engine: Engine
    pseudonymiser: Pseudonymiser
    encoder: TextEncoder
    text_cache: TextCache
    training: TrainingConfig
    evaluation: EvaluationConfig
    compat: CompatConfig
    consumers: Callable[[], tuple[GateConsumer, ...]]
    publisher: Publisher
    feast_state: FeastStates
    inner_text: InnerText | None = None
    """The text encoder where it runs inside the GNN too."""
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
        """The compiled graph, with its derived edges once they are made."""
        from star_platform.graph.derived import open_extended

        derived = self.done.get("derive")
        return open_extended(self.done["graph"].path, None if derived is None else derived.path)

    def compiler(self) -> Compiler:
        from star_platform.graph.inputs import Compiler

        shop = self.shop
        return Compiler(self.spec, shop.engine, shop.store, shop.pseudonymiser, shop.progress)

    def of_kind(self, kind: str) -> dict[str, Artefact]:
        """Finished artefacts of one kind, by what they are of."""
        return {name.partition("/")[2]: artefact for name, artefact in self.done.items() if artefact.kind == kind}
