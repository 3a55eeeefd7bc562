"""What todos add to what every resource does: their status, and their stats."""

from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, create, create_many, titles


def test_todo_is_active_unless_given(client: httpx2.Client) -> None:
    assert create(client)["status"] == "active"
    assert create(client, status="active")["status"] == "active"
    assert create(client, status="completed")["status"] == "completed"


def test_status_filters(client: httpx2.Client) -> None:
    create(client, "Open")
    create(client, "Done", status="completed")
    assert titles(client, status="active") == ["Open"]
    assert titles(client, status="completed") == ["Done"]
    assert titles(client) == ["Open", "Done"]


def test_filters_combine(client: httpx2.Client) -> None:
    create_many(client, "Buy milk", "Buy bread", "Sell milk")
    create(client, "Milk the cow", status="completed")
    assert titles(client, q="milk", status="active", sort="-title") == ["Sell milk", "Buy milk"]
    assert titles(client, q="milk", status="completed") == ["Milk the cow"]


@pytest.mark.parametrize(
    "status",
    [
        *(None, 1, 1e300, 10**400, ["active"], {"Zaphod": 1}),
        *("Zaphod", "ACTIVE", " active", "", "active\0"),
    ],
    ids=lambda status: repr(status)[:20],
)
def test_status_is_one_of_two_words(client: httpx2.Client, status: Any) -> None:
    todo = create(client)
    path = f"/api/todos/{todo['id']}"
    body = {"title": "x", "status": status}
    for method, where in (("POST", "/api/todos"), ("PUT", path), ("PATCH", path)):
        problem = assert_problem(client.request(method, where, json=body), 422)
        assert [error["loc"] for error in problem["errors"]] == [["body", "status"]]
    problem = assert_problem(client.patch("/api/todos", json=body), 422)
    assert [error["loc"] for error in problem["errors"]] == [["body", "status"]]
    problem = assert_problem(client.post("/api/todos/bulk", json=[{"title": "x"}, body]), 422)
    assert [error["loc"] for error in problem["errors"]] == [["body", 1, "status"]]
    assert client.get("/api/todos").json() == [todo]


@pytest.mark.parametrize("status", ["done", "Active", "active%20", ""])
def test_filter_takes_only_a_status(client: httpx2.Client, status: str) -> None:
    response = client.get(f"/api/todos?status={status}")
    assert assert_problem(response, 422)["errors"][0]["loc"] == ["query", "status"]


def test_stats_count_the_todos(client: httpx2.Client) -> None:
    assert client.get("/api/todos/stats").json() == {"total": 0, "active": 0, "completed": 0}
    create_many(client, "First", "Second")
    create(client, status="completed")
    response = client.get("/api/todos/stats")
    assert response.status_code == 200
    assert response.json() == {"total": 3, "active": 2, "completed": 1}
    assert client.get("/api/todos/stats?unknown=x").json() == response.json()
    assert client.get("/api/todos/stats/").content == response.content


def test_todo_is_documented_to_the_last_field(client: httpx2.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Status"]["enum"] == ["active", "completed"]
    assert schemas["TodoPublic"]["properties"]["status"] == {"$ref": "#/components/schemas/Status"}
    assert schemas["TodoPublic"]["properties"]["title"]["maxLength"] == 200
    assert set(schemas["TodoCreate"]["properties"]) == {"title", "status"}
    assert schemas["TodoCreate"]["required"] == ["title"]
    assert set(schemas["TodoUpdate"]["properties"]) == {"title", "status"}
    assert set(schemas["StatusUpdate"]["properties"]) == {"status"}
    assert schemas["StatusUpdate"]["required"] == ["status"]
