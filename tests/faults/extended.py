"""The app with routes of somebody who builds on it, and who makes each mistake there is."""

import gc
import time
from contextlib import ExitStack, suppress

from fastapi import APIRouter
from psycopg2.extensions import connection
from sqlalchemy import exc, text

from backend.database import reading, writing
from backend.main import app

LONG_QUERIES = {
    "sqlite": (
        "WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter) "
        "SELECT count(*) FROM (SELECT n FROM counter LIMIT 500000000)"
    ),
    "postgresql": "SELECT pg_sleep(30)",
}

router = APIRouter()


@router.post("/failures/{how}", responses={404: {"description": "No such way to fail"}})
def add_in_spite_of_a_failure(how: str, word: str) -> str:
    """Adds a word after another statement has failed, whose error is caught."""
    failing = {
        "harmless": "INSERT INTO words VALUES ('taken')",
        "fatal": "INSERT OR ROLLBACK INTO words VALUES ('taken')",  # SQLite's own
    }[how]
    with writing() as session:
        session.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})
        with suppress(exc.IntegrityError):
            session.execute(text(failing))
    return word


@router.post("/failures")
def fail_fatally_and_go_on(word: str) -> str:
    """Adds a word after SQLite has taken the whole transaction back."""
    with writing() as session:
        with suppress(exc.IntegrityError):
            session.execute(text("INSERT OR ROLLBACK INTO words VALUES ('taken')"))
        session.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})
    return word


@router.post("/defects")
def fail_after_adding(word: str) -> str:
    """Adds a word, and fails with an error of one's own."""
    with writing() as session:
        session.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})
        raise LookupError("a defect of the route")


@router.get("/words")
def list_words() -> list[str]:
    """Lists all words."""
    with reading() as session:
        return list(session.execute(text("SELECT word FROM words ORDER BY word")).scalars())


@router.get("/pauses")
def query_after_a_pause(seconds: float) -> int:
    """Asks the database twice: for a word, and, after these seconds, for what takes long."""
    with reading() as session:
        session.execute(text("SELECT word FROM words")).all()
        time.sleep(seconds)
        dialect = session.get_bind().dialect.name
        session.execute(text(LONG_QUERIES[dialect])).all()
    return 1


@router.get("/nested")
def open_sessions_one_in_another(seconds: float = 0) -> int:
    """Needs more connections at once than there are, after so many seconds."""
    time.sleep(seconds)
    with ExitStack() as opened:
        sessions = [opened.enter_context(reading()) for _ in range(10)]
        rows = [each.execute(text("SELECT 1")).all() for each in sessions]
    return len(rows)


@router.get("/connections")
async def count_closed_connections() -> int:
    """Counts the driver's connections that are closed, and that something still refers to."""
    gc.collect()
    return sum(isinstance(each, connection) and each.closed != 0 for each in gc.get_objects())


app.include_router(router)
