"""What a consumer says beyond its release, and the reads that were counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consumer", sa.Column("details", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
    op.create_table(
        "usage",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("reads", sa.BigInteger(), nullable=False),
        sa.Column("vectors", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "node", "release", "day", name="pk_usage"),
        sa.ForeignKeyConstraint(["release"], ["release.number"], name="fk_usage_release_release"),
    )
    op.create_index("ix_usage_release", "usage", ["release"])


def downgrade() -> None:
    op.drop_index("ix_usage_release", "usage")
    op.drop_table("usage")
    op.drop_column("consumer", "details")
