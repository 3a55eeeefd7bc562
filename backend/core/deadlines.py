"""Deadlines: every request's use of the database ends in time, whatever the database does.

A connection is lent until the deadline of its request. Whoever overstays is cut off from
outside, ten times a second. No timeout of a server can do that to a database that hangs,
and no timeout of libpq does it while the other side's kernel still answers. What runs
outside of a request, such as a script, has no deadline unless it starts one.
"""

import logging
import math
import socket
import sqlite3
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import psycopg2
from sqlalchemy import exc
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

# The last tenth of a request's time is for sending the answer.
SHARE_OF_DATABASE = 0.9
CUTTING_INTERVAL = 0.1  # seconds

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def start_deadline(seconds: float) -> None:
    """Gives the current request, or task, this time for the database, from now on."""
    _deadline.set(time.monotonic() + seconds)


def remaining_time() -> float:
    """Returns the seconds left, `math.inf` where there is no deadline.

    Raises `exc.TimeoutError` when there are none.
    """
    remaining = _deadline.get() - time.monotonic()
    if remaining <= 0:
        raise exc.TimeoutError("The request waited too long for its turn")
    return remaining


class RequestDeadline:
    """ASGI middleware that starts the time of each request, in seconds, when it arrives."""

    def __init__(self, app: ASGIApp, request_timeout: float) -> None:
        self.app = app
        self.budget = SHARE_OF_DATABASE * request_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # a WebSocket stays open
            start_deadline(self.budget)
        await self.app(scope, receive, send)


class Loans:
    """The driver's connections in use, and until when."""

    def __init__(self) -> None:
        self._deadlines: dict[Any, float] = {}
        # So that a connection is never cut for the one who had it before.
        self._lock = threading.Lock()

    def lend(self, connection: Any) -> None:
        """Notes that the current request uses a connection."""
        with self._lock:
            self._deadlines[connection] = _deadline.get()

    def take_back(self, connection: Any) -> None:
        """Notes that a connection is no longer in use."""
        with self._lock:
            self._deadlines.pop(connection, None)

    def cut_overdue(self) -> None:
        """Cuts off every connection whose deadline has passed; its user gets an error.

        SQLite forgets a cut that comes between two statements, so its connections are cut
        again and again until they are given back.
        """
        self._cut_before(time.monotonic())

    def cut_all(self) -> None:
        """Cuts off every connection in use: nobody waits for its answer any more."""
        self._cut_before(math.inf)

    def _cut_before(self, moment: float) -> None:
        with self._lock:
            overdue = [each for each, deadline in self._deadlines.items() if deadline <= moment]
            for connection in overdue:
                try:
                    cut(connection)
                except Exception:  # the others are cut all the same, and this one tried again
                    logger.exception("a connection could not be cut off")


loans = Loans()


def cut(connection: Any) -> None:
    """Ends whatever a connection is waiting for, from another thread."""
    with suppress(OSError, sqlite3.Error, psycopg2.Error):  # it has ended by itself
        if isinstance(connection, sqlite3.Connection):
            connection.interrupt()
        else:
            its_socket = socket.socket(fileno=connection.fileno())
            try:
                its_socket.shutdown(socket.SHUT_RDWR)
            finally:
                its_socket.detach()  # it is the driver's


async def keep_deadlines() -> None:
    """Cuts overdue connections off for as long as the process serves."""
    while True:
        loans.cut_overdue()
        await anyio.sleep(CUTTING_INTERVAL)
