"""Rollouts that are shadows, and the devices that run one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("shadow", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("devices", sa.Column("shadow", sa.String(), nullable=True))
    op.add_column("devices", sa.Column("shadow_rollout", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("devices", "shadow_rollout")
    op.drop_column("devices", "shadow")
    op.drop_column("rollouts", "shadow")
