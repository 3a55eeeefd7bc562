"""Many todos in one request: create, toggle all, clear completed."""

from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, create, create_many, titles


def statuses(client: httpx2.Client) -> dict[str, str]:
    """Returns every todo's status by its title."""
    return {todo["title"]: todo["status"] for todo in client.get("/api/todos").json()}


@pytest.fixture
def four(client: httpx2.Client) -> httpx2.Client:
    """A client of an API with two active and two completed todos."""
    create_many(client, "Buy milk", "Buy bread")
    create_many(client, "Sell milk", "Sell bread", status="completed")
    return client


def test_bulk_creates_in_the_order_given(client: httpx2.Client) -> None:
    sent = [{"title": f"Todo {n * 7 % 10}"} for n in range(10)]
    sent[3]["status"] = "completed"
    response = client.post("/api/todos/bulk", json=sent)
    assert response.status_code == 201
    made = response.json()
    assert [todo["title"] for todo in made] == [each["title"] for each in sent]
    assert [todo["status"] for todo in made] == 3 * ["active"] + ["completed"] + 6 * ["active"]
    assert len({todo["id"] for todo in made}) == 10
    assert client.get("/api/todos").content == response.content
    for todo in made:
        assert client.get(f"/api/todos/{todo['id']}").json() == todo


def test_bulk_trims_and_ignores_like_create(client: httpx2.Client) -> None:
    sent = [{"title": "  Buy milk ", "id": 4711, "colour": None}]
    (made,) = client.post("/api/todos/bulk", json=sent).json()
    assert made["title"] == "Buy milk"
    assert made["id"] != 4711


@pytest.mark.parametrize("count", [1, 1000])
def test_bulk_takes_1_to_1000(client: httpx2.Client, count: int) -> None:
    sent = [{"title": f"{n} {'😀' * 190}"} for n in range(count)]
    response = client.post("/api/todos/bulk", json=sent)
    assert response.status_code == 201
    assert [todo["title"] for todo in response.json()] == [each["title"] for each in sent]
    assert client.get("/api/todos", params={"limit": 1000}).json() == response.json()


@pytest.mark.parametrize("count", [0, 1001])
def test_bulk_refuses_none_and_more_than_1000(client: httpx2.Client, count: int) -> None:
    problem = assert_problem(client.post("/api/todos/bulk", json=count * [{"title": "x"}]), 422)
    assert problem["errors"][0]["loc"] == ["body"]
    assert titles(client) == []


@pytest.mark.parametrize("place", [0, 4, 8])
@pytest.mark.parametrize(
    "bad",
    [{}, {"title": " "}, {"title": "x", "status": "done"}, {"title": "a\0b"}, None, "x"],
    ids=["empty", "blank", "status", "NUL", "null", "text"],
)
def test_bulk_creates_all_or_none(client: httpx2.Client, place: int, bad: Any) -> None:
    sent: list[Any] = [{"title": f"Todo {n}"} for n in range(8)]
    sent.insert(place, bad)
    problem = assert_problem(client.post("/api/todos/bulk", json=sent), 422)
    assert problem["errors"][0]["loc"][:2] == ["body", place]
    assert titles(client) == []


@pytest.mark.parametrize("body", [{"title": "x"}, [[{"title": "x"}]], "x", 1, None])
def test_bulk_refuses_anything_but_an_array_of_todos(client: httpx2.Client, body: Any) -> None:
    assert_problem(client.post("/api/todos/bulk", json=body), 422)
    assert titles(client) == []


def test_toggle_all(four: httpx2.Client) -> None:
    response = four.patch("/api/todos", json={"status": "completed"})
    assert response.status_code == 200
    assert response.json() == {"affected": 4}
    assert set(statuses(four).values()) == {"completed"}
    assert four.patch("/api/todos", json={"status": "active"}).json() == {"affected": 4}
    assert set(statuses(four).values()) == {"active"}


