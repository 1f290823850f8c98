"""Runs migrations on the connection that `star_platform.registry.database` brings; there is no other way in."""

from __future__ import annotations

from alembic import context

from star_platform.registry.models import Base

connection = context.config.attributes["connection"]
# `batch` lets later migrations alter tables on SQLite, which can only copy them.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
