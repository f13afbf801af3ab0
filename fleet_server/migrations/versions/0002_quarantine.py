"""Who holds a device's key, and devices set apart for it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("devices", sa.Column("instance", sa.String(), nullable=True))
    op.add_column("devices", sa.Column("quarantined_at", INSTANT, nullable=True))
    op.add_column("devices", sa.Column("quarantine_reason", sa.String(), nullable=True))
    op.create_table(
        "device_instances",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("left_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.PrimaryKeyConstraint("device", "instance"),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("issued_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.PrimaryKeyConstraint("serial"),
    )
    op.create_index(op.f("ix_certificates_device"), "certificates", ["device"], unique=False)


def downgrade() -> None:
    op.drop_table("certificates")
    op.drop_table("device_instances")
    for column in ("quarantine_reason", "quarantined_at", "instance"):
        op.drop_column("devices", column)
