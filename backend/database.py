"""The database: its connections, sessions and deadlines, and the making of the tables.

Three rules live here.

The pool rule: a session is opened and closed inside one worker thread, and the pool
has a connection for every worker thread and one more for the readiness check. So no
thread ever waits for a connection, no connection ever waits for a thread, and requests
cannot wait for each other in a circle, however many clients there are: the surplus
waits in one fair queue for a thread.

The commit rule: connections are in autocommit mode, so a reading session costs no
round trip but its query. A writing session leaves that mode for its transaction: when
its `with session.begin():` ends, COMMIT has returned, or the block has raised.

The deadline rule: a connection is lent until the deadline of its request. Whoever
overstays is cut off, which no server setting can do to a database that hangs.
"""

import logging
import select
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Annotated, Any

import anyio
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import Depends
from sqlalchemy import Connection, Dialect, create_engine, event, exc, func
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session, SQLModel
from sqlmodel import select as sql_select

from backend.models import POSTGRES_SEARCH_INDEX
from backend.settings import settings

logger = logging.getLogger(__name__)

ON_SQLITE = settings.database_url.get_backend_name() == "sqlite"

# The last tenth of a request's time is for sending the answer.
REQUEST_BUDGET = 0.9 * settings.request_timeout
READINESS_BUDGET = 2.0
PREPARATION_BUDGET = 60.0
PREPARATION_PAUSE = 1.0
CUTTING_INTERVAL = 0.1
SHORTEST_CONNECT_TIMEOUT = 1  # libpq counts whole seconds, and 0 is for ever

# Any constant will do, as long as all workers take the same.
TABLES_LOCK = 7_060_451

# Before 3.51.3, two connections can corrupt a WAL file: sqlite.org/wal.html#walresetbug
SQLITE_JOURNAL = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "DELETE"


# SQLite answers `SELECT 1` without looking at its file.
PING = "SELECT 1 FROM sqlite_schema" if ON_SQLITE else "SELECT 1"


class DatabaseNotReady(exc.SQLAlchemyError):
    """The tables are not made yet, because the database has not been there so far."""


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


@event.listens_for(writing_engine, "begin")
def begin(connection: Connection) -> None:
    """Takes the connection out of autocommit mode for one transaction."""
    if ON_SQLITE:
        # A deferred transaction that reads and then writes would find SQLite locked.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        driver_connection: Any = connection.connection.driver_connection
        driver_connection.autocommit = False


@event.listens_for(writing_engine, "commit")
def commit(connection: Connection) -> None:
    """Lets SQLite's COMMIT, which waits for readers, wait only for what is left of the time."""
    if ON_SQLITE:
        limit_waiting(connection.connection.driver_connection)


deadline: ContextVar[float] = ContextVar("deadline")


class Loans:
    """The connections in use, and until when."""

    def __init__(self) -> None:
        self._deadlines: dict[Any, float] = {}
        self._lock = threading.Lock()

    def lend(self, dbapi_connection: Any, deadline: float) -> None:
        """Notes that a connection is in use until the deadline, a `time.monotonic()`."""
        self._deadlines[dbapi_connection] = deadline

    def take_back(self, dbapi_connection: Any) -> None:
        """Notes that a connection is no longer in use."""
        with self._lock:
            self._deadlines.pop(dbapi_connection, None)

    def cut_overdue(self) -> None:
        """Cuts off every connection whose deadline has passed; its user gets an error."""
        current = time.monotonic()
        with self._lock:
            for dbapi_connection, deadline in list(self._deadlines.items()):
                if deadline < current:
                    del self._deadlines[dbapi_connection]
                    cut(dbapi_connection)


