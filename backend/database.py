"""The database: its connections and sessions.

The pool rule: a session is opened and closed inside one worker thread, and the pool
has a connection for every worker thread and one more for the readiness check. So no
thread ever waits for a connection, no connection ever waits for a thread, and requests
cannot wait for each other in a circle, however many clients there are: the surplus
waits in one fair queue for a thread.

The commit rule: connections are in autocommit mode, so a reading session costs no
round trip but its query. A writing session makes a transaction: when its
`with writing() as session:` ends, COMMIT has returned, or the block has raised.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Dialect, create_engine, event, exc, func
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session
from sqlmodel import select as sql_select

from backend.deadlines import loans, remaining_time
from backend.postgres import TransactionConnection
from backend.settings import settings

ON_SQLITE = settings.database_url.get_backend_name() == "sqlite"

SHORTEST_CONNECT_TIMEOUT = 1  # libpq counts whole seconds, and 0 is for ever

engine = create_engine(
    settings.database_url,
    isolation_level="AUTOCOMMIT",
    pool_size=settings.db_pool_size + 1,
    max_overflow=0,
    pool_use_lifo=True,
    echo=settings.sql_echo,
    hide_parameters=True,
)
writing_engine = engine.execution_options()  # the same pool, with events of its own


class DatabaseNotReady(exc.SQLAlchemyError):
    """The tables are not made yet, because the database has not been there so far."""


class Tables:
    """Whether the tables are known to be there."""

    made = False

    @classmethod
    def require(cls) -> None:
        """Raises `DatabaseNotReady` until the tables are made."""
        if not cls.made:
            raise DatabaseNotReady("The tables are not made yet")


def reading() -> Session:
    """Returns a session for queries, each of which sees what is committed when it runs.

    Use it as `with reading() as session:`. Raises `DatabaseNotReady`.
    """
    Tables.require()
    return Session(engine, expire_on_commit=False)


@contextmanager
def writing() -> Iterator[Session]:
    """Yields a session for changes, all of them committed when the block ends, or none.

    Use it as `with writing() as session:`. Raises `DatabaseNotReady`.
    """
    Tables.require()
    with Session(writing_engine, expire_on_commit=False) as session, session.begin():
        yield session


def serialize(session: Session, name: str) -> None:
    """Lets only one transaction at a time past this point with this name, until it ends.

    For what finds its rows by a condition: two such could each wait for the other's rows.
    SQLite has a single writer anyway.
    """
    if not ON_SQLITE:
        session.exec(sql_select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def reason(error: exc.SQLAlchemyError) -> str:
    """Returns what the driver said, on one line and without any values of a row."""
    said = getattr(error, "orig", error)
    primary = getattr(getattr(said, "diag", None), "message_primary", None)
    return " ".join((primary or str(said)).split())


# What follows tells SQLAlchemy how connections are made, lent and committed here.


@event.listens_for(engine, "do_connect")
def connect(dialect: Dialect, record: Any, cargs: Any, cparams: Any) -> Any:
    """Returns a new driver connection, lent from its first query on."""
    if ON_SQLITE:
        return dialect.connect(*cargs, **cparams)
    seconds = min(settings.db_connect_timeout, int(remaining_time()))
    if seconds < SHORTEST_CONNECT_TIMEOUT:
        raise exc.TimeoutError("Too little of the request's time is left for connecting")
    connection: Any = dialect.connect(
        *cargs, **cparams, connect_timeout=seconds, connection_factory=TransactionConnection
    )
    loans.lend(connection)
    # What is cut off here must not go on for ever there.
    milliseconds = round(1000 * settings.request_timeout)
    connection.cursor().execute(f"SET statement_timeout = {milliseconds}")
    return connection


@event.listens_for(engine, "checkout")
def check_out(connection: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:
    """Lends a connection for the rest of the request's time; a dead one is replaced."""
    remaining_time()  # raises when it is over
    loans.lend(connection)
    if ON_SQLITE:
        limit_waiting(connection)
    elif connection.closed or has_news(connection):
        raise exc.DisconnectionError("The server has closed the connection")


@event.listens_for(engine, "checkin")
def check_in(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Ends the loan of a connection."""
    loans.take_back(connection)


def has_news(postgres_connection: Any) -> bool:
    """Returns whether an idle PostgreSQL connection has something to read.

    Nothing was asked, so it is the server's goodbye. This costs 1 µs, where asking
    `SELECT 1` first, as `pool_pre_ping` does, costs 70.
    """
    poll = select.poll()
    poll.register(postgres_connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def limit_waiting(sqlite_connection: Any) -> None:
    """Lets SQLite wait for a lock until the deadline; it cannot be cut off while it does."""
    sqlite_connection.execute(f"PRAGMA busy_timeout = {round(1000 * remaining_time())}")


def begin_on_sqlite(connection: Connection) -> None:
    """Begins as a writer: a transaction that reads first would then find SQLite locked."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def commit_on_sqlite(connection: Connection) -> None:
    """Lets COMMIT, which waits for readers, wait only for what is left of the time."""
    limit_waiting(connection.connection.driver_connection)


def begin_on_postgres(connection: Connection) -> None:
    """Begins with the first statement."""
    driver_connection: Any = connection.connection.driver_connection
    driver_connection.begin()


if ON_SQLITE:
    event.listen(writing_engine, "begin", begin_on_sqlite)
    event.listen(writing_engine, "commit", commit_on_sqlite)
else:
    event.listen(writing_engine, "begin", begin_on_postgres)
