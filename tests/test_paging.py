"""Following `Link` from page to page."""

import json
import re
from base64 import urlsafe_b64encode

import httpx2
import pytest

from tests.helpers import assert_problem
from tests.resources import Row, Rows, having, ordered, with_each_order

LINK = re.compile(r'<(/api/[a-z]+\?[!-~]+)>; rel="next"')


def next_page(response: httpx2.Response) -> str | None:
    """Returns the path of the next page, if there is one."""
    if "Link" not in response.headers:
        return None
    match = LINK.fullmatch(response.headers["Link"])
    assert match, "The Link is a relative reference"
    return match[1]


def visit(rows: Rows, page: str | None) -> list[Row]:
    """Returns every row from a page to the last one."""
    visited: list[Row] = []
    while page:
        response = rows.client.get(page)
        assert response.status_code == 200
        visited += response.json()
        page = next_page(response)
    return visited


def make_some(rows: Rows) -> list[Row]:
    """Makes rows; with few different texts and two values of the choice where that can be."""
    if not rows.resource.free_text:
        return rows.create_many(*(f"Name{n * 7 % 12}" for n in range(12)))
    made = rows.create_many(*[f"Text {n * 7 % 5}" for n in range(30)])
    for row in made[::2]:
        rows.change(row, "PUT", rows.resource.changes[1])
    return made


@with_each_order()
def test_pages_visit_every_row_in_order(rows: Rows, sort: str) -> None:
    make_some(rows)
    whole = rows.read(sort=sort)
    assert whole == ordered(rows.read(), sort)
    assert visit(rows, f"{rows.path}?sort={sort}&limit=7") == whole


@with_each_order()
def test_row_that_stays_is_visited_once_whatever_changes(rows: Rows, sort: str) -> None:
    made = {row["id"]: row for row in make_some(rows)}
    staying = set(made)
    visited: list[int] = []
    page: str | None = f"{rows.path}?sort={sort}&limit=4"
    while page:
        response = rows.client.get(page)
        visited += [row["id"] for row in response.json()]
        seen = [row["id"] for row in response.json() if row["id"] in staying]
        page = next_page(response)
        # Of what was just seen, and of what is still to come, the last one goes.
        unseen = sorted(staying - set(visited))
        for gone in seen[-1:] + unseen[-1:]:
            assert rows.change(made[gone], "DELETE").status_code == 204
            staying.discard(gone)
        if len(visited) < len(made) + 10:
            for text in ("Text", "Text2", "Text9"):
                new = rows.create(f"{text}{len(visited)}")
                if unseen and rows.resource.free_text:
                    rows.change(new, "PUT", rows.resource.changes[1])
    assert len(visited) == len(set(visited))
    assert staying <= set(visited)


@having("choice", "free_text")
def test_pages_keep_filters_order_and_size(rows: Rows) -> None:
    assert rows.resource.choice
    name, one, other = rows.resource.choice
    text = "50 % & 'ü' = # + /\\_ 😀"
    wanted = rows.create_many(*[f"{text} {n}" for n in range(5)], **{name: one})
    rows.create_many("Another", "50 percent")
    rows.create(text, **{name: other})
    sort = f"-{rows.resource.text}"
    parameters = {"q": text.upper(), name: one, "sort": sort, "limit": "2"}
    pages = [rows.client.get(rows.path, params={**parameters, "total": "true"})]
    while page := next_page(pages[-1]):
        pages.append(rows.client.get(page))
    assert [len(page.json()) for page in pages] == [2, 2, 1]
    assert {page.headers["X-Total-Count"] for page in pages} == {"5"}
    assert [row for page in pages for row in page.json()] == wanted[::-1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_last_page_has_no_link(rows: Rows, count: int) -> None:
    there = len(rows.read())
    for number in range(count):
        rows.create(f"Row{number}")
    response = rows.client.get(rows.path, params={"limit": max(there + count, 1)})
    assert "Link" not in response.headers


def test_link_leads_on_when_there_is_one_more(rows: Rows) -> None:
    rows.create_many("Apples", "Bread", "Carrots")
    last = rows.create("Dates")
    page = next_page(rows.client.get(rows.path, params={"limit": len(rows.read()) - 1}))
    assert page
    assert rows.client.get(page).json() == [last]


@having("bulk", "free_text")
def test_link_is_there_for_the_default_size(rows: Rows) -> None:
    rows.create_many(*["x"] * 101)
    page = next_page(rows.client.get(rows.path))
    assert page
    assert len(rows.client.get(page).json()) == 1


def test_link_does_not_depend_on_a_proxy(rows: Rows) -> None:
    rows.create_many("Apples", "Bread")
    headers = {"X-Forwarded-Host": "todos.example", "X-Forwarded-Proto": "https"}
    assert next_page(rows.client.get(rows.path, params={"limit": 1}, headers=headers))


def test_skip_counts_from_the_first_page_only(rows: Rows) -> None:
    rows.create_many("Apples", "Bread", "Carrots", "Dates", "Eggs", "Flour")
    assert visit(rows, f"{rows.path}?skip=1&limit=2") == rows.read()[1:]


@having("free_text", "bulk")
def test_page_goes_on_from_texts_of_every_kind(rows: Rows) -> None:
    texts = ["ΐ" * 200, "😀" * 200, '"quotes" \\ \x01', "\x7f\u2028", "ß", "a,b", "x"]
    rows.create_many(*texts)
    sort = rows.resource.text
    visited = visit(rows, f"{rows.path}?sort={sort}&limit=1")
    assert visited == rows.read(sort=sort)
    assert len(visited) == len(texts)


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
def test_foreign_cursor_is_422(rows: Rows, foreign: str) -> None:
    problem = assert_problem(rows.client.get(rows.path, params={"cursor": foreign}), 422)
    assert problem["errors"][0]["loc"] == ["query", "cursor"]


@pytest.mark.parametrize(
    "value",
    ["a\0b", "\ud800", None, 1, 2**64, 1.5, True, [], {}],
    ids=["NUL", "surrogate", "null", "integer", "huge", "float", "boolean", "array", "object"],
)
def test_foreign_cursor_of_a_text_is_422(rows: Rows, value: object) -> None:
    name = rows.resource.text
    parameters = {"sort": name, "cursor": cursor([name, value, 1])}
    assert_problem(rows.client.get(rows.path, params=parameters), 422)


@with_each_order()
@pytest.mark.parametrize("value", [2**64, -(2**64), 1e300, [], {"x": 1}, "\0"], ids=repr)
def test_no_cursor_is_a_defect(rows: Rows, sort: str, value: object) -> None:
    parameters = {"sort": sort, "cursor": cursor([sort, value, 1])}
    assert_problem(rows.client.get(rows.path, params=parameters), 422)


def test_cursor_of_another_order_is_422(rows: Rows) -> None:
    rows.create_many("Apples", "Bread")
    name = rows.resource.text
    page = next_page(rows.client.get(rows.path, params={"limit": 1, "sort": name}))
    assert page
    assert rows.client.get(page).status_code == 200
    for sort in ("created_at", f"-{name}"):
        assert_problem(rows.client.get(page.replace(f"sort={name}", f"sort={sort}")), 422)
