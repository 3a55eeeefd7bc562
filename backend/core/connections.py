"""The connections and sessions of one database.

The pool rule: a session is opened and closed inside one worker thread, and the pool
has a connection for every worker thread and one for each thread beside them. So no
thread ever waits for a connection, no connection ever waits for a thread, and requests
cannot wait for each other in a circle, however many clients there are: the surplus
waits in one fair queue for a thread.

The commit rule: connections are in autocommit mode, so a reading session costs no
round trip but its query. A writing session makes a transaction: when its
`with writing() as session:` ends, COMMIT has returned, or the block has raised.
"""

import logging
import math
import select
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from sqlalchemy import URL, Connection, Dialect, ExceptionContext, create_engine, event, exc, func
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Queue
from sqlmodel import Session
from sqlmodel import select as sql_select

from backend.core.changes import NotingSession, Observer
from backend.core.deadlines import loans, remaining_time
from backend.core.resolver import resolver
from backend.core.tables import moment_after_on_sqlite

logger = logging.getLogger(__name__)

SHORTEST_CONNECT_TIMEOUT = 1  # libpq counts whole seconds, and 0 is for ever
BESIDE_WORKERS = 2  # threads: of the readiness check, and of what is costly

LONGEST_BUSY_TIMEOUT = 86_400.0  # seconds; SQLite has no word for "for ever"

BEGIN_ON_SQLITE = "BEGIN IMMEDIATE"
NOTHING_COMMITTED = "a statement of the transaction had failed, so nothing was committed"

# Where the drivers' classes of errors do not tell an outage from a defect.
WRONG_SQLITE_STATEMENT = "SQLITE_ERROR"
READ_ONLY_POSTGRES = "25006"


