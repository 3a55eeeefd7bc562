"""What holds for every route: trailing slashes, HEAD, and the methods that a path takes."""

import re
import socket

import httpx2
import pytest

from tests.helpers import assert_problem
from tests.resources import RESOURCES, Rows, having
from tests.servers import Server

PAGES = ["/docs", "/openapi.json"]  # which the document itself does not name
OTHERS = ["/", "/health", "/health/ready", *PAGES]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]

# These say when and how fast, not what.
HEADERS_OF_THE_MOMENT = {"date", "x-request-id", "x-process-time"}


def lasting_headers(response: httpx2.Response) -> dict[str, str]:
    """Returns the headers that two equal answers share."""
    return {
        name: value for name, value in response.headers.items() if name not in HEADERS_OF_THE_MOMENT
    }


def bytes_of_answer(server: Server, client: httpx2.Client, method: str, path: str) -> bytes:
    """Returns an answer's body as it comes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    if "Authorization" in client.headers:
        lines.append(f"Authorization: {client.headers['Authorization']}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with connection.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]


def assert_head_is_get(server: Server, client: httpx2.Client, path: str, status: int = 200) -> None:
    """Asserts that HEAD answers as GET does, without the body."""
    got, head = client.get(path), client.head(path)
    assert (got.status_code, head.status_code) == (status, status)
    assert lasting_headers(head) == lasting_headers(got)
    assert int(head.headers["Content-Length"]) == len(got.content)
    assert bytes_of_answer(server, client, "GET", path) == got.content
    assert bytes_of_answer(server, client, "HEAD", path) == b""


def assert_slash_changes_nothing(client: httpx2.Client, path: str) -> None:
    """Asserts that reading a path answers the same with a slash behind it."""
    for method in ("GET", "HEAD"):
        plain, slashed = client.request(method, path), client.request(method, path + "/")
        assert slashed.status_code == 200
        assert slashed.content == plain.content
        assert lasting_headers(slashed) == lasting_headers(plain)


@pytest.mark.parametrize("path", OTHERS)
def test_head_is_get_without_the_body(server: Server, client: httpx2.Client, path: str) -> None:
    assert_head_is_get(server, client, path)


def test_head_of_a_resource_is_get_without_the_body(server: Server, rows: Rows) -> None:
    row, _ = rows.create("Buy milk"), rows.create("Wash up")
    assert_head_is_get(server, rows.client, rows.path)
    assert_head_is_get(server, rows.client, rows.path_of(row))
    page = f"{rows.path}?limit=1&total=true"
    head = rows.client.head(page)
    assert int(head.headers["X-Total-Count"]) >= 2
    assert head.headers["Link"]
    assert_head_is_get(server, rows.client, page)


def test_head_of_an_error_has_its_headers(server: Server, rows: Rows) -> None:
    errors = {"/4711": 404, "/x": 422, "?limit=0": 422, "/1/x": 404}
    for suffix, status in errors.items():
        path = rows.path + suffix
        assert rows.client.head(path).headers["Content-Type"] == "application/problem+json"
        assert_head_is_get(server, rows.client, path, status)


@pytest.mark.parametrize("path", [path for path in OTHERS if path != "/"])
def test_trailing_slash_makes_no_difference(client: httpx2.Client, path: str) -> None:
    assert_slash_changes_nothing(client, path)


def test_trailing_slash_makes_no_difference_to_reading(rows: Rows) -> None:
    row = rows.create()
    assert_slash_changes_nothing(rows.client, rows.path)
    assert_slash_changes_nothing(rows.client, rows.path_of(row))


def test_trailing_slash_makes_no_difference_to_writing(rows: Rows) -> None:
    resource = rows.resource
    made = rows.client.post(f"{rows.path}/", json=resource.body("Buy milk"))
    assert made.status_code == 201
    assert made.headers["Location"] == rows.path_of(made.json())
    client, path = resource.owner(rows.client, made.json()), f"{made.headers['Location']}/"
    for method, change in zip(("PUT", "PATCH"), resource.changes, strict=True):
        changed = client.request(method, path, json=change)
        assert changed.status_code == 200
        assert changed.json() == changed.json() | change
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code in (401, 404)


@having("bulk", "choice")
def test_trailing_slash_makes_no_difference_to_writing_many(rows: Rows) -> None:
    assert rows.resource.choice
    name, _, value = rows.resource.choice
    sent = [rows.resource.body("Buy milk")]
    assert rows.client.post(f"{rows.path}/bulk/", json=sent).status_code == 201
    changed = rows.client.patch(f"{rows.path}/", json={name: value})
    assert changed.json() == {"affected": 1}
    if rows.resource.clears:
        cleared = rows.client.delete(f"{rows.path}/?{name}={value}")
        assert cleared.json() == {"affected": 1}


def test_trailing_slash_goes_with_a_query(rows: Rows) -> None:
    rows.create_many("Buy milk", "Wash up")
    response = rows.client.get(f"{rows.path}/?limit=1")
    assert response.status_code == 200
    assert response.headers["Link"] == rows.client.get(f"{rows.path}?limit=1").headers["Link"]


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


def methods_of(client: httpx2.Client) -> dict[str, set[str]]:
    """Returns every path with the methods that it takes; GET means HEAD too."""
    paths = client.get("/openapi.json").json()["paths"]
    taken = {path: {method.upper() for method in methods} for path, methods in paths.items()}
    for page in PAGES:
        taken[page] = {"GET"}
    for methods in taken.values():
        if "GET" in methods:
            methods.add("HEAD")
    return taken


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
def test_other_method_is_405_and_allow_names_every_method(
    client: httpx2.Client, slash: str
) -> None:
    for path, taken in methods_of(client).items():
        url = re.sub(r"\{\w+\}", "1", path) + (slash if path != "/" else "")
        for method in METHODS:
            if method not in taken:
                response = client.request(method, url)
                assert response.headers["Allow"] == ", ".join(sorted(taken)), (method, path)
                if method == "HEAD":
                    assert response.status_code == 405
                else:
                    assert_problem(response, 405)


def test_resource_takes_the_methods_of_every_resource(client: httpx2.Client) -> None:
    for resource in RESOURCES:
        taken = methods_of(client)
        many = {"PATCH"} if resource.bulk else set()
        if resource.bulk and resource.clears:
            many.add("DELETE")
        assert taken[resource.path] == {"GET", "HEAD", "POST"} | many
        one = f"{resource.path}/{{{resource.id_parameter}}}"
        assert taken[one] == {"GET", "HEAD", "PUT", "PATCH", "DELETE"}
        assert taken.get(f"{resource.path}/bulk", {"POST"}) == {"POST"}


def test_word_among_the_ids_is_no_id(client: httpx2.Client) -> None:
    words = {"/api/todos/stats": "GET, HEAD"}
    words |= {f"{resource.path}/bulk": "POST" for resource in RESOURCES if resource.bulk}
    for path, allowed in words.items():
        for method in ("PUT", "PATCH", "DELETE"):
            response = client.request(method, path, json={})
            assert_problem(response, 405)
            assert response.headers["Allow"] == allowed


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
