"""Todos: the user's own, or, without a token, the shared ones, which have no owner.

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

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from backend.core.fields import MAX_BULK, Affected, PathId
from backend.core.lists import contains, list_response
from backend.core.requests import StrictJSONRoute
from backend.core.rows import (
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    add_once,
    change_all,
    created_response,
    delete_all,
    find,
    find_to_change,
    row_response,
    rows_response,
)
from backend.core.tables import owned_by
from backend.database import reading, writing
from backend.models import Todo
from backend.schemas import (
    ClearFilter,
    StatusUpdate,
    TodoCreate,
    TodoFilter,
    TodoPublic,
    TodoQuery,
    TodoStats,
    TodoUpdate,
)
from backend.security import OptionalUser, SignedIn

router = APIRouter(prefix="/api/todos", tags=["todos"], route_class=StrictJSONRoute)


def chosen_by(filters: TodoFilter) -> list[ColumnElement[bool]]:
    """Returns the conditions that the filters set."""
    conditions = []
    if filters.status is not None:
        conditions.append(col(Todo.status) == filters.status)
    if filters.q is not None:
        conditions.append(contains(Todo, "title", filters.q))
    return conditions


def new_todo(new: TodoCreate, owner: SignedIn | None) -> Todo:
    """Returns a todo that is to be added."""
    return Todo.model_validate(new, update={"owner_id": owner and owner.id})


@router.get("", response_model=list[TodoPublic])
def list_todos(
    request: Request, user: OptionalUser, query: Annotated[TodoQuery, Query()]
) -> Response:
    """Lists todos, oldest first unless `sort` says otherwise.

    When there are more than `limit`, the `Link` header leads to the next page. Following
    it to the end visits every todo once, whatever is created and deleted meanwhile.
    """
    with reading() as session:
        return list_response(session, request, Todo, TodoPublic, query, chosen_by(query), user)


@router.post("", status_code=201, response_model=TodoPublic)
def create_todo(
    request: Request,
    user: OptionalUser,
    new: TodoCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Creates a todo.

    With an `Idempotency-Key`, sending the same request again answers with the todo made
    the first time, as it is now; another body under the same key is a 422. The key lives
    as long as its todo.
    """
    with writing() as session:
        todo = add_once(session, new_todo(new, user), new, idempotency_key)
    return created_response(request, todo, TodoPublic)


@router.patch("")
def update_todos(
    user: OptionalUser, change: StatusUpdate, filters: Annotated[TodoFilter, Query()]
) -> Affected:
    """Gives every todo that the filters choose this status; without filters, all of them.

    `affected` counts the chosen todos, also those that had the status already.
    """
    with writing() as session:
        affected = change_all(session, Todo, chosen_by(filters), owner=user, status=change.status)
    return Affected(affected=affected)


@router.delete("")
def delete_todos(user: OptionalUser, filters: Annotated[ClearFilter, Query()]) -> Affected:
    """Deletes every todo with this status that the filters choose, such as the completed ones."""
    with writing() as session:
        affected = delete_all(session, Todo, chosen_by(filters), owner=user)
    return Affected(affected=affected)


@router.get("/stats")
def read_stats(user: OptionalUser) -> TodoStats:
    """Counts the todos."""
    active = func.count().filter(col(Todo.status) == "active")
    counts = select(func.count(), active).where(*owned_by(Todo, user and user.id))
    with reading() as session:
        total, active_count = session.exec(counts).one()
    return TodoStats(total=total, active=active_count, completed=total - active_count)


@router.post("/bulk", status_code=201, response_model=list[TodoPublic])
def create_todos(
    user: OptionalUser,
    new: Annotated[list[TodoCreate], Body(min_length=1, max_length=MAX_BULK)],
) -> Response:
    """Creates many todos at once: all of them, answered in the same order, or none."""
    todos = [new_todo(each, user) for each in new]
    with writing() as session:
        session.add_all(todos)
    return rows_response(todos, TodoPublic, 201)


@router.get("/{todo_id}", response_model=TodoPublic)
def read_todo(todo_id: PathId, user: OptionalUser, if_none_match: IfNoneMatch = None) -> Response:
    """Reads one todo. With its ETag in `If-None-Match`, answers 304 while it has not changed."""
    with reading() as session:
        todo = find(session, Todo, todo_id, owner=user)
    return row_response(todo, TodoPublic, if_none_match=if_none_match)


@router.patch("/{todo_id}", name="patch_todo", response_model=TodoPublic)
@router.put("/{todo_id}", response_model=TodoPublic)
def update_todo(
    todo_id: PathId, user: OptionalUser, changes: TodoUpdate, if_match: IfMatch = None
) -> Response:
    """Changes the fields that are given and leaves the others, with PUT as with PATCH.

    With the todo's ETag in `If-Match`, changes it only if nobody else has since (412).
    """
    with writing() as session:
        todo = find_to_change(session, Todo, todo_id, TodoPublic, if_match, owner=user)
        todo.sqlmodel_update(dict(changes))
    return row_response(todo, TodoPublic)


@router.delete("/{todo_id}", status_code=204, response_class=Response)
def delete_todo(todo_id: PathId, user: OptionalUser, if_match: IfMatch = None) -> None:
    """Deletes one todo; with `If-Match`, only if it has not changed (412)."""
    with writing() as session:
        session.delete(find_to_change(session, Todo, todo_id, TodoPublic, if_match, owner=user))
