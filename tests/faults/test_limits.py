"""Rows 17 and 20: too large a body is refused cheaply, and a browser can read every error."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.databases import execute, holding
from tests.faults.clients import report
from tests.servers import Server, serve

MEGABYTE = 1024 * 1024
HUGE = 200 * MEGABYTE
ORIGIN = "http://localhost:3000"

BODIES = {
    "declared": (b"Content-Length: %d" % HUGE, b"", b""),
    "chunked": (b"Transfer-Encoding: chunked", b"%x\r\n" % MEGABYTE, b"\r\n"),
    "longer than declared": (b"Content-Length: 100", b"", b""),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
def test_huge_body_is_refused_without_being_kept(server: Server, kind: str) -> None:
    header, before, after = BODIES[kind]
    process = psutil.Process(server.process.pid)
    memory = process.memory_info().rss
    growth = sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = b"POST /api/todos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(head + header + b"\r\n\r\n")
        chunk = before + b" " * MEGABYTE + after
        with suppress(ConnectionError):  # the server may close
            while sent < HUGE:
                connection.sendall(chunk)
                sent += MEGABYTE
                growth = max(growth, process.memory_info().rss - memory)
        answer = receive_all(connection)
    report(
        f"17, {kind}",
        sent=f"{sent // MEGABYTE} MB",
        growth=f"{growth / MEGABYTE:.1f} MB",
        answer=answer.partition(b"\r\n")[0].decode() or "closed",
    )
    assert growth < 20 * MEGABYTE
    assert not answer or answer.split()[1] in (b"400", b"413", b"422")
    with server.client() as client:
        assert client.get("/health").status_code == 200


def receive_all(connection: socket.socket) -> bytes:
    """Returns what the server has said until it closes or says no more."""
    answer = b""
    connection.settimeout(1)
    with suppress(ConnectionError, TimeoutError):
        while part := connection.recv(65536):
            answer += part
    return answer


BREAK_WRITES = {
    "sqlite": (
        "CREATE TRIGGER broken BEFORE INSERT ON todos BEGIN SELECT RAISE(ABORT, 'broken'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'broken'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON todos FOR EACH ROW EXECUTE FUNCTION break()",
    ),
}
LOCKS = {
    "sqlite": ("BEGIN EXCLUSIVE",),
    "postgresql": ("BEGIN", "LOCK TABLE todos IN ACCESS EXCLUSIVE MODE"),
}


@pytest.fixture
def browser(own_database_url: str, log_path: Path) -> Iterator[httpx2.Client]:
    """A client that says where its page is from, as a browser does."""
    with (
        serve(own_database_url, log_path, REQUEST_TIMEOUT="3") as server,
        server.client() as client,
    ):
        client.headers["Origin"] = ORIGIN
        yield client


@pytest.mark.slow
def test_browser_can_read_every_error(browser: httpx2.Client, own_database_url: str) -> None:
    kind = own_database_url.partition(":")[0]
    browser.post("/api/todos", json={"title": "here"})
    answers = [
        browser.get("/api/todos", headers={"Host": "evil.example"}),
        browser.get("/api/todos/2"),
        browser.get("/nowhere"),
        browser.put("/api/todos/stats"),
        browser.delete("/api/todos/1", headers={"If-Match": '"old"'}),
        browser.post("/api/todos", content=b" " * 2 * MEGABYTE),
        browser.post("/api/todos", content=b"{}", headers={"Content-Type": "text/plain"}),
        browser.post("/api/todos", json={}),
    ]
    with holding(own_database_url, *LOCKS[kind]):
        answers.append(browser.get("/api/todos"))
    execute(own_database_url, *BREAK_WRITES[kind])
    answers.append(browser.post("/api/todos", json={"title": "new"}))
    statuses = [answer.status_code for answer in answers]
    report("20", statuses=statuses)
    assert statuses == [400, 404, 404, 405, 412, 413, 415, 422, 503, 500]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert "broken" not in answer.text
