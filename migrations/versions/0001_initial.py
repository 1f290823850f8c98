"""Branches, releases, stages, artefacts, consumers, events, aliases and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
RELEASE = "release.number"
APPEND_ONLY = {"event": ("UPDATE", "DELETE"), "alias_event": ("UPDATE", "DELETE"), "release": ("DELETE",)}
"""What nobody may do: rewrite history, or free the number of a release."""


def upgrade() -> None:
    _branches_and_releases()
    _stages_and_artefacts()
    _history()
    for table, actions in APPEND_ONLY.items():
        _forbid(table, actions)


def downgrade() -> None:
    for table in (
        "lease",
        "alias_event",
        "event",
        "consumer",
        "release_artefact",
        "artefact",
        "stage_record",
        "release_branch",
        "release",
        "branch_revision",
    ):
        op.drop_table(table)  # takes its triggers along
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION star_append_only()")


def _branches_and_releases() -> None:
    op.create_table(
        "branch_revision",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_branch_revision"),
        sa.UniqueConstraint("branch", "content_hash", name="uq_branch_revision_branch_content_hash"),
    )
    op.create_table(
        "release",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("base", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_release"),
        sa.ForeignKeyConstraint(["base"], [RELEASE], name="fk_release_base_release"),
        sa.CheckConstraint("number > 0", name=op.f("ck_release_number")),
    )
    op.create_table(
        "release_branch",
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("revision", BIG_ID, nullable=False),
        sa.PrimaryKeyConstraint("release", "revision", name="pk_release_branch"),
        sa.ForeignKeyConstraint(["release"], [RELEASE], name="fk_release_branch_release_release"),
        sa.ForeignKeyConstraint(
            ["revision"], ["branch_revision.id"], name="fk_release_branch_revision_branch_revision"
        ),
    )


def _stages_and_artefacts() -> None:
    op.create_table(
        "stage_record",
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("release", "stage", name="pk_stage_record"),
        sa.ForeignKeyConstraint(["release"], [RELEASE], name="fk_stage_record_release_release"),
    )
    op.create_table(
        "artefact",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artefact"),
        sa.UniqueConstraint("kind", "fingerprint", "content_hash", name="uq_artefact_kind_fingerprint_content_hash"),
    )
    op.create_table(
        "release_artefact",
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("artefact", BIG_ID, nullable=False),
        sa.PrimaryKeyConstraint("release", "stage", name="pk_release_artefact"),
        sa.ForeignKeyConstraint(["release"], [RELEASE], name="fk_release_artefact_release_release"),
        sa.ForeignKeyConstraint(["artefact"], ["artefact.id"], name="fk_release_artefact_artefact_artefact"),
    )


def _history() -> None:
    op.create_table(
        "consumer",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_consumer"),
    )
    op.create_table(
        "event",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.ForeignKeyConstraint(["release"], [RELEASE], name="fk_event_release_release"),
    )
    op.create_index("ix_event_release", "event", ["release"])
    op.create_table(
        "alias_event",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("previous_event", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alias_event"),
        sa.UniqueConstraint("alias", "previous_event", name="uq_alias_event_alias_previous_event"),
        sa.ForeignKeyConstraint(["release"], [RELEASE], name="fk_alias_event_release_release"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("acquired_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )


def _forbid(table: str, actions: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION star_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
        events = " OR ".join(actions)
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE {events} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION star_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION star_append_only()"
        )
        return
    for action in actions:
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