class FreeConnections(Queue[ConnectionPoolEntry]):
    """The pool's connections that nobody uses, waited for no longer than the request may take.

    Nobody waits for one who keeps the pool rule; sessions one in another break it.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        if block:
            timeout = min(remaining_time(), math.inf if timeout is None else timeout)
        return super().get(block, timeout)


class Pool(QueuePool):
    """SQLAlchemy's own pool, under the request's deadline."""

    __module__ = QueuePool.__module__  # its log stays SQLAlchemy's too
    _queue_class = FreeConnections


class DatabaseNotReady(exc.SQLAlchemyError):
    """The database cannot be used now, for a reason that is in the log."""


class Database:
    """One database: its pool of connections, its sessions, and whether they can be had."""

    def __init__(
        self, url: URL, *, pool_size: int, connect_timeout: int, request_timeout: float, echo: bool
    ) -> None:
        """Prepares the pool; connects to nothing yet. The timeouts are in seconds."""
        self.url = url
        self.on_sqlite = url.get_backend_name() == "sqlite"
        self.pool_size = pool_size
        self.connect_timeout = connect_timeout
        self.request_timeout = request_timeout
        self.ready = True  # `serving` takes it back until it is migrated
        self.observer: Observer | None = None  # of what is committed
        self.file = SQLiteFile(Path(url.database or "")) if self.on_sqlite else None
        self.engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            # Both are SQLAlchemy's defaults, and what is rolled back rests on them.
            skip_autocommit_rollback=False,
            pool_reset_on_return="rollback",
            poolclass=Pool,
            pool_size=pool_size + BESIDE_WORKERS,
            max_overflow=0,
            pool_use_lifo=True,
            echo=echo,
            hide_parameters=True,
        )
        self.writing_engine = self.engine.execution_options()  # the same pool, its own events
        event.listen(self.engine, "do_connect", self._connect)
        event.listen(self.engine, "checkout", self._check_out)
        event.listen(self.engine, "checkin", self._check_in)
        event.listen(self.engine, "close", self._check_in)  # in place of the check-in
        if self.on_sqlite:
            event.listen(self.writing_engine, "begin", begin_on_sqlite)
            event.listen(
                self.writing_engine, "before_cursor_execute", stay_in_transaction_on_sqlite
            )
            event.listen(self.writing_engine, "commit", commit_on_sqlite)
        else:
            event.listen(self.writing_engine, "begin", begin_on_postgres)
            event.listen(self.engine, "handle_error", give_up_read_only)

    def reading(self) -> Session:
        """Returns a session for queries, each of which sees what is committed when it runs.

        Use it as `with reading() as session:`. Raises `DatabaseNotReady`, or
        `exc.TimeoutError` when the request's time is over.
        """
        self._require()
        return Session(self.engine, expire_on_commit=False)

    def connect(self) -> Connection:
        """Returns a connection for queries that make no objects, at two thirds of the cost.

        Use it as `with database.connect() as connection:`. Raises as `reading` does.
        """
        self._require()
        return self.engine.connect()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yields a session for changes, all of them committed when the block ends, or none.

        Use it as `with writing() as session:`. Raises `DatabaseNotReady`, or
        `exc.TimeoutError` when the request's time is over.
        """
        self._require()
        with NotingSession(self.writing_engine, expire_on_commit=False) as session:
            is_committing = False
            try:
                with session.begin():
                    yield session
                    session.flush()  # so that everything is noted
                    if self.observer:
                        self.observer.before_commit(session, session.changes)
                    is_committing = True
            except exc.DBAPIError as error:
                if self.observer and is_committing and error.connection_invalidated:
                    self.observer.in_doubt(session.changes)
                raise
        if self.observer:
            self.observer.committed(session.changes)

    def connect_beside(self) -> Any:
        """Returns a connection of the driver that is not from the pool, and the caller's to close.

        Raises `exc.SQLAlchemyError` or the driver's error when there is none in time.
        """
        dialect = self.engine.dialect
        arguments, parameters = dialect.create_connect_args(self.url)
        made = self._connect(dialect, None, arguments, parameters)
        loans.take_back(made)
        return made

    def _require(self) -> None:
        # Before a connection is asked for: an error later would cost the connection.
        remaining_time()
        if not self.ready:
            raise DatabaseNotReady("The database is not migrated yet")

    def _connect(self, dialect: Dialect, record: Any, cargs: Any, cparams: Any) -> Any:
        if self.file:
            self.file.require()
            made = dialect.connect(*cargs, **cparams)
            self.file.remember()
            made.execute("PRAGMA foreign_keys = ON")
            made.create_function("moment_after", 1, moment_after_on_sqlite, deterministic=True)
            return made
        in_time = self._in_time(cparams)
        made = dialect.connect(*cargs, connection_factory=TransactionConnection, **in_time)
        loans.lend(made)
        try:
            self._require_utf8(made)
            if remaining_time() < math.inf:
                # What is cut off here must not go on for ever there.
                milliseconds = round(1000 * self.request_timeout)
                made.cursor().execute(f"SET statement_timeout = {milliseconds}")
        except Exception:  # whatever it was, the connection is nobody's now
            loans.take_back(made)
            made.close()
            raise
        return made

    def _require_utf8(self, made: Any) -> None:
        encoding = made.get_parameter_status("server_encoding")
        if encoding not in ("UTF8", None):  # a pooler in between may not say
            raise DatabaseNotReady(
                f"it is encoded in {encoding}, which cannot hold every text; make one with: "
                "createdb --encoding=UTF8 --template=template0"
            )

    def _in_time(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns the driver's parameters for connecting within the time that is left.

        Raises `exc.TimeoutError` when that is too little.
        """
        started = monotonic()
        seconds = self._connect_timeout(parameters)
        if not parameters.get("host") or "hostaddr" in parameters:
            return {**parameters, "connect_timeout": whole(min(seconds, remaining_time()))}
        names = str(parameters["host"]).split(",")
        ports = str(parameters.get("port", "")).split(",")
        if len(ports) == 1:
            ports *= len(names)
        found = resolver.find(names, min(seconds, remaining_time()) / 2)
        servers = [
            (name, address, port)
            for name, port in zip(names, ports, strict=True)
            for address in found.get(name, ())
        ]
        searched = math.floor(monotonic() - started)
        left = whole(min(seconds - searched, remaining_time()))
        host, hostaddr, port = (",".join(each) for each in zip(*servers, strict=True))
        return {
            **parameters,
            **{"host": host, "hostaddr": hostaddr, "port": port},
            # libpq takes the time for each address anew.
            "connect_timeout": max(left // len(servers), SHORTEST_CONNECT_TIMEOUT),
        }

    def _connect_timeout(self, parameters: dict[str, Any]) -> int:
        """Returns the seconds for connecting: the setting, or fewer where the URL says so."""
        asked = str(parameters.get("connect_timeout", 0))
        if not asked.lstrip("-").isdecimal():
            raise psycopg2.OperationalError(f"connect_timeout={asked} is no number of seconds")
        # libpq takes what is not positive as "for ever".
        return min(int(asked), self.connect_timeout) if int(asked) > 0 else self.connect_timeout

    def _check_out(self, made: Any, entry: ConnectionPoolEntry, proxy: Any) -> None:
        """Lends a connection for the rest of the request's time; a dead one is replaced."""
        loans.lend(made)
        if self.file:
            self.file.require()
            limit_waiting(made)
        elif made.closed or has_news(made):
            raise exc.DisconnectionError("The server has closed the connection")

    def _check_in(self, made: Any, entry: ConnectionPoolEntry) -> None:
        """Ends the loan of a connection."""
        loans.take_back(made)


def serialize(session: Session, name: str) -> None:
    """Lets only one transaction at a time past this point with this name, until it ends.

    For what finds its rows by a condition: two such could each wait for the other's rows.
    SQLite has a single writer anyway.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.exec(sql_select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def is_outage(error: Exception) -> bool:
    """Returns whether the database is away, hangs, is locked or full; else the defect is ours."""
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, DatabaseNotReady | exc.TimeoutError)
    if getattr(error.orig, "sqlite_errorname", "") == WRONG_SQLITE_STATEMENT:
        return False
    return error.connection_invalidated or isinstance(
        error, exc.OperationalError | exc.InterfaceError
    )


def reason(error: exc.SQLAlchemyError) -> str:
    """Returns what the driver said, on one line and without any values of a row."""
    said = getattr(error, "orig", error)
    primary = getattr(getattr(said, "diag", None), "message_primary", None)
    return " ".join((primary or str(said)).split())


def has_news(postgres_connection: Any) -> bool:
    """Returns whether an idle PostgreSQL connection has something to read.

    Nothing was asked, so it is the server's goodbye. This costs 1 µs, where asking
    `SELECT 1` first, as `pool_pre_ping` does, costs 70.
    """
    poll = select.poll()
    poll.register(postgres_connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def whole(seconds: float) -> int:
    """Returns the whole seconds, as libpq counts. Raises `exc.TimeoutError` for less than one."""
    if seconds < SHORTEST_CONNECT_TIMEOUT:
        raise exc.TimeoutError("Too little of the request's time is left for connecting")
    return math.floor(seconds)


# What follows makes transactions.


def limit_waiting(sqlite_connection: Any) -> None:
    """Lets SQLite wait for a lock until the deadline; it cannot be cut off while it does."""
    milliseconds = round(1000 * min(remaining_time(), LONGEST_BUSY_TIMEOUT))
    sqlite_connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def begin_on_sqlite(connected: Connection) -> None:
    """Begins as a writer: a transaction that reads first would then find SQLite locked."""
    connected.exec_driver_sql(BEGIN_ON_SQLITE)


def stay_in_transaction_on_sqlite(
    connected: Connection, cursor: Any, statement: str, *more: Any
) -> None:
    """Refuses a further statement when SQLite has taken the transaction back.

    It does so by itself after some errors, such as being cut off or a full disk. Where
    such an error was caught, the statement would be committed alone.
    """
    if statement != BEGIN_ON_SQLITE:
        require_transaction(connected)


def commit_on_sqlite(connected: Connection) -> None:
    """Lets COMMIT, which waits for readers, wait only for what is left of the time.

    Raises when there is nothing to commit any more; see `stay_in_transaction_on_sqlite`.
    """
    require_transaction(connected)
    limit_waiting(connected.connection.driver_connection)


def require_transaction(connected: Connection) -> None:
    """Raises `exc.InternalError`, as PostgreSQL's driver does, when SQLite is in no transaction."""
    driver_connection: Any = connected.connection.driver_connection
    if not driver_connection.in_transaction:
        raise exc.InternalError(None, None, sqlite3.InternalError(NOTHING_COMMITTED))


def give_up_read_only(context: ExceptionContext) -> None:
    """Lets go of a PostgreSQL connection that may only read, as if it were lost.

    Sessions are so after a failover, or while a disk is full, and stay as they began when the
    server may write again; a new one may then too.
    """
    if getattr(context.original_exception, "pgcode", "") == READ_ONLY_POSTGRES:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False  # others may go on reading


def begin_on_postgres(connected: Connection) -> None:
    """Begins with the first statement."""
    driver_connection: Any = connected.connection.driver_connection
    driver_connection.begin()


class SQLiteFile:
    """SQLite's file, watched: a connection goes on with one that was deleted, as if nothing was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._unsaid = Lock()  # of several threads, one can take it

    def remember(self) -> None:
        """Notes which file the connections have open."""
        if self._identity is None:
            self._identity = self._look()

    def require(self) -> None:
        """Raises `DatabaseNotReady` when the file in use is no longer where it was."""
        if self._identity is None or self._look() == self._identity:
            return
        if self._unsaid.acquire(blocking=False):
            logger.error(
                "%s was deleted or replaced while the API used it; start the API again, "
                "and stop it before you do that",
                self.path,
            )
        raise DatabaseNotReady("its file is gone")

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


class TransactionConnection(connection):
    """psycopg2's connection in autocommit mode, on which `begin` starts a transaction all the same.

    The driver by itself sends BEGIN alone and waits for the answer. Here it travels with
    the first statement, which saves a tenth of the time of a create (the benchmark).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocommit = True
        self.cursor_factory = TransactionCursor
        self.begins = False

    def begin(self) -> None:
        """Makes the next statement the first of a transaction."""
        self.begins = True

    def commit(self) -> None:
        """Ends the transaction, if there is one, for good.

        Raises `psycopg2.errors.InFailedSqlTransaction` when a statement in it has failed,
        whose error was caught: PostgreSQL then takes everything back without a word.
        """
        if self._end("COMMIT") == "ROLLBACK":
            raise psycopg2.errors.InFailedSqlTransaction(NOTHING_COMMITTED)

    def rollback(self) -> None:
        """Takes the transaction back, if there is one."""
        self._end("ROLLBACK")

    def _end(self, statement: str) -> str | None:
        self.begins = False
        if self.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            return None
        with self.cursor() as ending:
            ending.execute(statement)
            return ending.statusmessage


class TransactionCursor(cursor):
    """A cursor of a `TransactionConnection`."""

    connection: TransactionConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name
        """Sends a statement, with BEGIN before it where the transaction is to start."""
        if self.connection.begins:
            self.connection.begins = False
            query = f"BEGIN; {query}"
        super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Sends a statement for each of the values, after a BEGIN of its own."""
        if self.connection.begins:
            self.connection.begins = False
            super().execute("BEGIN")
        super().executemany(query, vars_list)
