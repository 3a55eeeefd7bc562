"""The tables. One todo is one row; the database itself keeps the rules."""

from datetime import datetime
from typing import Literal

from sqlalchemy import CheckConstraint, Index, String, text
from sqlmodel import Field
from typing_extensions import TypeAliasType  # before Python 3.12

from backend.core.tables import BigId, TableModel, folded, now

TITLE_LENGTH = 200

Status = TypeAliasType("Status", Literal["active", "completed"])

# Most rows have none, and need no entry in its index.
HAS_KEY = text("idempotency_key IS NOT NULL")


class Todo(TableModel, table=True):
    """One todo.

    The indexes are the orders of the list, each ending in `id` so that it is total.
    AUTOINCREMENT keeps SQLite from giving a deleted todo's id to the next one.
    """

    __tablename__ = "todos"
    __table_args__ = (
        CheckConstraint(f"length(title) BETWEEN 1 AND {TITLE_LENGTH}", name="title_length"),
        CheckConstraint("status IN ('active', 'completed')", name="status"),
        Index("todos_by_created_at", "created_at", "id"),
        Index("todos_by_updated_at", "updated_at", "id"),
        Index("todos_by_title", "title_folded", "id"),
        Index("todos_by_status", "status", "id"),
        Index("todos_by_status_and_created_at", "status", "created_at", "id"),
        Index(
            "todos_by_idempotency_key",
            "idempotency_key",
            unique=True,
            postgresql_where=HAS_KEY,
            sqlite_where=HAS_KEY,
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    title: str = Field(sa_type=String(TITLE_LENGTH))
    title_folded: str = folded("title", TITLE_LENGTH)
    status: str = Field(sa_type=String(9))
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    idempotency_key: str | None = Field(default=None, sa_type=String(255))
    idempotency_digest: str | None = Field(default=None, sa_type=String(64))
