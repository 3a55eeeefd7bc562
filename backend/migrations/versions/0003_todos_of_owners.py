"""The orders of one owner's todos, in the place of those of all todos."""

import sqlalchemy as sa
from alembic import op

revision = "0003_todos_of_owners"
down_revision = "0002_users"

ORDERS = {
    "created_at": ["created_at", "id"],
    "updated_at": ["updated_at", "id"],
    "title": ["title_folded", "id"],
    "status": ["status", "id"],
    "status_and_created_at": ["status", "created_at", "id"],
}
SHARED_KEY = sa.text("idempotency_key IS NOT NULL AND owner_id IS NULL")
OWN_KEY = sa.text("idempotency_key IS NOT NULL AND owner_id IS NOT NULL")


def upgrade() -> None:
    """Applies this revision; each of the old ones is used until all new ones are there."""
    with op.get_context().autocommit_block():
        for name, columns in ORDERS.items():
            op.create_index(
                f"todos_of_owner_by_{name}",
                "todos",
                ["owner_id", *columns],
                postgresql_concurrently=True,
                if_not_exists=True,
            )
        op.create_index(
            "todos_of_nobody_by_idempotency_key",
            "todos",
            ["idempotency_key"],
            unique=True,
            postgresql_where=SHARED_KEY,
            sqlite_where=SHARED_KEY,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "todos_of_owner_by_idempotency_key",
            "todos",
            ["owner_id", "idempotency_key"],
            unique=True,
            postgresql_where=OWN_KEY,
            sqlite_where=OWN_KEY,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        for name in (*ORDERS, "idempotency_key"):
            op.drop_index(
                f"todos_by_{name}",
                table_name="todos",
                postgresql_concurrently=True,
                if_exists=True,
            )
