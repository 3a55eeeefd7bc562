"""What goes over the wire: the shapes of requests and answers, and their rules."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from backend.models import MAX_ID, TITLE_LENGTH, Status

MAX_PAGE = 1000
MAX_BULK = 1000

# What `str.strip` takes away; `\s` is another set in the regular expressions of JSON Schema.
SPACES = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)


def strip(value: Any) -> Any:
    """Returns a text without the white space around it, anything else as it is."""
    return value.strip() if isinstance(value, str) else value


def refuse_nul(text: str) -> str:
    """Returns the text; raises when a NUL is in it, which PostgreSQL cannot store."""
    if "\0" in text:
        raise PydanticCustomError("nul_character", "Text should not contain a NUL character")
    return text


def refuse_decoration(value: Any) -> Any:
    """Returns a value from the URL; raises for `5.0` or `+5`, which pydantic takes as int."""
    if isinstance(value, str) and not INTEGER.fullmatch(value):
        raise PydanticCustomError("int_parsing", "Input should be a plain decimal integer")
    return value


def refuse_synonyms(value: Any) -> Any:
    """Returns a value from the URL; raises for `yes`, `on` or `1`, which pydantic takes as true."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return value


def hide_default(schema: dict[str, Any]) -> None:
    """Takes the default out of a schema: openapi-typescript would make the field required."""
    del schema["default"]


Title = Annotated[
    str,
    Field(min_length=1, max_length=TITLE_LENGTH),
    BeforeValidator(strip),
    AfterValidator(refuse_nul),
    # The lengths count after trimming, which only a pattern can say.
    WithJsonSchema(
        {
            "type": "string",
            "title": "Title",
            "description": f"1 to {TITLE_LENGTH} characters after trimming white space; no NUL",
            "pattern": (
                rf"^[{SPACES}]*[^{SPACES}\x00]"
                rf"([^\x00]{{0,{TITLE_LENGTH - 2}}}[^{SPACES}\x00])?[{SPACES}]*$"
            ),
            "examples": ["Buy milk"],
        }
    ),
]
SearchText = Annotated[
    str,
    Field(min_length=1, max_length=TITLE_LENGTH, json_schema_extra={"pattern": r"^[^\x00]+$"}),
    AfterValidator(refuse_nul),
]
UrlInteger = Annotated[int, BeforeValidator(refuse_decoration)]
UrlBoolean = Annotated[bool, BeforeValidator(refuse_synonyms)]
TodoId = Annotated[
    int,
    Field(ge=1, le=MAX_ID),
    BeforeValidator(refuse_decoration),
    Path(description="The number of the todo", examples=[1]),
]


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


class StatusUpdate(BaseModel):
    """The status that all matching todos get."""

    status: Status


class TodoPublic(BaseModel):
    """A todo as the API shows it."""

    # FastAPI writes this bound as a float: 2**63 is one, 2**63 - 1 is not.
    id: int = Field(ge=1, lt=MAX_ID + 1, examples=[1])
    title: str = Field(min_length=1, max_length=TITLE_LENGTH, examples=["Buy milk"])
    status: Status
    created_at: datetime = Field(examples=["2026-11-21T09:30:00.000000Z"])
    updated_at: datetime = Field(examples=["2026-11-21T09:30:00.000000Z"])


class TodoStats(BaseModel):
    """How many todos there are."""

    total: int = Field(ge=0, examples=[3])
    active: int = Field(ge=0, examples=[2])
    completed: int = Field(ge=0, examples=[1])


class Affected(BaseModel):
    """How many todos a request for many of them has changed or deleted."""

    affected: int = Field(ge=0, examples=[2])


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
    "created_at", "-created_at", "updated_at", "-updated_at", "title", "-title", "status", "-status"
]


class TodoQuery(TodoFilter):
    """Which todos to list, in which order, and which part of them."""

    sort: Sort = Field(default="created_at", description="The order; a leading `-` turns it round")
    skip: UrlInteger = Field(
        default=0, ge=0, le=MAX_ID, description="How many todos to leave out at the start"
    )
    limit: UrlInteger = Field(
        default=100, ge=1, le=MAX_PAGE, description="How many todos to answer with at most"
    )
    total: UrlBoolean = Field(
        default=False, description="Whether to count all matching todos into `X-Total-Count`"
    )
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=8000,
        description="Where to go on: part of the `Link` to the next page, never made by hand",
    )


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


class Problem(BaseModel):
    """What went wrong, as RFC 9457 writes it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["Todo not found"])


class InvalidValue(BaseModel):
    """One thing that is invalid in a request."""

    loc: list[str | int] = Field(examples=[["body", "title"]])
    msg: str = Field(examples=["Field required"])
    type: str = Field(examples=["missing"])


class ValidationProblem(Problem):
    """A problem with the request itself, value by value."""

    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["body.title: Field required"])
    errors: list[InvalidValue]
