"""Between rows and values: the look-ups and conversions that `registry` is written with."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from star_platform.errors import BaseMoved, RegistryError
from star_platform.registry.models import (
    AliasEventRow,
    ArtefactRow,
    BranchRevisionRow,
    ConsumerRow,
    ReleaseRow,
    StageRow,
)
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import (
    AliasEvent,
    BranchRevision,
    Clock,
    Consumer,
    Release,
    StageRecord,
    StageState,
)


def release_row(session: Session, number: int) -> ReleaseRow:
    """The row of a release; raises RegistryError R010 when there is none."""
    row = session.get(ReleaseRow, number)
    if row is None:
        newest = session.scalar(select(func.max(ReleaseRow.number)))
        hint = f"the newest is r{newest}; `star-platform releases` lists them" if newest else "nothing was released yet"
        raise RegistryError("R010", f"there is no release r{number}", hint=hint)
    return row


def alias_head(session: Session, alias: str) -> AliasEventRow | None:
    """The last move of an alias."""
    query = select(AliasEventRow).where(AliasEventRow.alias == alias).order_by(AliasEventRow.id.desc()).limit(1)
    return session.scalar(query)


def base_moved(expected: int | None, found: int | None) -> BaseMoved:
    """The error of work that started from another base than the one that is active now."""

    def name(number: int | None) -> str:
        return f"r{number}" if number else "no release"

    return BaseMoved(
        "R008",
        f"this work started from {name(expected)}, but {name(found)} is active now",
        hint="plan again on the new base: `star-platform plan`",
        expected=expected,
        found=found,
    )


def record_revision(session: Session, revision: BranchRevision, clock: Clock) -> int:
    """The id of a revision, which is added when it is new."""
    row = session.scalar(
        select(BranchRevisionRow).where(
            BranchRevisionRow.branch == revision.branch, BranchRevisionRow.content_hash == revision.content_hash
        )
    )
    if row is None:
        row = BranchRevisionRow(
            branch=revision.branch,
            owner=revision.owner,
            file=revision.file,
            status=revision.status,
            content_hash=revision.content_hash,
            recorded_at=clock.now(),
        )
        session.add(row)
        session.flush()
    return row.id


def record_artefact(session: Session, kind: str, fingerprint: str, content_hash: str, size: int, clock: Clock) -> int:
    """The id of an artefact's content, which is added when it is new."""
    row = session.scalar(
        select(ArtefactRow).where(
            ArtefactRow.kind == kind, ArtefactRow.fingerprint == fingerprint, ArtefactRow.content_hash == content_hash
        )
    )
    if row is None:
        row = ArtefactRow(
            kind=kind, fingerprint=fingerprint, content_hash=content_hash, bytes=size, recorded_at=clock.now()
        )
        session.add(row)
        session.flush()
    return row.id


def from_consumer(consumer: Consumer, clock: Clock) -> ConsumerRow:
    """The row of a declared consumer."""
    return ConsumerRow(
        name=consumer.name,
        owner=consumer.owner,
        nodes=list(consumer.nodes),
        release=consumer.release,
        details=consumer_details(consumer),
        recorded_at=clock.now(),
    )


def consumer_details(consumer: Consumer) -> dict[str, Any]:
    """What has no column of its own, as JSON; fields that say nothing are left out."""
    facts = {
        "contact": consumer.contact,
        "need": consumer.need,
        "margin": consumer.margin,
        "scorer": dict(consumer.scorer) if consumer.scorer is not None else None,
        "cases": dict(consumer.cases) if consumer.cases is not None else None,
        "sunset": consumer.sunset.isoformat() if consumer.sunset is not None else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def to_consumer(row: ConsumerRow) -> Consumer:
    """The row of a declared consumer as a value."""
    facts = dict(row.details)
    sunset = facts.pop("sunset", None)
    day = date.fromisoformat(sunset) if sunset is not None else None
    return Consumer(row.name, row.owner, tuple(row.nodes), row.release, sunset=day, **facts)


def to_release(row: ReleaseRow) -> Release:
    """The row of a release as a value."""
    return Release(
        row.number, row.plan_id, row.base, ReleaseState(row.state), row.record, row.created_at, row.created_by
    )


def to_alias_event(row: AliasEventRow) -> AliasEvent:
    """The row of an alias move as a value."""
    return AliasEvent(row.id, row.alias, row.release, row.actor, row.reason, row.at, row.previous_event)


def to_stage(row: StageRow) -> StageRecord:
    """The row of a stage as a value."""
    states: tuple[StageState, ...] = get_args(StageState)
    return StageRecord(
        release=row.release,
        stage=row.stage,
        state=next(state for state in states if state == row.state),
        fingerprint=row.fingerprint,
        reused=row.reused,
        seconds=row.seconds,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
