"""What goes over the wire: the shapes of requests and answers, and their rules."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from backend.core.fields import RowId, Text, Time, hide_default
from backend.core.lists import Page
from backend.models import TITLE_LENGTH, Status

Title = Annotated[str, Text(TITLE_LENGTH), Field(examples=["Buy milk"])]
SearchText = Annotated[str, Text(TITLE_LENGTH, trimmed=False)]


class TodoCreate(BaseModel):
    """A todo to make."""

    title: Title
    status: Status = Field(
        default="active",
        description="`active` unless given",
        json_schema_extra=hide_default,
    )


class TodoUpdate(TypedDict, total=False):
    """What to change; a field left out stays as it is."""

    title: Title
    status: Status


class TodoPublic(BaseModel):
    """A todo as the API shows it."""

    id: RowId
    title: str = Field(min_length=1, max_length=TITLE_LENGTH, examples=["Buy milk"])
    status: Status
    created_at: Time
    updated_at: Time


class StatusUpdate(BaseModel):
    """The status that all matching todos get."""

    status: Status


class TodoStats(BaseModel):
    """How many todos there are."""

    total: int = Field(ge=0, examples=[3])
    active: int = Field(ge=0, examples=[2])
    completed: int = Field(ge=0, examples=[1])


class TodoFilter(BaseModel):
    """Which todos are meant."""

    status: Status | None = Field(default=None, description="Only todos with this status")
    q: SearchText | None = Field(
        default=None, description="Only todos whose title contains this text, in any case"
    )


class ClearFilter(TodoFilter):
    """Which todos to delete: the status must be said."""

    status: Status = Field(description="Only todos with this status")


Sort = Literal[
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "title",
    "-title",
    "status",
    "-status",
]


class TodoQuery(TodoFilter, Page):
    """Which todos to list, in which order, and which part of them."""

    sort: Sort = Field(default="created_at", description="The order; a leading `-` turns it round")


class Message(BaseModel):
    """The greeting of the API's root."""

    message: str = Field(examples=["Todo API"])
    docs: str = Field(examples=["/docs"])
    openapi: str = Field(examples=["/openapi.json"])
    todos: str = Field(examples=["/api/todos"])


class Health(BaseModel):
    """That the process lives."""

    status: Literal["healthy"]


class Readiness(BaseModel):
    """That the process can serve: its database answers."""

    status: Literal["ready"]
