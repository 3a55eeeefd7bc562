"""Todos.

A database of the time before there were revisions has all of this, and is taken over.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001_todos"
down_revision = None

HAS_KEY = sa.text("idempotency_key IS NOT NULL")


def upgrade() -> None:
    """Applies this revision."""
    op.create_table(
        "todos",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column(
            "title_folded",
            sa.String(length=600).with_variant(sa.String(600, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("status", sa.String(length=9), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("idempotency_digest", sa.String(length=64), nullable=True),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name="todos_title_length"),
        sa.CheckConstraint("status IN ('active', 'completed')", name="todos_status"),
        sa.PrimaryKeyConstraint("id", name="todos_pkey"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    orders = {
        "todos_by_created_at": ["created_at", "id"],
        "todos_by_updated_at": ["updated_at", "id"],
        "todos_by_title": ["title_folded", "id"],
        "todos_by_status": ["status", "id"],
        "todos_by_status_and_created_at": ["status", "created_at", "id"],
    }
    for name, columns in orders.items():
        op.create_index(name, "todos", columns, if_not_exists=True)
    op.create_index(
        "todos_by_idempotency_key",
        "todos",
        ["idempotency_key"],
        unique=True,
        postgresql_where=HAS_KEY,
        sqlite_where=HAS_KEY,
        if_not_exists=True,
    )
