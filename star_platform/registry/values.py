"""What the registry hands out: frozen values, never rows of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, Protocol

from star_platform.registry.states import ReleaseState

StageState = Literal["running", "done", "failed"]
Need = Literal["mapped", "exact"]


class Clock(Protocol):
    """Where the registry takes the time from; tests bring their own."""

    def now(self) -> datetime:
        """The present moment, with a time zone."""


class SystemClock:
    """The clock of this machine, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class BranchRevision:
    """One content of one branch file."""

    branch: str
    owner: str
    file: str
    status: str
    content_hash: str


@dataclass(frozen=True)
class Release:
    """One release; `record` is what planning stored about it (`Plan.record()`)."""

    number: int
    plan_id: str
    base: int | None
    """The release that was active when the plan was made."""
    state: ReleaseState
    record: Mapping[str, Any]
    created_at: datetime
    created_by: str

    @property
    def name(self) -> str:
        return f"r{self.number}"


@dataclass(frozen=True)
class StageRecord:
    """What became of one stage of a release."""

    release: int
    stage: str
    state: StageState
    fingerprint: str | None
    reused: bool
    seconds: float | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class ReleaseArtefact:
    """An artefact that a release consists of, and the stage that brought it."""

    release: int
    stage: str
    kind: str
    fingerprint: str
    content_hash: str
    bytes: int


@dataclass(frozen=True)
class Consumer:
    """Somebody who reads embeddings: of which nodes, and of which release (`latest` or `rN`).

    need: `exact` when only the vectors of its release will do, `mapped` when a map within the gate may serve it.
    margin: how much AUC it may lose to a map; None for the project's own margin.
    scorer: its frozen model, `{"python": "module:function"}` or `{"onnx": "path"}`; None when it registered none.
    cases: the labelled rows that the frozen model is judged on, as in its file (`path`, `label`, `keys`, ...).
    sunset: the day by which it will have left its release.
    """

    name: str
    owner: str
    nodes: tuple[str, ...]
    release: str
    contact: str | None = None
    need: Need = "mapped"
    margin: float | None = None
    scorer: Mapping[str, Any] | None = None
    cases: Mapping[str, Any] | None = None
    sunset: date | None = None


@dataclass(frozen=True)
class Usage:
    """How often a consumer read a node type of a release on one day (UTC); None for who did not say.

    reads counts calls, vectors the ids asked for. Both are sums over the day, not increments.
    """

    consumer: str | None
    node: str
    release: int
    day: date
    reads: int
    vectors: int


@dataclass(frozen=True)
class Note:
    """An event to be: what happened to a release, besides the steps of its life."""

    kind: str
    release: int
    details: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened, for good: `release-started`, `state`, or what `Registry.note` was told."""

    id: int
    at: datetime
    actor: str
    kind: str
    release: int | None
    reason: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class AliasEvent:
    """One move of an alias; `previous_event` is the id of the move before it, 0 for the first."""

    id: int
    alias: str
    release: int
    actor: str
    reason: str
    at: datetime
    previous_event: int
