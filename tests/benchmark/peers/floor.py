"""The floor of the shape: `def` endpoints on raw psycopg2, with nothing else around."""

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from psycopg2.extras import RealDictCursor
from psycopg2.pool import ThreadedConnectionPool

from tests.benchmark.peers.models import TodoCreate, TodoPublic, TodoUpdate

pool = ThreadedConnectionPool(
    40, 40, os.environ["DATABASE_URL"].replace("+psycopg2", ""), cursor_factory=RealDictCursor
)
app = FastAPI()


def run(statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Returns the rows of one statement, committed by itself."""
    connection = pool.getconn()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
    finally:
        pool.putconn(connection)


@app.get("/api/todos", response_model=list[TodoPublic])
def list_todos(offset: int = 0, limit: int = 100) -> list[Any]:
    """Lists todos."""
    return run(
        "SELECT * FROM peer_todos ORDER BY created_at, id OFFSET %s LIMIT %s", (offset, limit)
    )


@app.get("/api/todos/{todo_id}", response_model=TodoPublic)
def read_todo(todo_id: int) -> Any:
    """Reads one todo."""
    rows = run("SELECT * FROM peer_todos WHERE id = %s", (todo_id,))
    if not rows:
        raise HTTPException(status_code=404, detail="Todo not found")
    return rows[0]


@app.post("/api/todos", response_model=TodoPublic, status_code=201)
def create_todo(todo: TodoCreate) -> Any:
    """Creates a todo."""
    return run(
        "INSERT INTO peer_todos (title, status, created_at, updated_at)"
        " VALUES (%s, %s, now(), now()) RETURNING *",
        (todo.title, todo.status),
    )[0]


@app.put("/api/todos/{todo_id}", response_model=TodoPublic)
def update_todo(todo_id: int, todo: TodoUpdate) -> Any:
    """Changes a todo."""
    rows = run(
        "UPDATE peer_todos SET title = coalesce(%s, title), status = coalesce(%s, status),"
        " updated_at = now() WHERE id = %s RETURNING *",
        (todo.title, todo.status, todo_id),
    )
    if not rows:
        raise HTTPException(status_code=404, detail="Todo not found")
    return rows[0]
