"""The list of a resource: which rows, in which order, page by page.

A page goes on from the last row of the one before, by its place in the order and not by
its number, so a page costs the same at any depth, and creating or deleting rows meanwhile
neither repeats nor skips one.

The database makes the JSON of a page, at a quarter of the cost of rows that are turned
into objects and back. Where it would not write a column as the rest of the API does,
the rows are read instead.
"""

import json
import operator
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Date,
    Enum,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import AutoString, Session, SQLModel, UTCDateTime

from backend.core.fields import UrlBoolean, UrlInteger
from backend.core.problems import invalid
from backend.core.rows import path_of, to_json
from backend.core.tables import (
    MAX_ID,
    OWNER,
    BigId,
    Owner,
    folded_columns,
    id_of,
    owned_by,
    table_of,
)

MAX_PAGE = 1000


class Page(BaseModel):
    """Which part of a list; the query of a list adds its filters and its `sort`."""

    sort: str
    skip: UrlInteger = Field(
        default=0, ge=0, le=MAX_ID, description="How many to leave out at the start"
    )
    limit: UrlInteger = Field(
        default=100, ge=1, le=MAX_PAGE, description="How many to answer with at most"
    )
    total: UrlBoolean = Field(
        default=False, description="Whether to count all that match into `X-Total-Count`"
    )
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=8000,
        description="Where to go on: part of the `Link` to the next page, never made by hand",
    )


class Place(NamedTuple):
    """Where a row stands in an order: what it is sorted by, which it may not have, and its id."""

    value: Any
    id: int


def contains(model: type[SQLModel], name: str, text: str) -> ColumnElement[bool]:
    """Returns the condition that a text column, which is kept folded, contains a text."""
    column = key_column(model, name)
    pattern = column.info["by"](text)
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return column.like(f"%{pattern}%", escape="\\")


def key_column(model: type[SQLModel], name: str) -> Column[Any]:
    """Returns the column that a field is sorted and searched by: its folded one, if it has one."""
    table = table_of(model)
    column: Column[Any] = table.c[folded_columns(table).get(name, name)]
    return column


def list_response(
    session: Session,
    request: Request,
    model: type[SQLModel],
    public: type[BaseModel],
    query: Page,
    where: Sequence[ColumnElement[bool]] = (),
    owner: Owner | None = None,
) -> Response:
    """Returns the answer with a page of an owner's rows under the conditions, as `public` has them.

    It carries a `Link` (RFC 8288) to the next page when there is one, and
    `X-Total-Count` when asked for. Raises a 422 for a cursor that is none of this list.
    """
    place = decode(query.cursor, query.sort, model) if query.cursor else None
    owner_id = id_of(owner)
    if where or place or query.skip:
        owned = owned_by(model, owner_id)
        statement = page(model, public, query.sort, place, [*owned, *where], skips=query.skip > 0)
    else:
        statement = first_page(model, public, query.sort, shared=owner is None)
    # One more than asked for shows whether there is a next page.
    parameters = {"skip": query.skip, "limit": query.limit + 1, OWNER.key: owner_id}
    found = session.scalars(statement, parameters).all()
    shown = found[: query.limit]
    if not writes_alike(model, public):
        shown = [to_json(row, public).decode() for row in shown]
    headers = {}
    if query.total:
        owned = owned_by(model, owner_id)
        count = select(func.count()).select_from(table_of(model)).where(*owned, *where)
        headers["X-Total-Count"] = str(session.scalar(count))
    if len(found) > len(shown):
        headers["Link"] = next_link(path_of(request), query, model, last=shown[-1])
    return Response(f"[{','.join(shown)}]", headers=headers, media_type="application/json")


@cache
def first_page(
    model: type[SQLModel], public: type[BaseModel], sort: str, *, shared: bool
) -> Select[Any]:
    """Returns the query for the start of a whole list; built once, it need not be again."""
    where = owned_by(model, None if shared else OWNER)
    return page(model, public, sort, None, where, skips=False)


