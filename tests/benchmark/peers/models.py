"""What the peers share: the table and the shapes, as SQLModel's tutorial writes them."""

from datetime import UTC, datetime

from pydantic import AwareDatetime
from sqlmodel import Field, SQLModel


def now() -> datetime:
    """Returns the time, in UTC."""
    return datetime.now(UTC)


class TodoBase(SQLModel):
    """What every shape of a todo has."""

    title: str = Field(min_length=1, max_length=200)
    status: str = Field(default="active", max_length=9)


class Todo(TodoBase, table=True):
    """The table."""

    __tablename__ = "peer_todos"

    id: int | None = Field(default=None, primary_key=True)
    created_at: AwareDatetime = Field(default_factory=now, index=True)
    updated_at: AwareDatetime = Field(default_factory=now)


class TodoCreate(TodoBase):
    """A todo to make."""


class TodoUpdate(SQLModel):
    """What to change."""

    title: str | None = Field(default=None, min_length=1, max_length=200)
    status: str | None = Field(default=None, max_length=9)


class TodoPublic(TodoBase):
    """A todo as the API shows it."""

    id: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
