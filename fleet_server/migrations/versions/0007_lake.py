"""Inferences live in the lake: its catalogue, the minutes, what of each stream is stored, and the inbox before it."""

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
LATENCIES = [f"latency_{at}" for at in range(8)]
RECORDS = ("events", "windows", "samples", "results", "malformed_records")


def upgrade() -> None:
    _lake()
    _minutes()
    _traces()
    _figures()
    _inbox()
    op.add_column("malformed_records", sa.Column("count", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("streams", sa.Column("coverage", sa.LargeBinary(), nullable=False, server_default=""))
    _cover()
    op.drop_table("results")


def downgrade() -> None:
    """Inferences stay in the lake."""
    op.create_table(
        "results",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("stream", BIG_ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("bundle", "input_id")),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=False),
        sa.Column("abstained", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["stream"], ["streams.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stream", "seq"),
    )
    op.drop_column("streams", "coverage")
    op.drop_column("malformed_records", "count")
    for table in ("figures", "traces", "minutes", "series", "lake_state", "lake_files"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.drop_table("inbox")


def _lake() -> None:
    op.create_table(
        "lake_files",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("first", "last", "rows", "bytes", "at_min_us", "at_max_us")),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("gone_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("path"),
    )
    op.create_index(op.f("ix_lake_files_day"), "lake_files", ["day"], unique=False)
    op.create_table(
        "lake_state",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("caught_up_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO lake_state (id, watermark) VALUES (1, 0)")


def _minutes() -> None:
    op.create_table(
        "series",
        sa.Column("id", BIG_ID, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("device", "task", "bundle")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "bundle"),
    )
    op.create_table(
        "minutes",
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("series", BIG_ID, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("inputs", "abstained")),
        *(sa.Column(name, sa.Float(), nullable=False) for name in ("value_sum", "value_min", "value_max", "latency_us_sum")),
        sa.Column("latency_us_max", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in LATENCIES),
        sa.ForeignKeyConstraint(["series"], ["series.id"]),
        sa.PrimaryKeyConstraint("minute", "series"),
        sqlite_with_rowid=False,
    )


def _traces() -> None:
    op.create_table(
        "traces",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=True),
        sa.Column("asked_at", INSTANT, nullable=True),
        *(sa.Column(name, sa.String(), nullable=True) for name in ("epoch", "lane")),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("sequence", "latency_us")),
        *(
            sa.Column(f"{name}_at", INSTANT, nullable=True)
            for name in ("recorded", "committed", "sent", "received", "compacted", "exported")
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_traces_device"), "traces", ["device"], unique=False)


def _figures() -> None:
    op.create_table(
        "figures",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _inbox() -> None:
    """SQLite keeps the inbox in a file of its own. What devices send is compressed already; and vacuumed as fast as it is emptied, or it grows."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("ALTER TABLE inbox ALTER COLUMN content SET STORAGE EXTERNAL")
    op.execute(
        "ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,"
        " toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000, toast.autovacuum_vacuum_cost_delay = 0)"
    )


def _cover() -> None:
    """Write down which numbers of each stream are stored, as pairs of the first and the last of a run."""
    everything = " UNION ALL ".join(f"SELECT stream, seq FROM {table}" for table in RECORDS)
    runs = sa.text(
        "SELECT stream, MIN(seq) AS first, MAX(seq) AS last FROM"
        f" (SELECT stream, seq, seq - ROW_NUMBER() OVER (PARTITION BY stream ORDER BY seq) AS run FROM ({everything}) AS numbers) AS numbered"
        " GROUP BY stream, run ORDER BY stream, 2"
    )
    connection = op.get_bind()
    found: dict[int, list[tuple[int, int]]] = {}
    for stream, first, last in connection.execute(runs):
        found.setdefault(stream, []).append((first, last))
    for stream, covered in found.items():
        connection.execute(
            sa.text("UPDATE streams SET coverage = :coverage WHERE id = :id"), {"coverage": msgspec.msgpack.encode(covered), "id": stream}
        )
