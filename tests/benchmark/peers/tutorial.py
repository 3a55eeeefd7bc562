"""The way of SQLModel's FastAPI tutorial: `def`, `Depends` with yield, commit and refresh."""

import os
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query
from sqlmodel import Session, col, create_engine, select

from tests.benchmark.peers.models import Todo, TodoCreate, TodoPublic, TodoUpdate, now

engine = create_engine(os.environ["DATABASE_URL"])
app = FastAPI()


def get_session() -> Iterator[Session]:
    """Yields a session for one request."""
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


@app.get("/api/todos", response_model=list[TodoPublic])
def list_todos(
    session: SessionDep, offset: int = 0, limit: Annotated[int, Query(le=1000)] = 100
) -> Sequence[Todo]:
    """Lists todos."""
    query = select(Todo).order_by(col(Todo.created_at), col(Todo.id))
    return session.exec(query.offset(offset).limit(limit)).all()


@app.get("/api/todos/{todo_id}", response_model=TodoPublic)
def read_todo(todo_id: int, session: SessionDep) -> Todo:
    """Reads one todo."""
    todo = session.get(Todo, todo_id)
    if not todo:
        raise HTTPException(status_code=404, detail="Todo not found")
    return todo


@app.post("/api/todos", response_model=TodoPublic, status_code=201)
def create_todo(todo: TodoCreate, session: SessionDep) -> Todo:
    """Creates a todo."""
    db_todo = Todo.model_validate(todo)
    session.add(db_todo)
    session.commit()
    session.refresh(db_todo)
    return db_todo


@app.put("/api/todos/{todo_id}", response_model=TodoPublic)
def update_todo(todo_id: int, todo: TodoUpdate, session: SessionDep) -> Todo:
    """Changes a todo."""
    db_todo = session.get(Todo, todo_id)
    if not db_todo:
        raise HTTPException(status_code=404, detail="Todo not found")
    db_todo.sqlmodel_update(todo.model_dump(exclude_unset=True), update={"updated_at": now()})
    session.add(db_todo)
    session.commit()
    session.refresh(db_todo)
    return db_todo