def page(
    model: type[SQLModel],
    public: type[BaseModel],
    sort: str,
    place: Place | None,
    where: Sequence[ColumnElement[bool]],
    *,
    skips: bool,
) -> Select[Any]:
    """Returns the query for a page: the rows under the conditions, in the order of `sort`.

    Its parameters are `skip` and `limit`. It finds the rows first and makes their JSON
    then, so that what is skipped costs none.
    """
    table, key = table_of(model), key_column(model, sort.removeprefix("-"))
    parts = onward(key, table.c.id, sort, place)
    limit = bindparam("limit", type_=BigId)
    if len(parts) == 1 or skips:
        rows = select(table).where(or_(*parts), *where)
    else:
        # Each part has the order of the index; the whole, with what has no value last, has not.
        halves = [
            select(table).where(part, *where).order_by(*order(table.c, key, sort)).limit(limit)
            for part in parts
        ]
        rows = select(union_all(*(half.subquery().select() for half in halves)).subquery())
    whole = len(parts) > 1
    rows = rows.order_by(*order(rows.selected_columns, key, sort, whole=whole))
    found = rows.offset(bindparam("skip", type_=BigId)).limit(limit).subquery()
    if writes_alike(model, public):
        shown: Any = row_json(*(found.c[name] for name in public.model_fields))
    else:
        shown = aliased(model, found)
    return select(shown).order_by(*order(found.c, key, sort, whole=whole))


def order(columns: Any, key: Column[Any], sort: str, *, whole: bool = False) -> list[Any]:
    """Returns what to order by; of a `whole` list, what has no value comes last.

    All have one owner, or none. That too is said, because PostgreSQL does not see that the
    rows of an index are in order where its first column is NULL.
    """
    owner = [columns["owner_id"]] if "owner_id" in columns else []
    directed = [*owner, in_order(columns[key.name]), columns["id"]]
    if sort[0] == "-":
        directed = [column.desc() for column in directed]
    return [columns[key.name].is_(None), *directed] if whole else directed


