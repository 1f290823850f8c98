"""What is true: branches, releases, their artefacts, consumers, events. The few queries that other rooms may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from star_platform.errors import RegistryError
from star_platform.registry import leases
from star_platform.registry.database import Database, SchemaStatus
from star_platform.registry.leases import Lease, LeaseInfo
from star_platform.registry.models import (
    AliasEventRow,
    ArtefactRow,
    BranchRevisionRow,
    ConsumerRow,
    EventRow,
    ReleaseArtefactRow,
    ReleaseBranchRow,
    ReleaseRow,
    StageRow,
)
from star_platform.registry.rows import (
    alias_head,
    base_moved,
    from_consumer,
    record_artefact,
    record_revision,
    release_row,
    to_alias_event,
    to_consumer,
    to_release,
    to_stage,
)
from star_platform.registry.states import BY_ACTIVATION, ReleaseState, check_transition
from star_platform.registry.usage import UsageLedger
from star_platform.registry.values import (
    AliasEvent,
    BranchRevision,
    Clock,
    Consumer,
    Event,
    Note,
    Release,
    ReleaseArtefact,
    StageRecord,
    StageState,
    SystemClock,
)

LATEST = "latest"
"""The alias that names the active release."""
_UNFINISHED = (ReleaseState.BUILDING, ReleaseState.FAILED)


class Registry:
    """One registry, opened on first use.

    Every method raises RegistryError: R001 when the database does not answer, R003 when there is no registry yet, R004
    or R005 when its schema is older or newer than this version's.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.database = Database(url)
        self.clock: Clock = clock or SystemClock()

    # --- schema -------------------------------------------------------------------------------------------------------

    def upgrade(self) -> None:
        """Create the registry or bring its schema up to date."""
        self.database.upgrade()

    def status(self) -> SchemaStatus:
        """Whether the registry is there and which schema it has; creates nothing."""
        return self.database.status()

    # --- branches and consumers ---------------------------------------------------------------------------------------

    def record_branches(self, revisions: Iterable[BranchRevision], release: int | None = None) -> None:
        """Remember each revision once, and that it went into `release` if one is given."""
        with self.database.write() as session:
            if release is not None:
                release_row(session, release)
            for revision in revisions:
                identifier = record_revision(session, revision, self.clock)
                if release is not None and session.get(ReleaseBranchRow, (release, identifier)) is None:
                    session.add(ReleaseBranchRow(release=release, revision=identifier))

    def branches(self, release: int | None = None) -> tuple[BranchRevision, ...]:
        """Every recorded revision, oldest first, or those of one release by name."""
        query = select(BranchRevisionRow).order_by(BranchRevisionRow.id)
        if release is not None:
            query = (
                select(BranchRevisionRow)
                .join(ReleaseBranchRow, ReleaseBranchRow.revision == BranchRevisionRow.id)
                .where(ReleaseBranchRow.release == release)
                .order_by(BranchRevisionRow.branch)
            )
        with self.database.read() as session:
            return tuple(
                BranchRevision(row.branch, row.owner, row.file, row.status, row.content_hash)
                for row in session.scalars(query)
            )

    def record_consumers(self, consumers: Iterable[Consumer]) -> None:
        """Make these the declared consumers; those not named are no longer declared."""
        with self.database.write() as session:
            session.execute(delete(ConsumerRow))
            session.add_all(from_consumer(consumer, self.clock) for consumer in consumers)

    def consumers(self) -> tuple[Consumer, ...]:
        """Declared consumers by name."""
        with self.database.read() as session:
            rows = session.scalars(select(ConsumerRow).order_by(ConsumerRow.name))
            return tuple(to_consumer(row) for row in rows)

    @cached_property
    def usage(self) -> UsageLedger:
        """Who read which release on which day."""
        return UsageLedger(self.database)

    # --- releases -----------------------------------------------------------------------------------------------------

    def start_release(
        self, plan_id: str, base: int | None, record: Mapping[str, Any], actor: str, lease: Lease | None = None
    ) -> Release:
        """Give the next number to a new release in state `building`; numbers are never given twice.

        Raises:
            BaseMoved: R008 when `base` is not the active release any more.
            LeaseHeld: R007 when `lease` was lost.
        """
        with self.database.write() as session:
            leases.require(session, lease)
            head = alias_head(session, LATEST)
            active = head.release if head else None
            if base != active:
                raise base_moved(base, active)
            number = (session.scalar(select(func.max(ReleaseRow.number))) or 0) + 1
            row = ReleaseRow(
                number=number,
                plan_id=plan_id,
                base=base,
                state=ReleaseState.BUILDING,
                record=dict(record),
                created_at=self.clock.now(),
                created_by=actor,
            )
            session.add(row)
            session.flush()
            self._append(session, actor, "release-started", number, "", {"plan_id": plan_id, "base": base})
            return to_release(row)

    def set_state(
        self, number: int, state: ReleaseState | str, actor: str, reason: str = "", lease: Lease | None = None
    ) -> Release:
        """Take a step of DESIGN 4.7 other than activation; staying in the same state is no step and no error.

        Raises:
            RegistryError: R009 when the step is illegal, or is one that only `activate` takes; R010 without a release.
        """
        return self.advance(number, (ReleaseState(state),), actor, reason, lease=lease)

    def advance(
        self,
        number: int,
        states: Sequence[ReleaseState],
        actor: str,
        reason: str = "",
        *,
        details: Mapping[str, Any] | None = None,
        notes: Sequence[Note] = (),
        lease: Lease | None = None,
    ) -> Release:
        """Several steps of a release and the events that belong to them, in one transaction: all happen, or none.

        A step to the state that the release is in is no step. `details` go into each step's event; `notes` come first,
        so that whoever sees the last state sees what led to it.

        Raises:
            RegistryError: R009 when a step is illegal, or is one that only `activate` takes; R010 without a release.
            LeaseHeld: R007 when `lease` was lost.
        """
        with self.database.write() as session:
            leases.require(session, lease)
            row = release_row(session, number)
            for note in notes:
                release_row(session, note.release)
                self._append(session, actor, note.kind, note.release, note.reason or reason, note.details)
            for after in states:
                before = ReleaseState(row.state)
                if before == after:
                    continue
                check_transition(number, before, after)
                # An active release is deprecated when its successor is activated, which moves the alias with it.
                if (before, after) in BY_ACTIVATION:
                    raise RegistryError(
                        "R009",
                        f"release r{number} cannot go from {before} to {after} by itself",
                        hint="activate the release that is to be served; the other one follows",
                    )
                self._step(session, row, after, actor, reason, details)
            return to_release(row)

    def release(self, number: int) -> Release:
        """Raises RegistryError R010 when there is no such release."""
        with self.database.read() as session:
            return to_release(release_row(session, number))

    def releases(self) -> tuple[Release, ...]:
        """All releases, oldest first."""
        with self.database.read() as session:
            return tuple(to_release(row) for row in session.scalars(select(ReleaseRow).order_by(ReleaseRow.number)))

    def latest(self) -> Release | None:
        """The release with the highest number of those that were built to the end."""
        with self.database.read() as session:
            row = session.scalar(
                select(ReleaseRow)
                .where(ReleaseRow.state.not_in(_UNFINISHED))
                .order_by(ReleaseRow.number.desc())
                .limit(1)
            )
            return to_release(row) if row else None

    def unfinished(self) -> tuple[Release, ...]:
        """Releases in state `building` or `failed`, oldest first: what `release --resume` may go on with."""
        return tuple(release for release in self.releases() if release.state in _UNFINISHED)

    def active(self) -> Release | None:
        """The release that `latest` names now."""
        with self.database.read() as session:
            head = alias_head(session, LATEST)
            return to_release(release_row(session, head.release)) if head else None

    def activate(
        self,
        number: int,
        actor: str,
        reason: str,
        expected_previous: int | None,
        lease: Lease | None = None,
    ) -> AliasEvent:
        """Move `latest` to a release, in one transaction with the states of both releases.

        The release before it becomes `deprecated`; when the move goes back to a lower number (a rollback), it becomes
        `candidate` again. Activating the active release changes nothing and returns the event that made it so.

        Raises:
            BaseMoved: R008 when the alias does not name `expected_previous` any more.
            LeaseHeld: R007 when `lease` was lost.
            RegistryError: R009 when the release is not in a state to be served; R010 without a release.
        """
        with self.database.write() as session:
            leases.require(session, lease)
            row = release_row(session, number)
            head = alias_head(session, LATEST)
            if head is not None and head.release == number:
                return to_alias_event(head)
            if (head.release if head else None) != expected_previous:
                raise base_moved(expected_previous, head.release if head else None)
            check_transition(number, ReleaseState(row.state), ReleaseState.ACTIVE)
            if head is not None:
                rollback = number < head.release
                after = ReleaseState.CANDIDATE if rollback else ReleaseState.DEPRECATED
                self._step(session, release_row(session, head.release), after, actor, reason, {"successor": number})
            self._step(session, row, ReleaseState.ACTIVE, actor, reason, {"alias": LATEST})
            move = AliasEventRow(
                alias=LATEST,
                release=number,
                actor=actor,
                reason=reason,
                at=self.clock.now(),
                previous_event=head.id if head else 0,
            )
            session.add(move)
            session.flush()
            return to_alias_event(move)

    def alias_events(self, alias: str = LATEST) -> tuple[AliasEvent, ...]:
        """Every move of an alias, oldest first."""
        query = select(AliasEventRow).where(AliasEventRow.alias == alias).order_by(AliasEventRow.id)
        with self.database.read() as session:
            return tuple(to_alias_event(row) for row in session.scalars(query))

    def events(self, release: int | None = None) -> tuple[Event, ...]:
        """Everything that happened, or happened to one release, oldest first."""
        query = select(EventRow).order_by(EventRow.id)
        if release is not None:
            query = query.where(EventRow.release == release)
        with self.database.read() as session:
            return tuple(
                Event(row.id, row.at, row.actor, row.kind, row.release, row.reason, row.details)
                for row in session.scalars(query)
            )

    def note(
        self,
        kind: str,
        number: int,
        actor: str,
        details: Mapping[str, Any],
        reason: str = "",
        lease: Lease | None = None,
    ) -> None:
        """Append an event about a release that is no step of its life, such as what was published."""
        with self.database.write() as session:
            leases.require(session, lease)
            release_row(session, number)
            self._append(session, actor, kind, number, reason, details)

    # --- stages and artefacts -----------------------------------------------------------------------------------------

    def mark_stage(
        self,
        number: int,
        stage: str,
        state: StageState,
        fingerprint: str | None = None,
        seconds: float | None = None,
        reused: bool = False,
        lease: Lease | None = None,
    ) -> None:
        """Record how far a stage is; a repeated stage overwrites what it was before."""
        with self.database.write() as session:
            leases.require(session, lease)
            release_row(session, number)
            now = self.clock.now()
            row = session.get(StageRow, (number, stage))
            if row is None:
                row = StageRow(release=number, stage=stage, started_at=now)
                session.add(row)
            if state == "running":
                row.started_at = now
            row.state, row.fingerprint, row.reused, row.seconds = state, fingerprint, reused, seconds
            row.finished_at = None if state == "running" else now

    def stages(self, number: int) -> tuple[StageRecord, ...]:
        """The stages of a release in the order in which they started."""
        query = select(StageRow).where(StageRow.release == number).order_by(StageRow.started_at, StageRow.stage)
        with self.database.read() as session:
            return tuple(to_stage(row) for row in session.scalars(query))

    def done_stages(self, number: int) -> dict[str, str | None]:
        """Finished stages of a release, with the fingerprint that each was finished for."""
        return {record.stage: record.fingerprint for record in self.stages(number) if record.state == "done"}

    def attach(
        self,
        number: int,
        stage: str,
        kind: str,
        fingerprint: str,
        content_hash: str,
        size: int,
        lease: Lease | None = None,
    ) -> None:
        """Say that a release consists of this artefact; a repeated stage replaces what it attached before."""
        with self.database.write() as session:
            leases.require(session, lease)
            release_row(session, number)
            artefact = record_artefact(session, kind, fingerprint, content_hash, size, self.clock)
            row = session.get(ReleaseArtefactRow, (number, stage))
            if row is None:
                session.add(ReleaseArtefactRow(release=number, stage=stage, artefact=artefact))
            else:
                row.artefact = artefact

    def artefacts(self, number: int) -> tuple[ReleaseArtefact, ...]:
        """The artefacts of a release by stage."""
        query = (
            select(ReleaseArtefactRow.stage, ArtefactRow)
            .join(ArtefactRow, ArtefactRow.id == ReleaseArtefactRow.artefact)
            .where(ReleaseArtefactRow.release == number)
            .order_by(ReleaseArtefactRow.stage)
        )
        with self.database.read() as session:
            return tuple(
                ReleaseArtefact(number, stage, row.kind, row.fingerprint, row.content_hash, row.bytes)
                for stage, row in session.execute(query)
            )

    # --- leases -------------------------------------------------------------------------------------------------------

    def lease(
        self, name: str, holder: str | None = None, ttl: timedelta = leases.DEFAULT_TTL
    ) -> AbstractContextManager[Lease]:
        """Hold a lease while the block runs; raises LeaseHeld R006 before anything else happens."""
        return leases.held(self.database, self.clock, name, holder, ttl)

    def lease_info(self, name: str) -> LeaseInfo | None:
        """Who holds a lease now, if anybody."""
        with self.database.read() as session:
            return leases.current(session, name, self.clock.now())

    # --- inside a transaction -----------------------------------------------------------------------------------------

    def _step(
        self,
        session: Session,
        row: ReleaseRow,
        after: ReleaseState,
        actor: str,
        reason: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        before = ReleaseState(row.state)
        check_transition(row.number, before, after)
        row.state = after
        self._append(session, actor, "state", row.number, reason, {"from": before, "to": after, **(details or {})})

    def _append(
        self, session: Session, actor: str, kind: str, release: int, reason: str, details: Mapping[str, Any]
    ) -> None:
        session.add(
            EventRow(at=self.clock.now(), actor=actor, kind=kind, release=release, reason=reason, details=dict(details))
        )


def release_number(name: str) -> int:
    """`r3` -> 3; raises RegistryError R011 for anything else."""
    if not name.startswith("r") or not name[1:].isascii() or not name[1:].isdigit() or name[1:].startswith("0"):
        raise RegistryError("R011", f"{name!r} is not the name of a release", hint="releases are named r1, r2, ...")
    return int(name[1:])
