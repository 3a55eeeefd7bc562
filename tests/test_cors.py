"""What browsers may do from other origins, and read, errors included."""

from pathlib import Path

import httpx2
import pytest

from tests.helpers import assert_problem, create
from tests.servers import serve

ORIGIN = "http://localhost:3000"
EXPOSED = [
    *("ETag", "Link", "Location", "Retry-After"),
    *("WWW-Authenticate", "X-Request-ID", "X-Total-Count"),
]


def preflight(
    client: httpx2.Client, path: str, method: str, headers: str = "", origin: str = ORIGIN
) -> httpx2.Response:
    """Asks what a browser asks before it sends a request to another origin."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return client.options(path, headers=asked)


def assert_readable(response: httpx2.Response, origin: str = ORIGIN) -> None:
    """Asserts that a page of the origin may read the answer."""
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:3000"])
def test_default_origins_may_read(client: httpx2.Client, origin: str) -> None:
    create(client)
    response = client.get("/api/todos", headers={"Origin": origin})
    assert_readable(response, origin)
    assert response.headers["Access-Control-Expose-Headers"].split(", ") == EXPOSED


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:3001", "https://localhost:3000", "null", "*"],
)
def test_foreign_origin_may_not_read(client: httpx2.Client, origin: str) -> None:
    response = client.get("/api/todos", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in response.headers
    refused = preflight(client, "/api/todos", "POST", "content-type", origin)
    assert_problem(refused, 400)
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_every_request_of_the_api_passes_its_preflight(client: httpx2.Client) -> None:
    headers = "authorization,content-type,idempotency-key,if-match,if-none-match,x-request-id"
    paths = client.get("/openapi.json").json()["paths"]
    asked = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(asked) >= 13
    for method, path in asked:
        response = preflight(client, path, method, headers)
        assert response.status_code == 200, (method, path)
        assert_readable(response)
        assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
        allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert set(headers.split(",")) <= set(allowed)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/api/todos/4711", b"", {}, 404),
        ("GET", "/nothing", b"", {}, 404),
        ("PUT", "/api/todos", b"", {}, 405),
        ("PUT", "/api/todos/{id}", b"{}", {"If-Match": '"x"'}, 412),
        ("POST", "/api/todos", b" " * 1024 * 1025, {}, 413),
        ("POST", "/api/todos", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/api/todos", b"{}", {}, 422),
        ("GET", "/api/todos?limit=0", b"", {}, 422),
        ("GET", "/api/todos", b"", {"Host": "evil.example"}, 400),
    ],
)
def test_errors_carry_the_cors_headers(
    client: httpx2.Client,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    path = path.format(id=create(client)["id"])
    headers = {"Content-Type": "application/json", "Origin": ORIGIN, **headers}
    response = client.request(method, path, content=body, headers=headers)
    assert_problem(response, status)
    assert_readable(response)


def test_origins_are_a_setting(tmp_path: Path, log_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/todos.db"
    origins = "https://todos.example, http://localhost:5173"
    with serve(url, log_path, CORS_ORIGINS=origins) as server, server.client() as client:
        for origin in ("https://todos.example", "http://localhost:5173"):
            assert_readable(client.get("/api/todos", headers={"Origin": origin}), origin)
        response = client.get("/api/todos", headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in response.headers
