"""Which key signed an order, so that all are signed anew when the orders key is replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("signed_by", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "signed_by")
