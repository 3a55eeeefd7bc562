"""The tables. One todo, one user is one row; the database itself keeps the rules."""

from datetime import datetime
from typing import Literal

from sqlalchemy import CheckConstraint, Index, String, text
from sqlmodel import Field
from typing_extensions import TypeAliasType  # before Python 3.12

from backend.core.tables import BigId, TableModel, fold_name, folded, now
from backend.core.tries import Tries  # noqa: F401 - a table too

TITLE_LENGTH = 200
EMAIL_LENGTH = 254
USERNAME_LENGTH = 50

Status = TypeAliasType("Status", Literal["active", "completed"])

# Most rows have no key, and need no entry in its index. NULL equals nothing, not even NULL, so
# the shared todos have an index of their own.
SHARED_KEY = text("idempotency_key IS NOT NULL AND owner_id IS NULL")
OWN_KEY = text("idempotency_key IS NOT NULL AND owner_id IS NOT NULL")


class User(TableModel, table=True):
    """One user. Of an email and a username, in any case and form, there is one.

    `token_version` moves when all tokens of the user are to stop working.
    """

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(
            f"length(username) BETWEEN 3 AND {USERNAME_LENGTH}", name="username_length"
        ),
        Index("users_by_email", "email_folded", unique=True),
        Index("users_by_username", "username_folded", unique=True),
        Index("users_by_created_at", "created_at", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    email: str = Field(sa_type=String(EMAIL_LENGTH))
    email_folded: str = folded("email", EMAIL_LENGTH, fold_name)
    username: str = Field(sa_type=String(USERNAME_LENGTH))
    username_folded: str = folded("username", USERNAME_LENGTH, fold_name)
    password_hash: str = Field(sa_type=String(255), repr=False)
    token_version: int = 1
    is_active: bool = True
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class Todo(TableModel, table=True):
    """One todo, of a user or, without an owner, of everybody.

    The indexes are the orders of the list, each beginning with whose it is, and ending in
    `id` so that it is total. AUTOINCREMENT keeps SQLite from giving a deleted todo's id to
    the next one.
    """

    __tablename__ = "todos"
    __table_args__ = (
        CheckConstraint(f"length(title) BETWEEN 1 AND {TITLE_LENGTH}", name="title_length"),
        CheckConstraint("status IN ('active', 'completed')", name="status"),
        Index("todos_of_owner_by_created_at", "owner_id", "created_at", "id"),
        Index("todos_of_owner_by_updated_at", "owner_id", "updated_at", "id"),
        Index("todos_of_owner_by_title", "owner_id", "title_folded", "id"),
        Index("todos_of_owner_by_status", "owner_id", "status", "id"),
        Index("todos_of_owner_by_status_and_created_at", "owner_id", "status", "created_at", "id"),
        Index(
            "todos_of_nobody_by_idempotency_key",
            "idempotency_key",
            unique=True,
            postgresql_where=SHARED_KEY,
            sqlite_where=SHARED_KEY,
        ),
        Index(
            "todos_of_owner_by_idempotency_key",
            "owner_id",
            "idempotency_key",
            unique=True,
            postgresql_where=OWN_KEY,
            sqlite_where=OWN_KEY,
        ),
        {"sqlite_autoincrement": True, "info": {"live": True}},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    owner_id: int | None = Field(
        default=None, sa_type=BigId, foreign_key="users.id", ondelete="CASCADE"
    )
    title: str = Field(sa_type=String(TITLE_LENGTH))
    title_folded: str = folded("title", TITLE_LENGTH)
    status: str = Field(sa_type=String(9))
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    idempotency_key: str | None = Field(default=None, sa_type=String(255))
    idempotency_digest: str | None = Field(default=None, sa_type=String(64))
