"""The start and the end of serving: database migrated, readiness told, the end announced.

A database that is down does not stop the start. The process says so in its log, answers
503, and tries again every second.
"""

import asyncio
import logging
import os
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import anyio
from anyio.to_thread import current_default_thread_limiter, run_sync
from sqlalchemy import exc

from backend.core.connections import Database, reason
from backend.core.deadlines import keep_deadlines, loans, start_deadline
from backend.core.migrations import AnotherMigrates, Migrations
from backend.core.problems import NotReady

logger = logging.getLogger(__name__)

READINESS_BUDGET = 2.0  # seconds
MIGRATION_PAUSE = 1.0
LOCK_PAUSE = 0.2  # until the next look whether the process that migrates has done so
PATIENCE = 2.0  # then the process listens, though the first try to migrate goes on

# Before 3.51.3, two connections can corrupt a WAL file: sqlite.org/wal.html#walresetbug
SQLITE_JOURNAL = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "DELETE"

readiness_limiter = anyio.CapacityLimiter(1)  # so it takes one connection, and no worker thread


@asynccontextmanager
async def serving(
    database: Database, migrations: Migrations, *, shutdown_delay: float
) -> AsyncIterator[None]:
    """Keeps the database usable for as long as the process serves.

    It is migrated, deadlines kept, the end is announced `shutdown_delay` seconds before
    it comes, and connections are closed then.
    """
    current_default_thread_limiter().total_tokens = database.pool_size
    with announced_shutdown(shutdown_delay):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_deadlines)
            tried = anyio.Event()
            tasks.start_soon(make_ready, database, migrations, tried)
            with anyio.move_on_after(PATIENCE):
                await tried.wait()
            yield
            tasks.cancel_scope.cancel()
    # A thread that still waits for the database has nobody to answer, and would hold up the exit.
    database.ready = False
    loans.cut_all()
    database.engine.dispose()


async def make_ready(database: Database, migrations: Migrations, tried: anyio.Event) -> None:
    """Migrates the database as soon as it lets us; says why it does not yet.

    Sets `tried` when the first try has come to its end, for good or ill.
    """
    database.ready = False
    said = ""
    while not database.ready:
        try:
            await run_sync(prepare, database, migrations, abandon_on_cancel=True)
            database.ready = True
        except AnotherMigrates:
            await anyio.sleep(LOCK_PAUSE)
        except Exception as error:
            known = error if isinstance(error, exc.SQLAlchemyError) else None
            why = reason(known) if known else repr(error)
            if why != said:
                said = why
                where = database.url.render_as_string(hide_password=True)
                logger.error(
                    "the database %s cannot be used, trying again: %s",
                    *(where, said),
                    exc_info=known is None,
                )
            tried.set()
            await anyio.sleep(MIGRATION_PAUSE)
    tried.set()
    if said:
        logger.info("the database is there")
    await run_sync(migrations.make_search_indexes, abandon_on_cancel=True)


def prepare(database: Database, migrations: Migrations) -> None:
    """Brings the database to where the models are; several processes may do so at once."""
    if database.on_sqlite:
        start_deadline(READINESS_BUDGET)
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA journal_mode = {SQLITE_JOURNAL}")
    migrations.run()


class Shutdown:
    """Whether the process has been told to stop."""

    announced = False


async def require_ready(database: Database) -> None:
    """Raises `NotReady`, a 503, when the process was told to stop or the database is silent."""
    if Shutdown.announced:
        raise NotReady("The process is shutting down")
    start_deadline(READINESS_BUDGET)
    try:
        await run_sync(ping, database, limiter=readiness_limiter)
    except exc.SQLAlchemyError as error:
        logger.warning("not ready: %s", reason(error))
        raise NotReady("The database does not answer") from None


def ping(database: Database) -> None:
    """Asks the database for an answer. Raises `exc.SQLAlchemyError` when there is none in time."""
    with database.reading() as session:
        # SQLite answers `SELECT 1` without looking at its file.
        source = " FROM sqlite_schema" if database.on_sqlite else ""
        session.connection().exec_driver_sql(f"SELECT 1{source}")


@contextmanager
def announced_shutdown(delay: float) -> Iterator[None]:
    """Puts seconds between SIGTERM and what the server does about it.

    Meanwhile all is served but readiness, so that a load balancer finds out first and
    sends no more. The server then stops listening and finishes what is under way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a test client's thread, where signals cannot be had
        return
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL:  # a program that runs the app without a server of its own
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    def announce(number: int, frame: FrameType | None) -> None:
        Shutdown.announced = True
        loop.call_soon_threadsafe(loop.call_later, delay, stop, number, frame)

    signal.signal(signal.SIGTERM, announce)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        Shutdown.announced = False
