"""What holds for every route: trailing slashes, HEAD, and the methods that a path takes."""

import socket

import httpx2
import pytest

from tests.helpers import assert_problem, create, create_many
from tests.servers import Server

# Every path, with the methods that it takes.
ROUTES = {
    "/": "GET, HEAD",
    "/health": "GET, HEAD",
    "/health/ready": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/api/todos": "DELETE, GET, HEAD, PATCH, POST",
    "/api/todos/stats": "GET, HEAD",
    "/api/todos/bulk": "POST",
    "/api/todos/{id}": "DELETE, GET, HEAD, PATCH, PUT",
}
READABLE = [path for path, methods in ROUTES.items() if "GET" in methods]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]

# These say when and how fast, not what.
HEADERS_OF_THE_MOMENT = {"date", "x-request-id", "x-process-time"}


def lasting_headers(response: httpx2.Response) -> dict[str, str]:
    """Returns the headers that two equal answers share."""
    return {
        name: value for name, value in response.headers.items() if name not in HEADERS_OF_THE_MOMENT
    }


def bytes_of_answer(server: Server, method: str, path: str) -> bytes:
    """Returns an answer's body as it comes over the wire."""
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("path", READABLE)
def test_head_is_get_without_the_body(server: Server, client: httpx2.Client, path: str) -> None:
    path = path.format(id=create(client)["id"])
    got = client.get(path)
    head = client.head(path)
    assert (got.status_code, head.status_code) == (200, 200)
    assert lasting_headers(head) == lasting_headers(got)
    assert int(head.headers["Content-Length"]) == len(got.content)
    assert bytes_of_answer(server, "GET", path) == got.content
    assert bytes_of_answer(server, "HEAD", path) == b""


def test_head_of_a_page_has_its_headers(client: httpx2.Client) -> None:
    create_many(client, "a", "b")
    path = "/api/todos?limit=1&total=true"
    head = client.head(path)
    assert head.headers["X-Total-Count"] == "2"
    assert lasting_headers(head) == lasting_headers(client.get(path))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/api/todos/4711", 404),
        ("/api/todos/bulk", 405),
        ("/api/todos/x", 422),
        ("/api/todos?limit=0", 422),
    ],
)
def test_head_of_an_error_has_its_headers(
    server: Server, client: httpx2.Client, path: str, status: int
) -> None:
    head = client.head(path)
    assert head.status_code == status
    assert head.headers["Content-Type"] == "application/problem+json"
    assert lasting_headers(head) == lasting_headers(client.get(path))
    assert bytes_of_answer(server, "HEAD", path) == b""


@pytest.mark.parametrize("path", [path for path in READABLE if path != "/"])
def test_trailing_slash_makes_no_difference_to_reading(client: httpx2.Client, path: str) -> None:
    path = path.format(id=create(client)["id"])
    for method in ("GET", "HEAD"):
        plain = client.request(method, path)
        slashed = client.request(method, path + "/")
        assert slashed.status_code == 200
        assert slashed.content == plain.content
        assert lasting_headers(slashed) == lasting_headers(plain)


def test_trailing_slash_makes_no_difference_to_writing(client: httpx2.Client) -> None:
    made = client.post("/api/todos/", json={"title": "Buy milk"})
    assert made.status_code == 201
    path = made.headers["Location"]
    assert client.put(path + "/", json={"status": "completed"}).status_code == 200
    assert client.patch(path + "/", json={"title": "Sell milk"}).json()["title"] == "Sell milk"
    assert client.patch("/api/todos/", json={"status": "completed"}).json() == {"affected": 1}
    assert client.post("/api/todos/bulk/", json=[{"title": "x"}]).status_code == 201
    assert client.delete(path + "/").status_code == 204
    assert client.delete("/api/todos/?status=active").json() == {"affected": 1}


def test_trailing_slash_goes_with_a_query(client: httpx2.Client) -> None:
    create_many(client, "a", "b")
    response = client.get("/api/todos/?limit=1")
    assert response.status_code == 200
    assert response.headers["Link"] == client.get("/api/todos?limit=1").headers["Link"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/todo",
        "/todos",
        "/api/todos/1/x",
        "/API/TODOS",
        "/redoc",
        "/%00",
        "/api/todos//",
    ],
)
@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
def test_unknown_path_is_404(client: httpx2.Client, path: str, slash: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        problem = assert_problem(client.request(method, path + slash), 404)
        assert problem["detail"] == "There is nothing at this path"


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
def test_other_method_is_405_and_allow_names_every_method(
    client: httpx2.Client, path: str, slash: str
) -> None:
    todo = create(client)
    url = path.format(id=todo["id"]) + (slash if path != "/" else "")
    for method in METHODS:
        if method not in ROUTES[path].split(", "):
            response = client.request(method, url)
            assert response.headers["Allow"] == ROUTES[path], method
            if method == "HEAD":
                assert response.status_code == 405
            else:
                assert_problem(response, 405)
    assert client.get("/api/todos").json() == [todo]


@pytest.mark.parametrize("path", ["/api/todos/bulk", "/api/todos/stats"])
def test_word_among_the_ids_is_no_id(client: httpx2.Client, path: str) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        assert_problem(client.request(method, path, json={"title": "x"}), 405)


def test_root_leads_to_the_docs(client: httpx2.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.json()["message"] == "Todo API"
    for path in (response.json()["docs"], response.json()["openapi"], response.json()["todos"]):
        assert client.get(path).status_code == 200
    assert response.json()["docs"] == "/docs"


def test_docs_are_a_page_on_the_document(client: httpx2.Client) -> None:
    response = client.get("/docs")
    assert response.headers["Content-Type"].startswith("text/html")
    assert "/openapi.json" in response.text
