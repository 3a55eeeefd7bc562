"""The start: tables made as soon as the database lets us, and whether we can serve.

A database that is down does not stop the start. The process says so in its log, answers
503, and tries again every second.
"""

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.to_thread import current_default_thread_limiter, run_sync
from sqlalchemy import Connection, exc, func, select
from sqlmodel import SQLModel

from backend.database import ON_SQLITE, Tables, engine, reason, writing_engine
from backend.deadlines import keep_deadlines, start_deadline
from backend.models import POSTGRES_SEARCH_INDEX
from backend.settings import settings

logger = logging.getLogger(__name__)

READINESS_BUDGET = 2.0  # seconds
TABLES_BUDGET = 60.0
TABLES_PAUSE = 1.0

# Any constant will do, as long as all workers take the same.
TABLES_LOCK = 7_060_451

# Before 3.51.3, two connections can corrupt a WAL file: sqlite.org/wal.html#walresetbug
SQLITE_JOURNAL = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "DELETE"

# SQLite answers `SELECT 1` without looking at its file.
PING = "SELECT 1 FROM sqlite_schema" if ON_SQLITE else "SELECT 1"

readiness_limiter = anyio.CapacityLimiter(1)


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Keeps the database usable: tables made, deadlines kept, connections closed at the end."""
    current_default_thread_limiter().total_tokens = settings.db_pool_size
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_deadlines)
        if not await try_tables():
            tasks.start_soon(try_tables_again)
        yield
        tasks.cancel_scope.cancel()
    engine.dispose()


async def is_ready() -> bool:
    """Returns whether the database answers within two seconds."""
    start_deadline(READINESS_BUDGET)
    try:
        await run_sync(ping, limiter=readiness_limiter)
    except exc.SQLAlchemyError as error:
        logger.warning("not ready: %s", reason(error))
        return False
    return True


def ping() -> None:
    """Asks the database for an answer. Raises `exc.SQLAlchemyError` when there is none in time."""
    Tables.require()
    with engine.connect() as connection:
        connection.exec_driver_sql(PING)


async def try_tables() -> bool:
    """Returns whether the tables are made now; logs the reason when not."""
    start_deadline(TABLES_BUDGET)
    try:
        await run_sync(make_tables)
    except exc.SQLAlchemyError as error:
        where = settings.database_url.render_as_string(hide_password=True)
        logger.error("the database %s cannot be used, trying again: %s", where, reason(error))
    return Tables.made


async def try_tables_again() -> None:
    """Tries to make the tables until the database lets it."""
    while not await try_tables():
        await anyio.sleep(TABLES_PAUSE)
    logger.info("the database is there")


def make_tables() -> None:
    """Makes the tables and indexes that are not there yet; several workers may do so at once."""
    if ON_SQLITE:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA journal_mode = {SQLITE_JOURNAL}")
    with writing_engine.begin() as connection:
        if not ON_SQLITE:
            milliseconds = round(1000 * TABLES_BUDGET)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
        SQLModel.metadata.create_all(connection)
        if not ON_SQLITE:
            make_search_index(connection)
    Tables.made = True


def make_search_index(connection: Connection) -> None:
    """Makes the index for searching where the server has what it needs."""
    try:
        with connection.begin_nested():
            for statement in POSTGRES_SEARCH_INDEX:
                connection.exec_driver_sql(statement)
    except exc.DBAPIError as error:
        logger.warning("search will read the whole table: %s", reason(error))
