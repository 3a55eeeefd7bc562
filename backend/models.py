"""The tables. One todo is one row; the database itself keeps the rules."""

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, Table, text
from sqlmodel import Field, SQLModel
from typing_extensions import TypeAliasType  # before Python 3.12

TITLE_LENGTH = 200
MAX_ID = 2**63 - 1

# Most todos have none, and need no entry in its index.
HAS_KEY = text("idempotency_key IS NOT NULL")

# A letter can fold to three characters, as "ΐ" does.
FOLDED_TITLE_LENGTH = 3 * TITLE_LENGTH

Status = TypeAliasType("Status", Literal["active", "completed"])

# SQLite numbers rows only in a column of its type INTEGER, which is 64 bits wide.
BigId = BigInteger().with_variant(Integer, "sqlite")
# Both databases then compare by code point; SQLite does so by itself.
CodePoints = String(FOLDED_TITLE_LENGTH).with_variant(
    String(FOLDED_TITLE_LENGTH, collation="C"), "postgresql"
)


def now() -> datetime:
    """Returns the time, in UTC."""
    return datetime.now(UTC)


def fold(title: str) -> str:
    """Returns a title as search and sorting see it: without upper and lower case."""
    return title.casefold()


class Todo(SQLModel, table=True):
    """One todo.

    The indexes are the orders of the list, each ending in `id` so that it is total.
    AUTOINCREMENT keeps SQLite from giving a deleted todo's id to the next one.
    """

    __tablename__ = "todos"
    __table_args__ = (
        CheckConstraint(f"length(title) BETWEEN 1 AND {TITLE_LENGTH}", name="todos_title_length"),
        CheckConstraint("status IN ('active', 'completed')", name="todos_status"),
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
    title_folded: str = Field(sa_type=CodePoints)
    status: str = Field(sa_type=String(9))
    created_at: datetime
    updated_at: datetime
    idempotency_key: str | None = Field(default=None, sa_type=String(255))
    idempotency_digest: str | None = Field(default=None, sa_type=String(64))


# With it, searching costs the same in a million todos. The extension comes with most
# PostgreSQL servers; without it, searching reads the whole table.
POSTGRES_SEARCH_INDEX = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS todos_by_title_part ON todos USING gin (title_folded gin_trgm_ops)",
)

# SQLModel makes it, but does not say so to the type checker.
todos: Table = Todo.__table__  # type: ignore[attr-defined]