def cut(dbapi_connection: Any) -> None:
    """Ends whatever a connection is waiting for, from another thread."""
    with suppress(OSError, *(engine.dialect.loaded_dbapi.Error,)):
        if ON_SQLITE:
            dbapi_connection.interrupt()
        else:
            with socket.socket(fileno=socket.dup(dbapi_connection.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)


def remaining_time() -> float:
    """Returns the seconds left to the request. Raises `exc.TimeoutError` when there are none."""
    remaining = deadline.get() - time.monotonic()
    if remaining <= 0:
        raise exc.TimeoutError("The request waited too long for its turn")
    return remaining


loans = Loans()


@event.listens_for(engine, "do_connect")
def connect(dialect: Dialect, record: Any, cargs: Any, cparams: Any) -> Any:
    """Returns a new driver connection, lent from its first query on."""
    if ON_SQLITE:
        return dialect.connect(*cargs, **cparams)
    seconds = min(settings.db_connect_timeout, int(remaining_time()))
    if seconds < SHORTEST_CONNECT_TIMEOUT:
        raise exc.TimeoutError("Too little of the request's time is left for connecting")
    connection: Any = dialect.connect(*cargs, **cparams, connect_timeout=seconds)
    loans.lend(connection, deadline.get())
    # What is cut off here must not go on for ever there.
    connection.autocommit = True
    milliseconds = round(1000 * settings.request_timeout)
    connection.cursor().execute(f"SET statement_timeout = {milliseconds}")
    return connection


@event.listens_for(engine, "checkout")
def check_out(dbapi_connection: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:
    """Lends a connection for the rest of the request's time; a dead one is replaced."""
    remaining_time()  # raises when it is over
    loans.lend(dbapi_connection, deadline.get())
    if ON_SQLITE:
        limit_waiting(dbapi_connection)
    elif dbapi_connection.closed or has_news(dbapi_connection):
        raise exc.DisconnectionError("The server has closed the connection")
    else:
        dbapi_connection.autocommit = True


def limit_waiting(sqlite_connection: Any) -> None:
    """Lets SQLite wait for a lock until the deadline; it cannot be cut off while it does."""
    sqlite_connection.execute(f"PRAGMA busy_timeout = {round(1000 * remaining_time())}")


@event.listens_for(engine, "checkin")
def check_in(dbapi_connection: Any, entry: ConnectionPoolEntry) -> None:
    """Ends the loan of a connection."""
    loans.take_back(dbapi_connection)


def has_news(dbapi_connection: Any) -> bool:
    """Returns whether an idle PostgreSQL connection has something to read.

    Nothing was asked, so it is the server's goodbye. This costs 2 µs, where asking
    `SELECT 1` first, as `pool_pre_ping` does, costs a round trip.
    """
    poll = select.poll()
    poll.register(dbapi_connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Preparation:
    """Whether the tables are known to be there."""

    done = False


def create_tables() -> None:
    """Makes the tables and indexes that are not there yet; several workers may do so at once."""
    deadline.set(time.monotonic() + PREPARATION_BUDGET)
    if ON_SQLITE:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA journal_mode = {SQLITE_JOURNAL}")
    with writing_engine.begin() as connection:
        if not ON_SQLITE:
            connection.execute(sql_select(func.pg_advisory_xact_lock(TABLES_LOCK)))
        SQLModel.metadata.create_all(connection)
        if not ON_SQLITE:
            create_search_index(connection)
    Preparation.done = True


def create_search_index(connection: Connection) -> None:
    """Makes the index for searching where the server has what it needs."""
    try:
        with connection.begin_nested():
            for statement in POSTGRES_SEARCH_INDEX:
                connection.exec_driver_sql(statement)
    except exc.DBAPIError as error:
        logger.warning("search will read the whole table: %s", reason(error))


def serialize(session: Session, name: str) -> None:
    """Lets only one transaction at a time past this point with this name, until it ends.

    For what finds its rows by a condition: two such could each wait for the other's rows.
    SQLite has a single writer anyway.
    """
    if not ON_SQLITE:
        session.exec(sql_select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def ping() -> None:
    """Asks the database for an answer. Raises `exc.SQLAlchemyError` when there is none in time."""
    if not Preparation.done:
        raise DatabaseNotReady("The tables are not made yet")
    with engine.connect() as connection:
        connection.exec_driver_sql(PING)


async def is_ready() -> bool:
    """Returns whether the database answers within two seconds."""
    deadline.set(time.monotonic() + READINESS_BUDGET)
    try:
        await run_sync(ping, limiter=readiness_limiter)
    except exc.SQLAlchemyError as error:
        logger.warning("not ready: %s", reason(error))
        return False
    return True


readiness_limiter = anyio.CapacityLimiter(1)


def reason(error: exc.SQLAlchemyError) -> str:
    """Returns what the driver said, on one line and without the statement's values."""
    return " ".join(str(getattr(error, "orig", error)).split())


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Keeps the database usable: tables made, deadlines kept, connections closed at the end.

    A database that is down does not stop the start: the process says so in its log,
    answers 503, and tries again every second.
    """
    current_default_thread_limiter().total_tokens = settings.db_pool_size
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_deadlines)
        if not await prepare():
            tasks.start_soon(prepare_until_done)
        yield
        tasks.cancel_scope.cancel()
    engine.dispose()


async def keep_deadlines() -> None:
    """Cuts overdue connections off, ten times a second."""
    while True:
        loans.cut_overdue()
        await anyio.sleep(CUTTING_INTERVAL)


async def prepare() -> bool:
    """Returns whether the tables are made now; logs the reason when not."""
    try:
        await run_sync(create_tables)
    except exc.SQLAlchemyError as error:
        where = settings.database_url.render_as_string(hide_password=True)
        logger.error("the database %s cannot be used, trying again: %s", where, reason(error))
    return Preparation.done


async def prepare_until_done() -> None:
    """Tries to make the tables until the database lets it."""
    while not await prepare():
        await anyio.sleep(PREPARATION_PAUSE)
    logger.info("the database is there")


def start_deadline() -> None:
    """Starts the time that a request has for the database."""
    if not Preparation.done:
        raise DatabaseNotReady("The tables are not made yet")
    deadline.set(time.monotonic() + REQUEST_BUDGET)


# Both are `async` so that they run where the request already is: a session connects
# on its first statement, in the endpoint's thread, and a thread of its own for making
# it would cost 100 to 200 µs.
async def reading_session() -> Session:
    """Returns a session for queries: each sees what is committed when it runs."""
    start_deadline()
    return Session(engine, expire_on_commit=False)


async def writing_session() -> Session:
    """Returns a session for changes, made in `with session.begin():`."""
    start_deadline()
    return Session(writing_engine, expire_on_commit=False)


ReadingSession = Annotated[Session, Depends(reading_session)]
WritingSession = Annotated[Session, Depends(writing_session)]
