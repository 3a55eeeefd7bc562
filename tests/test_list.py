"""The list of todos: its filters, its orders and its parts."""

from typing import Any

import httpx2
import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem, create, create_many, titles
from tests.servers import Server

MIXED_TITLES = ["b", "A", "a", "B", "Z", "ä", "Ä", "é", "ß", "SS", "st", "_", "10", "9", "~"]
# U+FF5E sorts before U+1F600 by code point, and after it by UTF-16 code unit.
FAR_TITLES = ["\uff5e", "\U0001f600", "\ue000", "zebra", "z ebra", "z-ebra"]


def key(todo: dict[str, Any], name: str) -> tuple[str, int]:
    """Returns what the list is sorted by."""
    return (todo[name].casefold(), todo["id"])


def test_list_is_a_bare_array(client: httpx2.Client) -> None:
    response = client.get("/api/todos")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == []
    made = create(client)
    assert client.get("/api/todos").json() == [made]


def test_status_filters(client: httpx2.Client) -> None:
    create(client, "Open")
    create(client, "Done", status="completed")
    assert titles(client, status="active") == ["Open"]
    assert titles(client, status="completed") == ["Done"]
    assert titles(client) == ["Open", "Done"]


@pytest.mark.parametrize(
    ("title", "q"),
    [
        ("Buy milk", "Buy milk"),
        ("Buy milk", "uy mi"),
        ("Buy milk", " "),
        ("Buy milk", "BUY MILK"),
        ("BUY MILK", "buy milk"),
        ("Grüße", "GRÜ"),
        ("ÜBUNG", "übung"),
        ("Straße", "STRASSE"),
        ("STRASSE", "straße"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("Ёлка", "ёЛКА"),
        ("İzmir", "i\u0307zmir"),
        ("ﬁnd", "FIND"),
        ("Ǆ", "ǆ"),
        ("😀 smile", "😀"),
        ("line\u2028separator", "\u2028"),
    ],
)
def test_q_finds_a_part_of_the_title_in_any_case(client: httpx2.Client, title: str, q: str) -> None:
    create_many(client, "Something else", title)
    found = [title, "Something else"] if q == " " else [title]
    assert sorted(titles(client, q=q)) == sorted(found)


@pytest.mark.parametrize("sign", ["%", "_", "\\", "/", "'", '"', "*", "?", "[", "^", "\\%", "%%"])
def test_q_takes_every_sign_as_itself(client: httpx2.Client, sign: str) -> None:
    create_many(client, "5 apples", f"a{sign}b", "5 0 apples", "ab", "axb", "axxb")
    assert titles(client, q=sign) == [f"a{sign}b"]
    assert titles(client, q=f"A{sign}B") == [f"a{sign}b"]


def test_q_has_up_to_200_characters(client: httpx2.Client) -> None:
    create(client, "ΐ" * 200)
    assert titles(client, q="ΐ" * 200) == ["ΐ" * 200]
    assert_problem(client.get("/api/todos", params={"q": "x" * 201}), 422)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_filters_and_order_follow_a_change(client: httpx2.Client, method: str) -> None:
    first, _ = create_many(client, "Apples", "Bread")
    path = f"/api/todos/{first['id']}"
    client.request(method, path, json={"title": "Straße", "status": "completed"})
    assert titles(client, q="STRASSE") == ["Straße"]
    assert titles(client, q="apples") == []
    assert titles(client, status="completed") == ["Straße"]
    assert titles(client, sort="title") == ["Bread", "Straße"]


def test_filters_combine(client: httpx2.Client) -> None:
    create_many(client, "Buy milk", "Buy bread", "Sell milk")
    create(client, "Milk the cow", status="completed")
    assert titles(client, q="milk", status="active", sort="-title") == ["Sell milk", "Buy milk"]
    assert titles(client, q="milk", status="completed") == ["Milk the cow"]


def test_order_is_by_creation_unless_given(client: httpx2.Client) -> None:
    create_many(client, "c", "a", "b")
    assert titles(client) == titles(client, sort="created_at") == ["c", "a", "b"]
    assert titles(client, sort="-created_at") == ["b", "a", "c"]


@pytest.mark.parametrize("name", ["created_at", "updated_at", "title", "status"])
def test_sort_is_by_code_point_in_any_case_then_by_id(client: httpx2.Client, name: str) -> None:
    made = create_many(client, *MIXED_TITLES, *FAR_TITLES, *reversed(MIXED_TITLES))
    for todo in made[::3]:
        client.put(f"/api/todos/{todo['id']}", json={"status": "completed"})
    todos = client.get("/api/todos").json()
    expected = sorted(todos, key=lambda todo: key(todo, name))
    assert client.get("/api/todos", params={"sort": name}).json() == expected
    assert client.get("/api/todos", params={"sort": f"-{name}"}).json() == expected[::-1]


# The tests' PostgreSQL knows no locale in which the order would differ, so the column is asked.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True, scope="session")
def test_title_order_does_not_depend_on_the_databases_locale(server: Server) -> None:
    collations = query(
        server.database_url,
        "SELECT collation_name FROM information_schema.columns"
        " WHERE table_name = 'todos' AND column_name = 'title_folded'",
    )
    assert collations == [("C",)]


@pytest.mark.parametrize("sort", ["created_at", "updated_at"])
def test_same_time_is_sorted_by_id(server: Server, client: httpx2.Client, sort: str) -> None:
    ids = [todo["id"] for todo in create_many(client, *"cadb")]
    execute(server.database_url, f"UPDATE todos SET {sort} = '2026-01-01 00:00:00.000000'")
    # Moves a row, so that the order on disk is not the order of ids.
    execute(server.database_url, f"UPDATE todos SET title = 'first' WHERE id = {ids[0]}")
    listed = client.get("/api/todos", params={"sort": sort}).json()
    assert [todo["id"] for todo in listed] == ids
    listed = client.get("/api/todos", params={"sort": f"-{sort}"}).json()
    assert [todo["id"] for todo in listed] == ids[::-1]


def test_updated_at_order_follows_changes(client: httpx2.Client) -> None:
    first, *_ = create_many(client, "first", "second", "third")
    client.put(f"/api/todos/{first['id']}", json={"status": "completed"})
    assert titles(client, sort="updated_at") == ["second", "third", "first"]
    assert titles(client, sort="-updated_at") == ["first", "third", "second"]


def test_skip_and_limit_choose_a_part(client: httpx2.Client) -> None:
    create_many(client, *"abcde")
    assert titles(client, limit=2) == ["a", "b"]
    assert titles(client, skip=3) == ["d", "e"]
    assert titles(client, skip=1, limit=2, sort="-title") == ["d", "c"]
    assert titles(client, skip=5) == []
    assert titles(client, skip=2**63 - 1) == []


def test_limit_is_100_unless_given_and_up_to_1000(client: httpx2.Client) -> None:
    create_many(client, *["x"] * 1000)
    create(client, "y")
    assert len(titles(client)) == 100
    assert len(titles(client, limit=1)) == 1
    assert len(titles(client, limit=1000)) == 1000


def test_total_is_counted_when_asked_for(client: httpx2.Client) -> None:
    create_many(client, "a", "b", "ab")
    create(client, "abc", status="completed")
    assert "X-Total-Count" not in client.get("/api/todos").headers
    assert "X-Total-Count" not in client.get("/api/todos", params={"total": "false"}).headers
    for parameters, total in (
        ({}, "4"),
        ({"limit": "1"}, "4"),
        ({"skip": "10"}, "4"),
        ({"status": "active"}, "3"),
        ({"q": "B"}, "3"),
        ({"q": "B", "status": "completed"}, "1"),
        ({"q": "none"}, "0"),
    ):
        response = client.get("/api/todos", params={"total": "true", **parameters})
        assert response.headers["X-Total-Count"] == total


def test_unknown_parameters_are_ignored(client: httpx2.Client) -> None:
    made = create(client)
    path = f"/api/todos/{made['id']}"
    unknown = {"colour": "red", "id": "", "page": "-1", "_": "\ufffd"}
    assert client.get("/api/todos", params=unknown).json() == [made]
    assert client.get(path, params=unknown).json() == made
    assert client.get("/api/todos/stats", params=unknown).status_code == 200
    assert client.put(path, params=unknown, json={}).json() == made
    assert client.patch("/api/todos", params=unknown, json={"status": "active"}).status_code == 200
    assert client.delete(path, params=unknown).status_code == 204


@pytest.mark.parametrize("name", ["status", "q", "sort", "skip", "limit", "total", "cursor"])
def test_empty_known_parameter_is_invalid(client: httpx2.Client, name: str) -> None:
    problem = assert_problem(client.get(f"/api/todos?{name}="), 422)
    assert problem["errors"][0]["loc"] == ["query", name]
    assert_problem(client.get(f"/api/todos?{name}"), 422)


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "status=Active",
        "status=active%20",
        "q=%00",
        "q=a%00b",
        "sort=id",
        "sort=--title",
        "sort=Title",
        "sort=title,status",
        "skip=-1",
        "skip=x",
        "skip=1.0",
        "skip=1e2",
        "skip=%2B1",
        "skip=9223372036854775808",
        "skip=" + "9" * 5000,
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=1.5",
        "limit=NaN",
        "limit=%D9%A1",
        "limit=0x10",
        "limit=18446744073709551616",
        "total=maybe",
        "total=2",
    ],
    ids=lambda query: query[:30],
)
def test_invalid_parameter_is_422(client: httpx2.Client, query: str) -> None:
    problem = assert_problem(client.get(f"/api/todos?{query}"), 422)
    assert problem["errors"][0]["loc"] == ["query", query.partition("=")[0]]
