"""The usage ledger: who read which release on which day, kept where the vectors may come and go.

The online store adds reads up as they happen. From time to time its sums are copied here, so that the history outlives
the store, and a copy that is made twice, or by two at once, counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Protocol

from sqlalchemy import select

from star_platform.registry.database import Database
from star_platform.registry.models import ReleaseRow, UsageRow
from star_platform.registry.values import Usage


class Counted(Protocol):
    """The reads of one node type of one release by one consumer (None: unknown) on one day: sums, not increments."""

    @property
    def consumer(self) -> str | None: ...
    @property
    def node(self) -> str: ...
    @property
    def release(self) -> int: ...
    @property
    def day(self) -> date: ...
    @property
    def reads(self) -> int: ...
    @property
    def vectors(self) -> int: ...


class UsageLedger:
    """The ledger of one registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, counts: Iterable[Counted]) -> int:
        """Copy sums of whole days, as they are so far; returns how many were new or had grown.

        A sum only grows: a smaller one means that the store lost its counts, and what was known stays. Counts of
        releases that this registry does not know belong to another project in the same store, and are left out.
        """
        changed = 0
        with self._database.write() as session:
            known = set(session.scalars(select(ReleaseRow.number)))
            for item in counts:
                if item.release not in known:
                    continue
                key = (item.consumer or "", item.node, item.release, item.day)
                row = session.get(UsageRow, key)
                if row is None:
                    row = UsageRow(consumer=key[0], node=key[1], release=key[2], day=key[3], reads=0, vectors=0)
                    session.add(row)
                if item.reads > row.reads or item.vectors > row.vectors:
                    row.reads, row.vectors = max(row.reads, item.reads), max(row.vectors, item.vectors)
                    changed += 1
        return changed

    def read(self, release: int | None = None) -> tuple[Usage, ...]:
        """All that is known, or what is known of one release; by release, consumer, node type and day."""
        query = select(UsageRow).order_by(UsageRow.release, UsageRow.consumer, UsageRow.node, UsageRow.day)
        if release is not None:
            query = query.where(UsageRow.release == release)
        with self._database.read() as session:
            return tuple(
                Usage(row.consumer or None, row.node, row.release, row.day, row.reads, row.vectors)
                for row in session.scalars(query)
            )
