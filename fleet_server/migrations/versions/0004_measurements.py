"""What each variant of a bundle showed on each backend of a device."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("device", sa.String(), sa.ForeignKey("devices.id"), primary_key=True),
        sa.Column("bundle", sa.String(), primary_key=True),
        sa.Column("variant", sa.String(), primary_key=True),
        sa.Column("backend", sa.String(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("p50_us", sa.Float(), nullable=False),
        sa.Column("p99_us", sa.Float(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("load_ms", sa.Float(), nullable=False),
        sa.Column("max_difference", sa.Float(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_measurements_bundle", "measurements", ["bundle"])


def downgrade() -> None:
    op.drop_table("measurements")
