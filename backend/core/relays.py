"""The word between processes: what one has committed, the clients of all others hear.

On PostgreSQL by LISTEN and NOTIFY, on a connection of this process's own. A NOTIFY in the
transaction would need no more than that, but takes a lock of the whole server at COMMIT, so
that commits cannot share a write to the disk. So it follows soon after the commit. Nothing is
missed all the same: who is there is known, and when a process vanishes between its commit and
its word, or comes to a standstill, or when the connection is lost, all are told that something
may have been missed. A process whose connection is not there notifies in the transaction.

On SQLite by a mark in the file's header, which each transaction changes, and which a process
looks at twenty times a second. What changed then is not known, only that something did.
Messages and numbers of clients do not cross between processes there.
"""

import json
import logging
import os
import random
import select
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg2
from sqlalchemy import Connection, Engine, event, exc, func
from sqlmodel import Session
from sqlmodel import select as sql_select

from backend.core.changes import Changes
from backend.core.connections import Database, reason
from backend.core.deadlines import loans, start_deadline

logger = logging.getLogger(__name__)

CHANNEL = "live"
MOST_OUTGOING = 1000  # payloads that wait to be sent
MAX_PAYLOAD = 7500  # bytes; PostgreSQL takes 7,999
APPLICATION = "live of the API"  # what pg_stat_activity calls our connections

BEAT = 1.0  # seconds between two looks at who is there
STANDSTILL = 5.0  # seconds without a beat until the others give a process up
OWN_STANDSTILL = 4.0  # before they do, it starts anew; also without an answer to a beat
LAST_WORDS = 1.0  # seconds for them, at the end
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds until the next try to connect

LOOK = 0.05  # seconds between two looks at SQLite's file
MARKS = 100  # that are remembered; the file has one of the last ones

WHO_IS_THERE = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s
    AND coalesce(state_change, clock_timestamp()) > clock_timestamp() - make_interval(secs => %s)
"""


class Listener(Protocol):
    """Whom a relay tells; each is called in the relay's thread."""

    def linked(self) -> None:
        """Is called when the others hear us and we hear them: from now on, and anew."""

    def heard(self, sender: int, kind: str, entries: list[Any]) -> None:
        """Is called with what another process says."""

    def missed(self) -> None:
        """Is called when anything may have been changed without a word."""

    def gone(self, sender: int) -> None:
        """Is called when another process has said goodbye."""

    def lost(self, sender: int) -> None:
        """Is called when another process has vanished, or does not run."""


class Relay(Protocol):
    """The way from this process to the others and back."""

    def start(self, listener: Listener) -> None:
        """Begins to listen."""

    def stop(self) -> None:
        """Says what is still to be said, and ends."""

    def before_commit(self, session: Session, changes: Changes) -> None:
        """Does in the transaction what must be done there."""

    def say(self, kind: str, entries: Iterable[Any]) -> None:
        """Tells all other processes; from any thread, without waiting."""


def relay_for(database: Database) -> Relay:
    """Returns the relay of a kind of database."""
    if database.on_sqlite:
        return SQLiteRelay(Path(database.url.database or ""), database.writing_engine)
    return PostgresRelay(database)


def payloads(kind: str, entries: Iterable[Any]) -> Iterator[str]:
    """Yields the entries of one kind as JSON texts, each short enough to be sent."""
    packed: list[str] = []
    size = 0
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":"))
        if packed and size + len(text) > MAX_PAYLOAD:
            yield f'["{kind}",{",".join(packed)}]'
            packed, size = [], 0
        packed.append(text)
        size += len(text) + 1
    if packed:
        yield f'["{kind}",{",".join(packed)}]'


def entries_of(changes: Changes) -> list[Any]:
    """Returns changes as JSON has them."""
    return [
        [resource, whose, None if ids is None else sorted(ids)]
        for (resource, whose), ids in changes.items()
    ]