def in_order(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns what a value of a key is compared by: an enum's place among its members.

    PostgreSQL would compare so by itself, SQLite the members' names.
    """
    if not isinstance(value.type, Enum):
        return value
    return case({member: place for place, member in enumerate(value.type.enums)}, value=value)


def onward(
    key: Column[Any], row_id: Column[int], sort: str, place: Place | None
) -> list[ColumnElement[bool]]:
    """Returns the conditions for what comes after a place.

    One is for the rows with a value of the key; one for those without, where there can be such.
    """
    beyond = operator.lt if sort[0] == "-" else operator.gt
    if place is None:
        return [key.is_not(None), key.is_(None)] if key.nullable else [true()]
    if place.value is None:
        return [and_(key.is_(None), beyond(row_id, place.id))]
    here = tuple_(
        in_order(bindparam("value", place.value, key.type)), bindparam("id", place.id, BigId)
    )
    after = beyond(tuple_(in_order(key), row_id), here)
    return [after, key.is_(None)] if key.nullable else [after]


def next_link(path: str, query: Page, model: type[SQLModel], last: str) -> str:
    """Returns the `Link` (RFC 8288) to the page after the one that ends with the row `last`."""
    asked = query.model_dump(mode="json", exclude_unset=True, exclude={"skip", "cursor"})
    parameters = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asked.items()
        if value is not None
    }
    parameters["cursor"] = encode(query.sort, model, json.loads(last))
    return f'<{path}?{urlencode(parameters)}>; rel="next"'


def encode(sort: str, model: type[SQLModel], row: dict[str, Any]) -> str:
    """Returns the cursor of a row, read from its JSON, in an order."""
    name = sort.removeprefix("-")
    value, column = row[name], key_column(model, name)
    if value is not None and column.name != name:
        value = column.info["by"](value)
    place = json.dumps([sort, value, row["id"]], ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode(cursor: str, sort: str, model: type[SQLModel]) -> Place:
    """Returns the place that a cursor holds. Raises a 422 for any other text."""
    key = key_column(model, sort.removeprefix("-"))
    try:
        made_for, value, row_id = json.loads(
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), parse_constant=refuse_constant
        )
        if made_for != sort or type(row_id) is not int or not 0 < row_id <= MAX_ID:
            raise ValueError("This is a cursor of another order, or none")
        if value is None and key.nullable:
            return Place(None, row_id)
        kind: TypeAdapter[Any] = TypeAdapter(kind_of(key) or key.type.python_type)
        value = kind.validate_json(json.dumps(value), strict=True)
        if isinstance(value, str) and "\0" in value:
            raise ValueError("No text holds this")
        if isinstance(value, int) and not -MAX_ID - 1 <= value <= MAX_ID:
            raise ValueError("No number is that large")
        if isinstance(value, datetime) and value.utcoffset() != timedelta(0):
            raise ValueError("This is no time in UTC")
        return Place(value, row_id)
    except (ValueError, TypeError, RecursionError) as error:
        message = "Input should be the cursor of a Link, with the sort it was made for"
        raise invalid(("query", "cursor"), message, "cursor_invalid") from error


def refuse_constant(name: str) -> None:
    """Raises `ValueError` for NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no JSON")


# What follows is the JSON of a row, made by the database.

UTC_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'

# Of each type that both databases write as the rest of the API does: a value, and its JSON.
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WRITTEN: dict[type | None, tuple[Any, str]] = {
    bool: (True, "true"),
    int: (7, "7"),
    str: ('é"', '"é\\""'),
    date: (MOMENT.date(), '"2026-01-02"'),
    datetime: (MOMENT, '"2026-01-02T03:04:05.000000Z"'),
}
MOST_FIELDS = 40  # PostgreSQL's concat takes 100 arguments


@cache
def writes_alike(model: type[SQLModel], public: type[BaseModel]) -> bool:
    """Returns whether the databases write a row's JSON as `to_json` does, byte for byte.

    A sample shows it: not where `public` has a field that is no column, a serializer or an
    alias of its own, or a type that is written in other ways elsewhere, such as a float.
    """
    columns = table_of(model).c
    names = list(public.model_fields)
    if len(names) > MOST_FIELDS or not all(
        name in columns and kind_of(columns[name]) in WRITTEN for name in names
    ):
        return False
    full = {name: WRITTEN[kind_of(columns[name])] for name in names}
    empty = {name: (None, "null") for name in names if columns[name].nullable}
    for sample in (full, full | empty):
        row = SimpleNamespace(**{name: value for name, (value, _) in sample.items()})
        members = ",".join(f'"{name}":{text}' for name, (_, text) in sample.items())
        if to_json(row, public).decode() != "{" + members + "}":
            return False
    return True


def kind_of(column: ColumnElement[Any]) -> type | None:
    """Returns the Python type of a column's values, `None` where the column makes them itself."""
    plain = column.type
    if isinstance(plain, UTCDateTime):
        return datetime
    if isinstance(plain, AutoString):
        return str
    if isinstance(plain, Boolean | Integer | Date | String) and not isinstance(plain, Enum):
        kind: type = plain.python_type
        return kind
    return None


class row_json(FunctionElement[str]):  # noqa: N801 - stands in statements as a SQL function
    """The JSON of a row, as text, made of the columns given; they name the members."""

    name = "row_json"
    type = String()
    inherit_cache = True  # without this, every statement with it is compiled anew


@compiles(row_json, "postgresql")
def _(element: row_json, compiler: SQLCompiler, **kw: Any) -> str:
    # Not json_build_object, which puts white space between the members.
    members = []
    for column in element.clauses:
        value = compiler.process(column, **kw)
        kind = kind_of(column)
        if kind is datetime:
            value = f"to_char({value} AT TIME ZONE 'UTC', '{UTC_TIME}')"
        text = f"to_json({value})" if kind in (str, date, datetime) else f"{value}::text"
        if getattr(column, "nullable", True):
            text = f"coalesce({text}::text, 'null')"
        members.append(f"'\"{column.key}\":', {text}")
    inside = ", ',', ".join(members)
    return f"concat('{{', {inside}, '}}')"


@compiles(row_json, "sqlite")
def _(element: row_json, compiler: SQLCompiler, **kw: Any) -> str:
    members = []
    for column in element.clauses:
        value = compiler.process(column, **kw)
        kind = kind_of(column)
        if kind is datetime:
            value = f"replace({value}, ' ', 'T') || 'Z'"
        elif kind is bool:
            value = f"json(CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)"
        members.append(f"'{column.key}', {value}")
    return f"json_object({', '.join(members)})"
