"""What an answer says beyond its label and value, and whether the model was sure of it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("results", sa.Column("abstained", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("results", sa.Column("detail", sa.JSON(), nullable=True))


def downgrade() -> None:
    for column in ("detail", "abstained"):
        op.drop_column("results", column)
