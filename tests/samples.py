"""An app with a table of its own, made of every type of column: what `core` gives any resource.

Run it as `uvicorn tests.samples:app`.
"""

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import MetaData, String
from sqlalchemy.orm import registry
from sqlmodel import Field

from backend.core.fields import Day, PathId, RowId, Time
from backend.core.lists import Page, list_response
from backend.core.problems import add_error_handlers
from backend.core.rows import (
    IdempotencyKey,
    add_once,
    created_response,
    find,
    find_to_change,
    row_response,
    rows_response,
)
from backend.core.tables import BigId, TableModel, folded, now
from backend.database import database, reading, writing


class Colour(enum.Enum):
    """A choice whose names, values and order differ."""

    RED = "rouge"
    GREEN = "vert"
    BLUE = "bleu"


class Own(TableModel, registry=registry()):
    """The tables of this app, and no others."""

    metadata = MetaData()


class Sample(Own, table=True):
    """A row with a column of each type, which may be empty."""

    __tablename__ = "samples"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    text: str | None = Field(default=None, sa_type=String(200))
    text_folded: str | None = folded("text", 200)
    flag: bool | None = None
    day: date | None = None
    moment: datetime | None = None
    weight: float | None = None
    count: int | None = Field(default=None, sa_type=BigId)
    colour: Colour | None = None
    mood: str | None = Field(default=None, sa_type=String(5))
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    idempotency_key: str | None = Field(default=None, sa_type=String(255), unique=True)
    idempotency_digest: str | None = Field(default=None, sa_type=String(64))


class SampleInput(BaseModel):
    """What a client may say of it."""

    text: str | None = None
    flag: bool | None = None
    day: Day | None = None
    moment: Time | None = None
    weight: float | None = None
    count: int | None = None
    colour: Colour | None = None
    mood: Literal["happy", "sad"] | None = None


class SamplePublic(BaseModel):
    """The whole row."""

    id: RowId
    text: str | None
    flag: bool | None
    day: date | None
    moment: Time | None
    weight: float | None
    count: int | None
    colour: Colour | None
    mood: Literal["happy", "sad"] | None
    created_at: Time
    updated_at: Time


class PlainPublic(BaseModel):
    """Only what the databases write as the API does."""

    id: RowId
    text: str | None
    flag: bool | None
    day: date | None
    moment: Time | None
    count: int | None
    mood: Literal["happy", "sad"] | None
    created_at: Time


class SampleQuery(Page):
    """Any order."""

    sort: str = "created_at"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Makes the table."""
    Own.metadata.create_all(database.engine)
    yield


app = FastAPI(lifespan=lifespan)
add_error_handlers(app)


@app.get("/samples")
def list_samples(request: Request, query: Annotated[SampleQuery, Query()]) -> Response:
    """Lists whole rows."""
    with reading() as session:
        return list_response(session, request, Sample, SamplePublic, query)


@app.get("/plain")
def list_plain(request: Request, query: Annotated[SampleQuery, Query()]) -> Response:
    """Lists what the databases write."""
    with reading() as session:
        return list_response(session, request, Sample, PlainPublic, query)


@app.get("/plain/{sample_id}")
def read_plain(sample_id: PathId) -> Response:
    """Reads what the databases write."""
    with reading() as session:
        return row_response(find(session, Sample, sample_id), PlainPublic)


@app.get("/samples/{sample_id}")
def read_sample(sample_id: PathId) -> Response:
    """Reads a whole row."""
    with reading() as session:
        return row_response(find(session, Sample, sample_id), SamplePublic)


@app.post("/samples")
def create_sample(
    request: Request, new: SampleInput, idempotency_key: IdempotencyKey = None
) -> Response:
    """Creates a row."""
    with writing() as session:
        row = add_once(session, Sample.model_validate(new), new, idempotency_key)
    return created_response(request, row, SamplePublic)


@app.post("/samples/bulk")
def create_samples(new: list[SampleInput]) -> Response:
    """Creates rows."""
    made = [Sample.model_validate(each) for each in new]
    with writing() as session:
        session.add_all(made)
    return rows_response(made, SamplePublic, 201)


@app.patch("/samples/{sample_id}")
def update_sample(sample_id: PathId, changes: SampleInput) -> Response:
    """Changes a row."""
    with writing() as session:
        row = find_to_change(session, Sample, sample_id, SamplePublic, None)
        row.sqlmodel_update(changes.model_dump(exclude_unset=True))
    return row_response(row, SamplePublic)
