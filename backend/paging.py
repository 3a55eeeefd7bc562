"""The list's orders, and its pages: where one ends and how the next is found.

A page goes on from the last todo of the one before, by its place in the order and not
by its number, so a page costs the same at any depth, and creating or deleting todos
meanwhile neither repeats nor skips one.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, UnaryExpression, literal, tuple_
from sqlmodel import col

from backend.errors import invalid
from backend.models import MAX_ID, BigId, Todo, fold
from backend.schemas import TodoQuery

KEYS: dict[str, Any] = {
    "created_at": col(Todo.created_at),
    "updated_at": col(Todo.updated_at),
    "title": col(Todo.title_folded),
    "status": col(Todo.status),
}


def order(sort: str) -> Sequence[UnaryExpression[Any]]:
    """Returns what to order by: a column, then `id` in the same direction."""
    key = KEYS[sort.removeprefix("-")]
    identity = col(Todo.id)
    return (key.desc(), identity.desc()) if sort[0] == "-" else (key.asc(), identity.asc())


def after(cursor: str, sort: str) -> ColumnElement[bool]:
    """Returns the condition for the todos that come after a cursor in an order.

    Raises a 422 for a cursor that `next_link` did not make for this order.
    """
    key = KEYS[sort.removeprefix("-")]
    place = tuple_(key, col(Todo.id))
    value, todo_id = decode(cursor, sort)
    end = tuple_(literal(value, key.type), literal(todo_id, BigId))
    return place < end if sort[0] == "-" else place > end


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


def decode(cursor: str, sort: str) -> tuple[str | datetime, int]:
    """Returns the sort key and the id that a cursor holds. Raises a 422 for any other text."""
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
        value.encode()
        if not sort.endswith("_at"):
            return value, todo_id
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() != timedelta(0):
            raise ValueError("This is no time in UTC")
        return moment, todo_id
    except (ValueError, TypeError, RecursionError) as error:
        message = "Input should be the cursor of a Link, with the sort it was made for"
        raise invalid(("query", "cursor"), message, "cursor_invalid") from error
