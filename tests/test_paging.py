"""Following `Link` from page to page."""

import json
import re
from base64 import urlsafe_b64encode
from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, create, create_many, titles

SORTS = [
    f"{sign}{name}"
    for name in ("created_at", "updated_at", "title", "status")
    for sign in ("", "-")
]
LINK = re.compile(r'<(/api/todos\?[!-~]+)>; rel="next"')


def next_page(response: httpx2.Response) -> str | None:
    """Returns the path of the next page, if there is one."""
    if "Link" not in response.headers:
        return None
    match = LINK.fullmatch(response.headers["Link"])
    assert match, "The Link is a relative reference"
    return match[1]


def make_todos(client: httpx2.Client) -> list[dict[str, Any]]:
    """Makes 30 todos with few different titles and both statuses."""
    made = create_many(client, *[f"Todo {n * 7 % 5}" for n in range(30)])
    for todo in made[::2]:
        client.put(f"/api/todos/{todo['id']}", json={"status": "completed"})
    return made


@pytest.mark.parametrize("sort", SORTS)
def test_pages_visit_every_todo_in_order(client: httpx2.Client, sort: str) -> None:
    make_todos(client)
    whole = client.get("/api/todos", params={"sort": sort}).json()
    visited = []
    page: str | None = f"/api/todos?sort={sort}&limit=7"
    while page:
        response = client.get(page)
        visited += response.json()
        page = next_page(response)
    assert visited == whole


@pytest.mark.parametrize("sort", SORTS)
def test_todo_that_stays_is_visited_once_whatever_changes(client: httpx2.Client, sort: str) -> None:
    staying = {todo["id"] for todo in make_todos(client)}
    visited: list[int] = []
    page: str | None = f"/api/todos?sort={sort}&limit=4"
    while page:
        response = client.get(page)
        seen = [todo["id"] for todo in response.json()]
        visited += seen
        page = next_page(response)
        # Of what was just seen, and of what is still to come, the last one goes.
        unseen = sorted(staying - set(visited))
        for gone in seen[-1:] + unseen[-1:]:
            assert client.delete(f"/api/todos/{gone}").status_code == 204
            staying.discard(gone)
        if len(visited) < 40:
            for title in ("Todo", "Todo 2", "Todo 9"):
                create(client, title, status="completed" if unseen else "active")
    assert len(visited) == len(set(visited))
    assert staying <= set(visited)


