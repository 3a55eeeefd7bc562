"""Errors: one shape for all, and nothing in them that is not the client's to know."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.databases import execute
from tests.helpers import assert_problem, create
from tests.resources import Rows
from tests.servers import Server, serve

MAX_BODY_SIZE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
ORIGIN = {"Origin": "http://localhost:3000"}


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Yields a body in pieces, which makes the client send it chunked."""
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


def padded(size: int, body: Any) -> bytes:
    """Returns a body as JSON of this size."""
    return json.dumps(body).encode().ljust(size)


@pytest.mark.parametrize(
    ("method", "path", "status", "title", "detail"),
    [
        ("GET", "/api/todos/4711", 404, "Not Found", "Todo not found"),
        ("GET", "/nothing", 404, "Not Found", "There is nothing at this path"),
        ("PUT", "/api/todos", 405, "Method Not Allowed", None),
        ("GET", "/api/todos/x", 422, "Unprocessable Content", None),
    ],
)
def test_error_is_a_problem(
    client: httpx2.Client, method: str, path: str, status: int, title: str, detail: str | None
) -> None:
    problem = assert_problem(client.request(method, path), status)
    assert problem["type"] == "about:blank"
    assert problem["title"] == title
    assert problem["detail"] == (detail or problem["detail"])


def test_422_says_where_what_and_why(client: httpx2.Client) -> None:
    problem = assert_problem(client.post("/api/todos", json={"title": ""}), 422)
    (error,) = problem["errors"]
    assert error["loc"] == ["body", "title"]
    assert error["type"] == "string_too_short"
    assert problem["detail"] == f"body.title: {error['msg']}"


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_body_over_1_mib_is_413(rows: Rows, chunked: bool) -> None:
    there = rows.read()
    for method, path, good in rows.resource.writes(1):
        body = padded(MAX_BODY_SIZE + 1, good)
        content = in_pieces(body) if chunked else body
        assert_problem(rows.client.request(method, path, content=content, headers=JSON), 413)
    assert rows.read() == there


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_body_of_1_mib_is_taken(rows: Rows, chunked: bool) -> None:
    body = padded(MAX_BODY_SIZE, rows.resource.body("Buy milk"))
    content = in_pieces(body) if chunked else body
    assert rows.client.post(rows.path, content=content, headers=JSON).status_code == 201


@pytest.mark.parametrize("size", [MAX_BODY_SIZE + 1, 200 * 1024 * 1024, 2**63 - 1])
def test_declared_size_is_refused_before_the_body_comes(server: Server, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/api/todos")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.read())["status"] == 413
    connection.close()


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain;charset=UTF-8",
        "text/json",
        "application/octet-stream",
        "application/xml",
        "json",
        "",
    ],
)
def test_body_not_sent_as_json_is_415(rows: Rows, content_type: str | None) -> None:
    there = rows.read()
    headers = {} if content_type is None else {"Content-Type": content_type}
    for method, path, good in rows.resource.writes(1):
        body = json.dumps(good).encode()
        response = rows.client.request(method, path, content=body, headers=headers)
        problem = assert_problem(response, 415)
        assert "Content-Type: application/json" in problem["detail"]
    assert rows.read() == there


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"],
)
def test_body_sent_as_json_is_taken(rows: Rows, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    body = json.dumps(rows.resource.body("Buy milk")).encode()
    assert rows.client.post(rows.path, content=body, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil", "x@y"]
)
@pytest.mark.parametrize("path", ["/", "/api/todos", "/docs", "/nothing"])
def test_foreign_host_is_refused(client: httpx2.Client, host: str, path: str) -> None:
    create(client)
    response = client.get(path, headers={"Host": host})
    assert_problem(response, 400)
    assert "evil" not in response.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:3000", "127.0.0.1", "[::1]:8"]
)
def test_own_host_is_taken(client: httpx2.Client, host: str) -> None:
    assert client.get("/api/todos", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["10.0.0.7:8000", "evil.example", "x@y"])
@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_health_answers_to_any_host(client: httpx2.Client, host: str, path: str) -> None:
    for slash in ("", "/"):
        assert client.get(path + slash, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/healthy", "/health-check", "/api/health"])
def test_only_the_health_routes_answer_to_any_host(client: httpx2.Client, path: str) -> None:
    assert_problem(client.get(path, headers={"Host": "evil.example"}), 400)


def test_allowed_hosts_are_a_setting(tmp_path: Path, log_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/todos.db"
    hosts = "127.0.0.1, api.example"
    with serve(url, log_path, ALLOWED_HOSTS=hosts) as server, server.client() as client:
        for host, status in (("api.example", 200), ("127.0.0.1:8000", 200), ("localhost", 400)):
            assert client.get("/docs", headers={"Host": host}).status_code == status


def provoke_defect(client: httpx2.Client, database_url: str) -> None:
    """Takes a table away, which nothing but a defect could do."""
    create(client, "Buy milk")
    execute(database_url, "DROP TABLE todos")


def test_defect_is_500_and_only_the_log_knows_more(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path) as server, server.client() as client:
        provoke_defect(client, own_database_url)
        for name, method, path, body in (
            ("the-list", "GET", "/api/todos", None),
            ("the-creation", "POST", "/api/todos", {"title": "Zaphod"}),
            ("the-clearing", "DELETE", "/api/todos?status=active&q=Zaphod", None),
        ):
            headers = {**ORIGIN, "X-Request-ID": name}
            traces = server.log.count("Traceback (most recent call last)")
            response = client.request(method, path, json=body, headers=headers)
            problem = assert_problem(response, 500)
            assert problem["detail"] == "Something went wrong on our side"
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
            assert response.headers["X-Request-ID"] == name
            assert client.get("/health").status_code == 200
            assert f"{name} failed" in server.log
            assert server.log.count("Traceback (most recent call last)") > traces
    assert "backend/routers/todos.py" in server.log
    assert "Zaphod" not in server.log


@pytest.mark.parametrize("own_database_url", ["postgresql"], indirect=True)
def test_row_that_a_constraint_refuses_is_not_logged(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path) as server, server.client() as client:
        execute(own_database_url, "ALTER TABLE todos ADD CHECK (title <> 'Zaphod')")
        assert_problem(client.post("/api/todos", json={"title": "Zaphod"}), 500)
    assert "violates check constraint" in server.log
    assert "Zaphod" not in server.log


@pytest.mark.parametrize("own_database_url", ["sqlite"], indirect=True)
def test_full_database_is_503(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path) as server, server.client() as client:
        create(client)
        # SQLite says that it is full when it has no more numbers, too.
        execute(own_database_url, "UPDATE sqlite_sequence SET seq = 9223372036854775807")
        response = client.post("/api/todos", json={"title": "One too many"})
        assert_problem(response, 503)
        assert response.headers["Retry-After"] == "1"
