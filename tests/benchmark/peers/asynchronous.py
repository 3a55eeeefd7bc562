"""The async way: `async def`, async SQLAlchemy and asyncpg."""

import os
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tests.benchmark.peers.models import Todo, TodoCreate, TodoPublic, TodoUpdate, now

engine = create_async_engine(os.environ["DATABASE_URL"].replace("psycopg2", "asyncpg"))
make_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """Yields a session for one request."""
    async with make_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


@app.get("/api/todos", response_model=list[TodoPublic])
async def list_todos(
    session: SessionDep, offset: int = 0, limit: Annotated[int, Query(le=1000)] = 100
) -> Sequence[Todo]:
    """Lists todos."""
    query = select(Todo).order_by(col(Todo.created_at), col(Todo.id))
    return (await session.exec(query.offset(offset).limit(limit))).all()


@app.get("/api/todos/{todo_id}", response_model=TodoPublic)
async def read_todo(todo_id: int, session: SessionDep) -> Todo:
    """Reads one todo."""
    todo = await session.get(Todo, todo_id)
    if not todo:
        raise HTTPException(status_code=404, detail="Todo not found")
    return todo


@app.post("/api/todos", response_model=TodoPublic, status_code=201)
async def create_todo(todo: TodoCreate, session: SessionDep) -> Todo:
    """Creates a todo."""
    db_todo = Todo.model_validate(todo)
    session.add(db_todo)
    await session.commit()
    return db_todo


@app.put("/api/todos/{todo_id}", response_model=TodoPublic)
async def update_todo(todo_id: int, todo: TodoUpdate, session: SessionDep) -> Todo:
    """Changes a todo."""
    db_todo = await session.get(Todo, todo_id)
    if not db_todo:
        raise HTTPException(status_code=404, detail="Todo not found")
    db_todo.sqlmodel_update(todo.model_dump(exclude_unset=True), update={"updated_at": now()})
    await session.commit()
    return db_todo