def test_pages_keep_filters_order_and_size(client: httpx2.Client) -> None:
    title = "50 % & 'ü' = # + /\\_ 😀"
    wanted = create_many(client, *[f"{title} {n}" for n in range(5)])
    create_many(client, "Another", "50 percent")
    create(client, title, status="completed")
    parameters = {"q": title.upper(), "status": "active", "sort": "-title", "limit": "2"}
    pages = [client.get("/api/todos", params={**parameters, "total": "true"})]
    while page := next_page(pages[-1]):
        pages.append(client.get(page))
    assert [len(page.json()) for page in pages] == [2, 2, 1]
    assert {page.headers["X-Total-Count"] for page in pages} == {"5"}
    assert [todo for page in pages for todo in page.json()] == wanted[::-1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_last_page_has_no_link(client: httpx2.Client, count: int) -> None:
    for _ in range(count):
        create(client)
    assert "Link" not in client.get("/api/todos", params={"limit": 3}).headers


def test_link_leads_on_when_there_is_one_more(client: httpx2.Client) -> None:
    create_many(client, *"abcd")
    page = next_page(client.get("/api/todos", params={"limit": 3}))
    assert page
    assert [todo["title"] for todo in client.get(page).json()] == ["d"]


def test_link_is_there_for_the_default_size(client: httpx2.Client) -> None:
    create_many(client, *["x"] * 101)
    page = next_page(client.get("/api/todos"))
    assert page
    assert len(client.get(page).json()) == 1


def test_link_does_not_depend_on_a_proxy(client: httpx2.Client) -> None:
    create_many(client, "a", "b")
    headers = {"X-Forwarded-Host": "todos.example", "X-Forwarded-Proto": "https"}
    assert next_page(client.get("/api/todos", params={"limit": 1}, headers=headers))


def test_skip_counts_from_the_first_page_only(client: httpx2.Client) -> None:
    create_many(client, *"abcdef")
    response = client.get("/api/todos", params={"skip": 1, "limit": 2})
    visited = [todo["title"] for todo in response.json()]
    while page := next_page(response):
        response = client.get(page)
        visited += [todo["title"] for todo in response.json()]
    assert visited == [*"bcdef"]


def test_page_goes_on_from_titles_of_every_kind(client: httpx2.Client) -> None:
    create_many(client, "ΐ" * 200, "😀" * 200, '"quotes" \\ \x01', "\x7f\u2028", "ß", "a,b", "x")
    visited = []
    page: str | None = "/api/todos?sort=title&limit=1"
    while page:
        response = client.get(page)
        visited += [todo["title"] for todo in response.json()]
        page = next_page(response)
    assert visited == titles(client, sort="title")
    assert len(visited) == 7


def cursor(value: object) -> str:
    """Returns JSON as a cursor."""
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TIME = "2026-01-01T00:00:00.000000Z"
FOREIGN_CURSORS = {
    "a word": "next",
    "not base64": "ä!",
    "one character": "x",
    "too long": "A" * 10_000,
    "a NUL": "\0",
    "not UTF-8": urlsafe_b64encode(b"\xff\xfe[1]").decode(),
    "empty array": cursor([]),
    "object": cursor({}),
    "number": cursor(1),
    "null": cursor(None),
    "other sort": cursor(["title", "x", 1]),
    "no sort": cursor([None, TIME, 1]),
    "too short": cursor(["created_at", TIME]),
    "too long an array": cursor(["created_at", TIME, 1, 1]),
    "id is text": cursor(["created_at", TIME, "1"]),
    "id is a boolean": cursor(["created_at", TIME, True]),
    "id is a float": cursor(["created_at", TIME, 1.0]),
    "id is zero": cursor(["created_at", TIME, 0]),
    "id is beyond 64 bits": cursor(["created_at", TIME, 2**63]),
    "id is huge": urlsafe_b64encode(b'["created_at","%b",%b]' % (TIME.encode(), b"9" * 5000)),
    "time is null": cursor(["created_at", None, 1]),
    "time is a number": cursor(["created_at", 1, 1]),
    "time is a word": cursor(["created_at", "now", 1]),
    "time without zone": cursor(["created_at", "2026-01-01T00:00:00", 1]),
    "time in another zone": cursor(["created_at", "2026-01-01T00:00:00+02:00", 1]),
    "time is NaN": urlsafe_b64encode(b'["created_at",NaN,1]').decode(),
    "deep nesting": urlsafe_b64encode(b"[" * 5000).decode(),
}


@pytest.mark.parametrize("foreign", FOREIGN_CURSORS.values(), ids=FOREIGN_CURSORS)
def test_foreign_cursor_is_422(client: httpx2.Client, foreign: str) -> None:
    problem = assert_problem(client.get("/api/todos", params={"cursor": foreign}), 422)
    assert problem["errors"][0]["loc"] == ["query", "cursor"]


@pytest.mark.parametrize("value", ["a\0b", "\ud800"], ids=["NUL", "surrogate"])
def test_foreign_cursor_of_a_title_is_422(client: httpx2.Client, value: str) -> None:
    parameters = {"sort": "title", "cursor": cursor(["title", value, 1])}
    assert_problem(client.get("/api/todos", params=parameters), 422)


def test_cursor_of_another_order_is_422(client: httpx2.Client) -> None:
    create_many(client, "a", "b")
    page = next_page(client.get("/api/todos", params={"limit": 1, "sort": "title"}))
    assert page
    assert client.get(page).status_code == 200
    for sort in ("created_at", "-title"):
        assert_problem(client.get(page.replace("sort=title", f"sort={sort}")), 422)
