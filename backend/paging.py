"""The list: which todos, in which order, and in pages.

A page goes on from the last todo of the one before, by its place in the order and not
by its number, so a page costs the same at any depth, and creating or deleting todos
meanwhile neither repeats nor skips one.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Select, bindparam, select, tuple_

from backend.errors import invalid
from backend.models import MAX_ID, BigId, fold, todos
from backend.representation import todo_json
from backend.schemas import TodoFilter, TodoQuery

SORT_KEYS = {
    "created_at": todos.c.created_at,
    "updated_at": todos.c.updated_at,
    "title": todos.c.title_folded,
    "status": todos.c.status,
}

CONDITIONS = {
    "status_is": todos.c.status == bindparam("status_is"),
    "title_like": todos.c.title_folded.like(bindparam("title_like"), escape="\\"),
}


def chosen_by(filters: TodoFilter) -> dict[str, str]:
    """Returns the names of the `CONDITIONS` that the filters set, each with its value."""
    chosen: dict[str, str] = {}
    if filters.status is not None:
        chosen["status_is"] = filters.status
    if filters.q is not None:
        text = fold(filters.q)
        for special in "\\%_":
            text = text.replace(special, "\\" + special)
        chosen["title_like"] = f"%{text}%"
    return chosen


def conditions(names: Iterable[str]) -> list[ColumnElement[bool]]:
    """Returns the `CONDITIONS` of these names; their values are parameters of the statement."""
    return [CONDITIONS[name] for name in names]


@cache
def page(sort: str, *chosen: str, onward: bool) -> Select[str]:
    """Returns the query for a page: the todos under the conditions, in the order of `sort`.

    Its parameters are the conditions' values, `skip` and `limit`, and for a page that
    goes `onward` from a cursor its `key` and `id`. It is built once for each form of the
    question, which saves a fifth of the list's time (README, figures).
    """
    key = SORT_KEYS[sort.removeprefix("-")]
    query = (
        select(todo_json())
        .select_from(todos)
        .where(*conditions(chosen))
        .offset(bindparam("skip", type_=BigId))
        .limit(bindparam("limit", type_=BigId))
    )
    place = tuple_(key, todos.c.id)
    end = tuple_(bindparam("key", type_=key.type), bindparam("id", type_=BigId))
    if sort[0] == "-":
        query = query.order_by(key.desc(), todos.c.id.desc())
        return query.where(place < end) if onward else query
    query = query.order_by(key, todos.c.id)
    return query.where(place > end) if onward else query


def next_link(path: str, query: TodoQuery, last: str) -> str:
    """Returns the `Link` (RFC 8288) to the page after the one that ends with the todo `last`."""
    asked = query.model_dump(mode="json", exclude_unset=True, exclude={"skip", "cursor"})
    parameters = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asked.items()
    }
    parameters["cursor"] = encode(query.sort, json.loads(last))
    return f'<{path}?{urlencode(parameters)}>; rel="next"'


def encode(sort: str, todo: dict[str, Any]) -> str:
    """Returns the cursor of a todo in an order."""
    name = sort.removeprefix("-")
    value = fold(todo[name]) if name == "title" else todo[name]
    place = json.dumps([sort, value, todo["id"]], ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode(cursor: str, sort: str) -> dict[str, Any]:
    """Returns the `key` and the `id` that a cursor holds. Raises a 422 for any other text."""
    try:
        made_for, value, todo_id = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        sound = (
            made_for == sort
            and type(value) is str
            and "\0" not in value
            and type(todo_id) is int
            and 0 < todo_id <= MAX_ID
        )
        if not sound:
            raise ValueError("This is a cursor of another order, or none")
        value.encode()  # refuses lone surrogates
        if not sort.endswith("_at"):
            return {"key": value, "id": todo_id}
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() != timedelta(0):
            raise ValueError("This is no time in UTC")
        return {"key": moment, "id": todo_id}
    except (ValueError, TypeError, RecursionError) as error:
        message = "Input should be the cursor of a Link, with the sort it was made for"
        raise invalid(("query", "cursor"), message, "cursor_invalid") from error