class PostgresRelay:
    """A connection that listens and notifies, and the thread that keeps it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._linked = False
        self._stopping = False
        self._outgoing: deque[str] = deque()
        self._overflown = False
        self._others: set[int] = set()  # processes, by the pid of their connection's server
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def start(self, listener: Listener) -> None:
        self.listener = listener
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._nudge()
        self._thread.join(LAST_WORDS)

    def before_commit(self, session: Session, changes: Changes) -> None:
        if not self._linked:
            for payload in payloads("changed", entries_of(changes)):
                session.exec(sql_select(func.pg_notify(CHANNEL, payload)))

    def say(self, kind: str, entries: Iterable[Any]) -> None:
        for payload in payloads(kind, entries):
            if len(self._outgoing) < MOST_OUTGOING:
                self._outgoing.append(payload)
            else:
                self._overflown = True
        self._nudge()

    def _nudge(self) -> None:
        with suppress(BlockingIOError):  # it has been nudged often enough
            os.write(self._wake, b".")

    def _run(self) -> None:
        pause = 0.0
        said = ""
        while not self._stopping:
            try:
                start_deadline(OWN_STANDSTILL)
                with closing(self._database.connect_beside()) as connection:
                    self._link(connection)
                    pause, said = FIRST_PAUSE, ""
                    self._serve(connection)
            except (psycopg2.Error, exc.SQLAlchemyError, OSError, Standstill) as error:
                # Until the database is ready, its own line says why it is not.
                if self._database.ready and (why := reason_of(error)) != said:
                    said = why
                    logger.warning("live: the word between processes is interrupted: %s", why)
            except Exception:  # a defect must not end the word for good
                logger.exception("live: the word between processes is interrupted")
            finally:
                self._linked = False
            if not self._stopping:
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads, hides nothing
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)

    def _link(self, connection: Any) -> None:
        """Begins to listen, and says so to the others."""
        self._execute(connection, "SELECT set_config('application_name', %s, false)", APPLICATION)
        self._execute(connection, f"LISTEN {CHANNEL}")
        self._others = self._present(connection)
        self._notify(connection, '["hello"]')
        self._linked = True
        self.listener.linked()

    def _serve(self, connection: Any) -> None:
        """Sends and hears for as long as the connection lives."""
        poll = select.poll()  # select() takes no descriptor beyond 1,023
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        last = time.monotonic()
        while not self._stopping or self._outgoing:
            self._send(connection)
            ready = poll.poll(max(0, 1000 * (last + BEAT - time.monotonic())))
            if (self._woken, select.POLLIN) in ready:
                os.read(self._woken, 4096)
            connection.poll()
            if time.monotonic() - last > OWN_STANDSTILL:
                raise Standstill
            if time.monotonic() - last >= BEAT:
                self._beat(connection)
                last = time.monotonic()
            self._hear(connection)
        self._notify(connection, '["bye"]')

    def _send(self, connection: Any) -> None:
        while self._outgoing:
            self._notify(connection, self._outgoing[0])
            self._outgoing.popleft()  # when it is sent: what may not have been is sent again
        if self._overflown:
            self._overflown = False
            self._notify(connection, '["missed"]')

    def _notify(self, connection: Any, payload: str) -> None:
        self._execute(connection, f"SELECT pg_notify('{CHANNEL}', %s)", payload)

    def _hear(self, connection: Any) -> None:
        notices, connection.notifies = connection.notifies, []
        for notice in notices:
            if notice.pid == connection.info.backend_pid:
                continue
            try:
                kind, *entries = json.loads(notice.payload)
            except (ValueError, TypeError):  # some other program's
                continue
            if kind == "hello":
                if notice.pid in self._others:  # of a process that had the same number
                    self._lose(notice.pid)
                self._others.add(notice.pid)
            elif kind == "bye":
                self._others.discard(notice.pid)
                self.listener.gone(notice.pid)
                continue
            elif kind == "missed":
                self.listener.missed()
            self.listener.heard(notice.pid, kind, entries)

    def _beat(self, connection: Any) -> None:
        """Shows that this process goes on, and looks whether the others do."""
        self._hear(connection)
        known = set(self._others)
        present = self._present(connection)
        self._hear(connection)  # who has said goodbye meanwhile
        taken_leave = known - self._others
        for pid in known - taken_leave - present:
            self._lose(pid)
        self._others |= present - taken_leave

    def _lose(self, pid: int) -> None:
        self._others.discard(pid)
        self.listener.lost(pid)

    def _present(self, connection: Any) -> set[int]:
        rows = self._execute(connection, WHO_IS_THERE, APPLICATION, STANDSTILL)
        return {pid for (pid,) in rows} - {connection.info.backend_pid}

    def _execute(self, connection: Any, statement: str, *values: Any) -> list[Any]:
        start_deadline(OWN_STANDSTILL)
        loans.lend(connection)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            loans.take_back(connection)


class Standstill(Exception):
    """This process did not run for a while: the others have given it up."""


def reason_of(error: Exception) -> str:
    """Returns why the connection was lost, on one line."""
    if isinstance(error, exc.SQLAlchemyError):
        return reason(error)
    return " ".join(str(error).split()) or "this process stood still"


class SQLiteRelay:
    """The mark in SQLite's file, changed by each transaction that changes rows.

    Each mark is random, so a process knows its own, and knows those of others as unknown. The
    transaction that replaces one sees it, and so does the next look: whatever the order, no
    other process's commit goes unseen. `PRAGMA data_version` tells besides of a program that
    makes no marks.
    """

    def __init__(self, path: Path, writing_engine: Engine) -> None:
        self._path = path
        self._known: deque[int] = deque(maxlen=MARKS)
        self._last: tuple[int, int] | None = None
        self._listener: Listener | None = None
        self._stopping = threading.Event()
        event.listen(writing_engine, "begin", self._begin)
        event.listen(writing_engine, "commit", self._mark)

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(LAST_WORDS)

    def before_commit(self, session: Session, changes: Changes) -> None:
        """Does nothing: every transaction leaves its mark."""

    def say(self, kind: str, entries: Iterable[Any]) -> None:
        """Does nothing: the mark says what can be said."""

    def _begin(self, connected: Connection) -> None:
        connection: Any = connected.connection.driver_connection
        connected.info["changed_before"] = connection.total_changes

    def _mark(self, connected: Connection) -> None:
        """Leaves a new mark as the last thing of a transaction, while nobody else can write."""
        connection: Any = connected.connection.driver_connection
        if connection.total_changes == connected.info["changed_before"]:
            return
        self._see(connected.exec_driver_sql("PRAGMA user_version").scalar_one())
        mark = random.randrange(1, 2**31)  # noqa: S311 - differs, hides nothing
        self._known.append(mark)
        connected.exec_driver_sql(f"PRAGMA user_version = {mark}")

    def _see(self, mark: int) -> None:
        if mark not in self._known:
            self._known.append(mark)
            if self._listener:
                self._listener.missed()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(sqlite3.Error):  # there is no file yet, or somebody locks it
                address = f"{self._path.as_uri()}?mode=ro"
                with closing(sqlite3.connect(address, timeout=0, uri=True)) as connection:
                    connection.isolation_level = None
                    self._last = None
                    self._watch(connection)
            self._stopping.wait(LOOK)

    def _watch(self, connection: sqlite3.Connection) -> None:
        while not self._stopping.is_set():
            with suppress(sqlite3.OperationalError):  # it is locked: the next look sees it
                self._look(connection)
            self._stopping.wait(LOOK)

    def _look(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        try:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            (mark,) = connection.execute("PRAGMA user_version").fetchone()
        finally:
            connection.execute("COMMIT")
        last, self._last = self._last, (version, mark)
        self._see(mark)
        if self._listener and (last is None or (last[0] != version and last[1] == mark)):
            self._listener.missed()
