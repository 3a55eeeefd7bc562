"""Todos.

GET     /api/todos             list_todos
POST    /api/todos             create_todo
PATCH   /api/todos             update_todos
DELETE  /api/todos             delete_todos
GET     /api/todos/stats       read_stats
POST    /api/todos/bulk        create_todos
GET     /api/todos/{todo_id}   read_todo
PUT     /api/todos/{todo_id}   update_todo
PATCH   /api/todos/{todo_id}   patch_todo, the same as update_todo
DELETE  /api/todos/{todo_id}   delete_todo
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic_core import from_json
from sqlalchemy import bindparam, delete, func, insert, update
from sqlmodel import Session, select
from starlette.convertors import StringConvertor, register_url_convertor

from backend.conditional import IfMatch, IfNoneMatch, matches_strongly, matches_weakly
from backend.database import reading, serialize, writing
from backend.errors import TodoHasChanged, TodoNotFound, invalid
from backend.models import fold, now, todos
from backend.openapi import (
    LIST_HEADERS,
    LOCATION,
    NOT_MODIFIED,
    TODO_HEADERS,
    operation_id,
    problems,
)
from backend.paging import chosen_by, conditions, decode, next_link, page
from backend.representation import etag, todo_json
from backend.requests import StrictJSONRoute
from backend.schemas import (
    MAX_BULK,
    Affected,
    ClearFilter,
    StatusUpdate,
    TodoCreate,
    TodoFilter,
    TodoId,
    TodoPublic,
    TodoQuery,
    TodoStats,
    TodoUpdate,
)

PATH = "/api/todos"

# "stats" and "bulk" are paths of their own, which take no other methods; any other
# word in the place of an id is an invalid id.
ONE = "/{todo_id:todo_id}"


class TodoIdConvertor(StringConvertor):
    """The place of an id in a path."""

    regex = "(?!(?:stats|bulk)$)[^/]+"


register_url_convertor("todo_id", TodoIdConvertor())

router = APIRouter(
    prefix=PATH,
    tags=["todos"],
    route_class=StrictJSONRoute,
    generate_unique_id_function=operation_id,
)

THIS_TODO = todos.c.id == bindparam("todo_id")
FIND = select(todo_json()).where(THIS_TODO)
LOCK = FIND.with_for_update()
FIND_BY_KEY = select(todo_json(), todos.c.idempotency_digest).where(
    todos.c.idempotency_key == bindparam("key")
)
INSERT = insert(todos).returning(todo_json())
INSERT_ALL = insert(todos).returning(todo_json(), sort_by_parameter_order=True)
UPDATE = update(todos).where(THIS_TODO).returning(todo_json())
DELETE = delete(todos).where(THIS_TODO)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,255}$",
        description="A name for this request, so that sending it again makes nothing new",
        examples=["5f0c1a52-6c1d-4f52-9f0e-5d4b8f0f2c11"],
    ),
]


@router.get(
    "", response_model=list[TodoPublic], responses={200: LIST_HEADERS, **problems(422, 503)}
)
def list_todos(query: Annotated[TodoQuery, Query()]) -> Response:
    """Lists todos, oldest first unless `sort` says otherwise.

    When there are more than `limit`, the `Link` header leads to the next page. Following
    it to the end visits every todo once, whatever is created and deleted meanwhile.
    """
    chosen = chosen_by(query)
    statement = page(query.sort, *chosen, onward=query.cursor is not None)
    place = decode(query.cursor, query.sort) if query.cursor is not None else {}
    # One more than asked for shows whether there is a next page.
    values = {**chosen, **place, "skip": query.skip, "limit": query.limit + 1}
    headers = {}
    with reading() as session:
        found = session.scalars(statement, values).all()
        if query.total:
            count = select(func.count()).select_from(todos).where(*conditions(chosen))
            headers["X-Total-Count"] = str(session.scalar(count, chosen))
    shown = found[: query.limit]
    if len(found) > len(shown):
        headers["Link"] = next_link(PATH, query, last=shown[-1])
    return Response(f"[{','.join(shown)}]", headers=headers, media_type="application/json")


@router.post(
    "",
    status_code=201,
    response_model=TodoPublic,
    responses={201: {"headers": {**TODO_HEADERS, **LOCATION}}, **problems(408, 413, 415, 422, 503)},
)
def create_todo(new: TodoCreate, idempotency_key: IdempotencyKey = None) -> Response:
    """Creates a todo.

    With an `Idempotency-Key`, sending the same request again answers with the todo made
    the first time, as it is now; another body under the same key is a 422. The key lives
    as long as its todo.
    """
    with writing() as session:
        if idempotency_key is None:
            todo = session.scalars(INSERT, row(new)).one()
        else:
            todo = create_once(session, new, idempotency_key)
    return todo_response(todo, 201, {"Location": f"{PATH}/{from_json(todo)['id']}"})


@router.patch("", responses=problems(408, 413, 415, 422, 503))
def update_todos(change: StatusUpdate, filters: Annotated[TodoFilter, Query()]) -> Affected:
    """Gives every todo that the filters choose this status; without filters, all of them.

    `affected` counts the chosen todos, also those that had the status already.
    """
    chosen = chosen_by(filters)
    statement = update(todos).where(*conditions(chosen))
    with writing() as session:
        serialize(session, PATH)
        result = session.exec(
            statement.values(status=change.status, updated_at=now()), params=chosen
        )
    return Affected(affected=result.rowcount)


@router.delete("", responses=problems(422, 503))
def delete_todos(filters: Annotated[ClearFilter, Query()]) -> Affected:
    """Deletes every todo with this status that the filters choose, such as the completed ones."""
    chosen = chosen_by(filters)
    with writing() as session:
        serialize(session, PATH)
        result = session.exec(delete(todos).where(*conditions(chosen)), params=chosen)
    return Affected(affected=result.rowcount)


@router.get("/stats", responses=problems(503))
def read_stats() -> TodoStats:
    """Counts the todos."""
    active = func.count().filter(todos.c.status == "active")
    with reading() as session:
        total, active_count = session.exec(select(func.count(), active).select_from(todos)).one()
    return TodoStats(total=total, active=active_count, completed=total - active_count)


@router.post(
    "/bulk",
    status_code=201,
    response_model=list[TodoPublic],
    responses=problems(408, 413, 415, 422, 503),
)
def create_todos(
    new: Annotated[list[TodoCreate], Body(min_length=1, max_length=MAX_BULK)],
) -> Response:
    """Creates many todos at once: all of them, answered in the same order, or none."""
    with writing() as session:
        made = session.scalars(INSERT_ALL, [row(each) for each in new]).all()
    return Response(f"[{','.join(made)}]", 201, media_type="application/json")


@router.get(
    ONE,
    response_model=TodoPublic,
    responses={200: {"headers": TODO_HEADERS}, 304: NOT_MODIFIED, **problems(404, 422, 503)},
)
def read_todo(todo_id: TodoId, if_none_match: IfNoneMatch = None) -> Response:
    """Reads one todo. With its ETag in `If-None-Match`, answers 304 while it has not changed."""
    with reading() as session:
        todo = session.scalar(FIND, {"todo_id": todo_id})
    response = todo_response(todo)
    if if_none_match and matches_weakly(if_none_match, response.headers["ETag"]):
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    return response


@router.patch(
    ONE,
    name="patch_todo",
    response_model=TodoPublic,
    responses={200: {"headers": TODO_HEADERS}, **problems(404, 408, 412, 413, 415, 422, 503)},
)
@router.put(
    ONE,
    response_model=TodoPublic,
    responses={200: {"headers": TODO_HEADERS}, **problems(404, 408, 412, 413, 415, 422, 503)},
)
def update_todo(todo_id: TodoId, changes: TodoUpdate, if_match: IfMatch = None) -> Response:
    """Changes the fields that are given and leaves the others, with PUT as with PATCH.

    With the todo's ETag in `If-Match`, changes it only if nobody else has since (412).
    """
    todo: str | None
    with writing() as session:
        if if_match or not changes:
            todo = lock_todo(session, todo_id, if_match)
        if changes:
            todo = session.scalar(UPDATE, {"todo_id": todo_id, **columns(changes)})
    return todo_response(todo)


@router.delete(
    ONE, status_code=204, response_class=Response, responses=problems(404, 412, 422, 503)
)
def delete_todo(todo_id: TodoId, if_match: IfMatch = None) -> None:
    """Deletes one todo; with `If-Match`, only if it has not changed (412)."""
    with writing() as session:
        if if_match:
            lock_todo(session, todo_id, if_match)
        if session.exec(DELETE, params={"todo_id": todo_id}).rowcount == 0:
            raise TodoNotFound


def row(new: TodoCreate) -> dict[str, Any]:
    """Returns the columns of a new todo."""
    moment = now()
    return {
        "title": new.title,
        "title_folded": fold(new.title),
        "status": new.status,
        "created_at": moment,
        "updated_at": moment,
    }


def columns(changes: TodoUpdate) -> dict[str, Any]:
    """Returns the columns that changes of a todo set."""
    changed = {**changes, "updated_at": now()}
    return {**changed, "title_folded": fold(changes["title"])} if "title" in changes else changed


def create_once(session: Session, new: TodoCreate, key: str) -> str:
    """Returns the todo that was made under the key, now or before.

    Raises a 422 when it was made from another body.
    """
    serialize(session, key)
    digest = sha256(new.model_dump_json().encode()).hexdigest()
    made = session.execute(FIND_BY_KEY, {"key": key}).one_or_none()
    if made is None:
        values = {**row(new), "idempotency_key": key, "idempotency_digest": digest}
        return session.scalars(INSERT, values).one()
    if made.idempotency_digest != digest:
        message = "The key was used before, with another body"
        raise invalid(("header", "Idempotency-Key"), message, "idempotency_key_reused")
    todo: str = made[0]
    return todo


def lock_todo(session: Session, todo_id: int, if_match: list[str] | None) -> str:
    """Returns the todo's JSON, and keeps others from changing it until the transaction ends.

    Raises `TodoNotFound`, or `TodoHasChanged` where `if_match` does not hold.
    """
    todo: str | None = session.scalar(LOCK, {"todo_id": todo_id})
    if todo is None:
        raise TodoNotFound
    if if_match and not matches_strongly(if_match, etag(todo)):
        raise TodoHasChanged
    return todo


def todo_response(
    todo: str | None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns the answer with one todo and its ETag. Raises `TodoNotFound` for none."""
    if todo is None:
        raise TodoNotFound
    return Response(
        todo, status, {"ETag": etag(todo), **(headers or {})}, media_type="application/json"
    )
