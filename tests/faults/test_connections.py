"""Rows 8 and 16: a connection that ends, at either side, costs nobody else anything."""

import socket
import struct
from pathlib import Path

import psutil
import pytest

from tests.databases import holding
from tests.faults.clients import read_or_write, report
from tests.faults.postgres import end_sessions, sessions
from tests.helpers import at_once, wait_until
from tests.servers import serve

WORKER_THREADS = 20

LOCKS = {
    "sqlite": ("BEGIN EXCLUSIVE",),
    "postgresql": ("BEGIN", "LOCK TABLE todos IN ACCESS EXCLUSIVE MODE"),
}


def test_cut_idle_connections_fail_no_request(own_postgres_url: str, log_path: Path) -> None:
    with serve(own_postgres_url, log_path) as server, server.client() as client:
        at_once(60, lambda number: read_or_write(client, number))
        cut = end_sessions(own_postgres_url)
        after = at_once(50, lambda number: read_or_write(client, number))
    statuses = [answer.status for answer in after]
    report("8", cut=cut, failed=sum(status >= 300 for status in statuses))
    assert cut > 1
    assert set(statuses) == {200, 201}


@pytest.mark.slow
def test_clients_that_hang_up_leave_nothing_behind(own_database_url: str, log_path: Path) -> None:
    body = b'{"title": "nobody waits for this"}'
    head = (
        b"POST /api/todos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with serve(own_database_url, log_path) as server:
        process = psutil.Process(server.process.pid)
        threads, files = process.num_threads(), process.num_fds()
        with holding(own_database_url, *LOCKS[own_database_url.partition(":")[0]]):
            connections = []
            for number in range(200):
                connection = socket.create_connection(("127.0.0.1", server.port))
                connection.sendall(head + (body if number % 2 else body[:10]))
                connections.append(connection)
            wait_until(lambda: process.num_fds() >= files + len(connections), within=5)
            wait_until(lambda: process.num_threads() >= threads + WORKER_THREADS - 1, within=5)
            for connection in connections:
                reset(connection)
        released = wait_until(lambda: process.num_fds() <= files + WORKER_THREADS, within=15)
        more_threads, more_files = process.num_threads() - threads, process.num_fds() - files
        with server.client() as client:
            answers = at_once(60, lambda number: read_or_write(client, number))
        if own_database_url.startswith("postgresql"):
            assert set(sessions(own_database_url)) <= {"idle"}
            assert len(sessions(own_database_url)) <= WORKER_THREADS + 1
    report("16", released=released, more_threads=more_threads, more_files=more_files)
    assert more_threads <= WORKER_THREADS
    assert {answer.status for answer in answers} == {200, 201}
    assert "Traceback" not in server.log


def reset(connection: socket.socket) -> None:
    """Ends a connection at once, with a reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
