"""The log: one line for each request, every defect's trace, and nothing that is the users' own."""

import re
from pathlib import Path

import httpx2
import pytest

from tests.helpers import create, wait_until
from tests.servers import Server, free_port, serve

PRIVATE = "Trillian"


def lines_of(server: Server, request_id: str) -> list[str]:
    """Returns all log lines of a request that is over."""
    with server.client() as client:
        client.get("/health", headers={"X-Request-ID": f"after-{request_id}"})
    wait_until(lambda: f"after-{request_id}" in server.log)
    return [line for line in server.log.splitlines() if line.endswith(f" {request_id}")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/todos", 200),
        ("HEAD", "/api/todos/", 200),
        ("GET", "/api/todos/stats", 200),
        ("POST", "/api/todos", 422),
        ("GET", "/api/todos/4711", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/api/todos", 405),
        ("GET", "/docs", 200),
        ("GET", "/health", 200),
        ("OPTIONS", "/health", 405),
    ],
)
def test_every_request_has_one_line(
    server: Server, client: httpx2.Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    (line,) = lines_of(server, response.headers["X-Request-ID"])
    assert re.search(rf"INFO \S+ {method} {path} {status} \d+\.\d+ms \S+$", line)


def test_refused_requests_have_their_line(server: Server, client: httpx2.Client) -> None:
    foreign_host = client.get("/api/todos", headers={"Host": "evil.example"})
    assert " GET /api/todos 400 " in lines_of(server, foreign_host.headers["X-Request-ID"])[0]
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT"}
    asked = client.options("/api/todos/1", headers=preflight)
    assert " OPTIONS /api/todos/1 200 " in lines_of(server, asked.headers["X-Request-ID"])[0]
    headers = {"Content-Type": "application/json"}
    too_large = client.post("/api/todos", content=b" " * 2**21, headers=headers)
    assert " POST /api/todos 413 " in lines_of(server, too_large.headers["X-Request-ID"])[0]


@pytest.mark.parametrize("path", ["/", "/api/todos", "/api/todos/0", "/nothing", "/openapi.json"])
def test_every_answer_has_its_id_and_its_time(client: httpx2.Client, path: str) -> None:
    first, second = client.get(path), client.get(path)
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]
    for response in (first, second):
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])
        assert re.fullmatch(r"\d+\.\d{6}", response.headers["X-Process-Time"])
        assert 0 < float(response.headers["X-Process-Time"]) < 10


@pytest.mark.parametrize("request_id", ["a", "5f0c1a52-6c1d-4f52-9f0e-5d4b8f0f2c11", "x" * 100])
def test_clients_own_id_is_kept(client: httpx2.Client, request_id: str) -> None:
    response = client.get("/health", headers={"X-Request-ID": request_id})
    assert response.headers.get_list("X-Request-ID") == [request_id]


@pytest.mark.parametrize(
    "request_id",
    [b"", b"x" * 101, b"two words", b'"quoted"', b"\xc3\xbc", b"a\tb", b"<b>", b"%0a", b"\\n"],
)
def test_id_that_could_forge_a_line_is_replaced(client: httpx2.Client, request_id: bytes) -> None:
    response = client.get("/health", headers={b"X-Request-ID": request_id})
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])


def test_path_cannot_forge_a_line(server: Server, client: httpx2.Client) -> None:
    response = client.get("/nothing%0AINFO%20forged%1b[31m")
    (line,) = lines_of(server, response.headers["X-Request-ID"])
    assert "GET /nothing%0AINFO%20forged" in line
    assert "\x1b" not in server.log


def test_nothing_of_a_body_a_query_or_a_header_is_logged(
    server: Server, client: httpx2.Client
) -> None:
    headers = {
        "Cookie": f"session={PRIVATE}",
        "Idempotency-Key": PRIVATE,
        "User-Agent": PRIVATE,
    }
    refused = client.get("/api/todos", headers={"Authorization": f"Bearer {PRIVATE}"})
    assert refused.status_code == 401
    made = client.post("/api/todos", json={"title": PRIVATE}, headers=headers)
    path = made.headers["Location"]
    responses = [
        made,
        client.post("/api/todos", json={"title": f"{PRIVATE} 2"}, headers=headers),
        client.put(path, json={"title": PRIVATE, "status": PRIVATE}),
        client.put(path, json={"title": PRIVATE}, headers={"If-Match": f'"{PRIVATE}"'}),
        client.post("/api/todos", content=PRIVATE, headers={"Content-Type": "application/json"}),
        client.post("/api/todos", content=PRIVATE),
        client.get("/api/todos", params={"q": PRIVATE, PRIVATE: "x"}),
        client.get("/api/todos", params={"sort": PRIVATE}),
        client.get("/nothing", params={"token": PRIVATE}),
    ]
    statuses = [response.status_code for response in responses]
    assert statuses == [201, 422, 422, 412, 422, 415, 200, 422, 404]
    for response in responses:
        assert len(lines_of(server, response.headers["X-Request-ID"])) == 1
    assert PRIVATE not in server.log


def test_password_of_the_database_is_not_logged(log_path: Path) -> None:
    url = f"postgresql://todo:{PRIVATE}@127.0.0.1:{free_port()}/todos"
    with serve(url, log_path, wait_for="/health") as server, server.client() as client:
        response = client.get("/api/todos")
        assert response.status_code == 503
        assert PRIVATE not in response.text
        wait_until(lambda: "cannot be used" in server.log)
    assert PRIVATE not in server.log


def test_level_is_a_setting(tmp_path: Path, log_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/todos.db"
    with serve(url, log_path, LOG_LEVEL="warning") as server, server.client() as client:
        create(client)
    assert "/api/todos" not in server.log
