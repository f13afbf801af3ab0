"""The ledger is judged: what a report said beyond its sums, alerts, clocks, and who is kept out for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("streams", sa.Column("oldest", sa.BigInteger(), nullable=True))
    for name in ("seen_high", "beyond", "settled"):
        op.add_column("streams", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("streams", sa.Column("due", sa.Boolean(), nullable=False, server_default=sa.false()))
    due = sa.text("due")
    op.create_index("ix_streams_due", "streams", ["id"], unique=False, sqlite_where=due, postgresql_where=due)
    op.add_column("devices", sa.Column("said_at", INSTANT, nullable=True))
    op.add_column("devices", sa.Column("clock_offset_s", sa.Float(), nullable=True))
    op.add_column("devices", sa.Column("throttled_until", INSTANT, nullable=True))
    for name in ("throttles", "heartbeat_s"):
        op.add_column("devices", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    _alerts()
    _deletions()


def downgrade() -> None:
    for table in ("revoked_certificates", "deletions", "alerts"):
        op.drop_table(table)
    for name in ("said_at", "clock_offset_s", "throttled_until", "throttles", "heartbeat_s"):
        op.drop_column("devices", name)
    op.drop_index("ix_streams_due", "streams")
    for name in ("oldest", "seen_high", "beyond", "settled", "due"):
        op.drop_column("streams", name)


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", BIG_ID, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "device", "epoch", "lane")),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("closed_at", INSTANT, nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    open_ones = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_alerts_open", "alerts", ["kind", "device", "epoch", "lane"], unique=True, sqlite_where=open_ones, postgresql_where=open_ones
    )
    op.create_index(op.f("ix_alerts_device"), "alerts", ["device"], unique=False)


def _deletions() -> None:
    op.create_table(
        "deletions",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        *(sa.Column(name, INSTANT, nullable=True) for name in ("cleared_at", "done_at")),
        sa.PrimaryKeyConstraint("device"),
    )
    op.create_table(
        "revoked_certificates",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("serial", "device")),
        sa.Column("revoked_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("serial"),
    )
