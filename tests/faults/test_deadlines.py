"""What keeps the deadlines goes on, whatever becomes of a single connection."""

import math
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import anyio
import pytest

from backend.core.deadlines import keep_deadlines, loans, start_deadline

LONG_QUERY = (
    "WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter) "
    "SELECT count(*) FROM (SELECT n FROM counter LIMIT 50000000)"
)


@pytest.fixture
def broken() -> Iterator[object]:
    """A loan that nobody can cut off, and that begins before all others."""
    connection = object()
    start_deadline(0)
    loans.lend(connection)
    yield connection
    loans.take_back(connection)
    start_deadline(math.inf)


def test_connection_that_cannot_be_cut_off_spares_no_other(
    broken: object, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_for_sqlite() -> float:
        with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
            start_deadline(0.3)
            loans.lend(connection)
            started = time.monotonic()
            try:
                with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                    connection.execute(LONG_QUERY).fetchall()
            finally:
                loans.take_back(connection)
            return time.monotonic() - started

    async def keep_for_a_while() -> None:
        with anyio.move_on_after(1):
            await keep_deadlines()

    with ThreadPoolExecutor(1) as background:
        waiting = background.submit(wait_for_sqlite)
        anyio.run(keep_for_a_while)
        assert waiting.result() < 0.9
    assert "a connection could not be cut off" in caplog.text
