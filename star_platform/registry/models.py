"""The tables. `migrations/` builds them; a test compares the two on SQLite and on Postgres."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is called INTEGER."""


class Utc(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` on Postgres, text without zone on SQLite; always aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base, with names for every constraint so that migrations can address them."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc, dict[str, Any]: JSON, list[str]: JSON, str: Text}  # noqa: RUF012


class BranchRevisionRow(Base):
    """One content of a branch file, recorded once."""

    __tablename__ = "branch_revision"
    __table_args__ = (UniqueConstraint("branch", "content_hash"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    branch: Mapped[str]
    owner: Mapped[str]
    file: Mapped[str]
    status: Mapped[str]
    content_hash: Mapped[str]
    recorded_at: Mapped[datetime]


class ReleaseRow(Base):
    """One release; never deleted, so that its number is never given again."""

    __tablename__ = "release"
    __table_args__ = (CheckConstraint("number > 0", name="number"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    plan_id: Mapped[str]
    base: Mapped[int | None] = mapped_column(ForeignKey("release.number"))
    state: Mapped[str]
    record: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class ReleaseBranchRow(Base):
    """Which revision of which branch went into a release."""

    __tablename__ = "release_branch"

    release: Mapped[int] = mapped_column(ForeignKey("release.number"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigId, ForeignKey("branch_revision.id"), primary_key=True)


class StageRow(Base):
    """How far a stage of a release is; the latest run of a stage wins."""

    __tablename__ = "stage_record"

    release: Mapped[int] = mapped_column(ForeignKey("release.number"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    fingerprint: Mapped[str | None]
    reused: Mapped[bool]
    seconds: Mapped[float | None] = mapped_column(Double)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ArtefactRow(Base):
    """One content of an artefact; two machines may build the same fingerprint with other last bits."""

    __tablename__ = "artefact"
    __table_args__ = (UniqueConstraint("kind", "fingerprint", "content_hash"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str]
    fingerprint: Mapped[str]
    content_hash: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[datetime]


class ReleaseArtefactRow(Base):
    """The artefact that a stage of a release brought."""

    __tablename__ = "release_artefact"

    release: Mapped[int] = mapped_column(ForeignKey("release.number"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    artefact: Mapped[int] = mapped_column(BigId, ForeignKey("artefact.id"))


class ConsumerRow(Base):
    """A declared consumer."""

    __tablename__ = "consumer"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    nodes: Mapped[list[str]]
    release: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """The rest of its file: contact, need, margin, scorer, cases, sunset (`rows.consumer_details`)."""
    recorded_at: Mapped[datetime]


class UsageRow(Base):
    """Reads of one day. Not append-only: a day's count grows until the day is over."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "release"),)

    consumer: Mapped[str] = mapped_column(primary_key=True)
    """Empty for readers that did not say who they are: NULL cannot be in a primary key."""
    node: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(ForeignKey("release.number"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    reads: Mapped[int] = mapped_column(BigInteger)
    vectors: Mapped[int] = mapped_column(BigInteger)


class EventRow(Base):
    """Append-only: triggers refuse UPDATE and DELETE."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "release"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    kind: Mapped[str]
    release: Mapped[int | None] = mapped_column(ForeignKey("release.number"))
    reason: Mapped[str]
    details: Mapped[dict[str, Any]]


class AliasEventRow(Base):
    """Append-only chain of alias moves. The first has `previous_event` 0, because NULLs escape uniqueness."""

    __tablename__ = "alias_event"
    __table_args__ = (UniqueConstraint("alias", "previous_event"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    alias: Mapped[str]
    release: Mapped[int] = mapped_column(ForeignKey("release.number"))
    actor: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]
    previous_event: Mapped[int] = mapped_column(BigInteger)


class LeaseRow(Base):
    """One row per lease name, kept when free: its `token` only ever grows."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    process: Mapped[str | None]
    """Which process holds it, so that one on the same machine can see that it died (`leases.Process`)."""
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    token: Mapped[int] = mapped_column(BigInteger)