def test_toggle_all_changes_nothing_but_the_status(client: httpx2.Client) -> None:
    made = create(client)
    client.patch("/api/todos", json={"status": "completed", "title": "ignored"})
    (changed,) = client.get("/api/todos").json()
    assert changed["updated_at"] > made["updated_at"]
    assert {**changed, "updated_at": None} == {**made, "status": "completed", "updated_at": None}


@pytest.mark.parametrize(
    ("parameters", "affected"),
    [
        ({"status": "active"}, ["Buy bread", "Buy milk"]),
        ({"q": "MILK"}, ["Buy milk", "Sell milk"]),
        ({"q": "%"}, []),
        ({"status": "completed", "q": "bread"}, ["Sell bread"]),
        ({"unknown": "milk"}, ["Buy bread", "Buy milk", "Sell bread", "Sell milk"]),
    ],
    ids=["status", "q", "sign", "both", "unknown"],
)
def test_toggle_affects_every_todo_that_the_filters_choose(
    four: httpx2.Client, parameters: dict[str, str], affected: list[str]
) -> None:
    before = {todo["title"]: todo for todo in four.get("/api/todos").json()}
    response = four.patch("/api/todos", params=parameters, json={"status": "completed"})
    assert response.json() == {"affected": len(affected)}
    after = {todo["title"]: todo for todo in four.get("/api/todos").json()}
    assert sorted(title for title in after if after[title] != before[title]) == affected
    assert all(after[title]["status"] == "completed" for title in affected)
    assert all(after[title]["updated_at"] > before[title]["updated_at"] for title in affected)


def test_toggle_of_no_todo_affects_none(client: httpx2.Client) -> None:
    response = client.patch("/api/todos", json={"status": "completed"})
    assert (response.status_code, response.json()) == (200, {"affected": 0})


@pytest.mark.parametrize(
    "body", [{}, {"status": None}, {"status": "done"}, {"title": "x"}, [], None]
)
def test_toggle_needs_a_status(four: httpx2.Client, body: Any) -> None:
    before = four.get("/api/todos").content
    assert_problem(four.patch("/api/todos", json=body), 422)
    assert four.get("/api/todos").content == before


def test_clear_completed(four: httpx2.Client) -> None:
    response = four.delete("/api/todos", params={"status": "completed"})
    assert response.status_code == 200
    assert response.json() == {"affected": 2}
    assert statuses(four) == {"Buy milk": "active", "Buy bread": "active"}
    again = four.delete("/api/todos", params={"status": "completed"})
    assert (again.status_code, again.json()) == (200, {"affected": 0})


@pytest.mark.parametrize(
    ("parameters", "left"),
    [
        ({"status": "active"}, {"Sell milk", "Sell bread"}),
        ({"status": "completed", "q": "MILK"}, {"Buy milk", "Buy bread", "Sell bread"}),
        ({"status": "completed", "q": "_"}, {"Buy milk", "Buy bread", "Sell milk", "Sell bread"}),
    ],
    ids=["active", "q", "sign"],
)
def test_clear_deletes_what_the_filters_choose(
    four: httpx2.Client, parameters: dict[str, str], left: set[str]
) -> None:
    response = four.delete("/api/todos", params=parameters)
    assert response.json() == {"affected": 4 - len(left)}
    assert set(statuses(four)) == left


@pytest.mark.parametrize("path", ["/api/todos", "/api/todos/", "/api/todos?q=milk"])
def test_clear_without_a_status_deletes_nothing(four: httpx2.Client, path: str) -> None:
    problem = assert_problem(four.delete(path), 422)
    assert problem["errors"][0]["loc"] == ["query", "status"]
    assert len(titles(four)) == 4


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    "query", ["status=", "q=&status=active", "status=done", "status=active&q=%00"]
)
def test_invalid_filter_changes_nothing(four: httpx2.Client, method: str, query: str) -> None:
    before = four.get("/api/todos").content
    body = {"status": "active"} if method == "PATCH" else None
    problem = assert_problem(four.request(method, f"/api/todos?{query}", json=body), 422)
    assert problem["errors"][0]["loc"][0] == "query"
    assert four.get("/api/todos").content == before
