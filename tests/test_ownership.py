"""Whose todos: one's own with a token, those that all share without one, never another's."""

import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite

from backend.core.lists import Place, page
from backend.core.tables import now, owned_by
from backend.models import Todo
from backend.schemas import TodoPublic
from tests.databases import connection, execute, query
from tests.helpers import assert_problem, at_once, create, create_many, titles
from tests.servers import Server, serve
from tests.users import newcomer

MISSING = 2**63 - 1
CONDITIONS: list[dict[str, str]] = [
    {},
    {"If-Match": "*"},
    {"If-Match": '"x"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"x"'},
    {"Idempotency-Key": "k1"},
]


@pytest.fixture
def ada(client: httpx2.Client) -> httpx2.Client:
    """A client who has signed in."""
    return newcomer(client, "ada")


@pytest.fixture
def bob(client: httpx2.Client) -> httpx2.Client:
    """Another one."""
    return newcomer(client, "bob")


def requests_of_one(todo_id: int) -> list[tuple[str, str, Any]]:
    """Returns every kind of request that names a todo, good but for whose it is."""
    path = f"/api/todos/{todo_id}"
    return [
        ("GET", path, None),
        ("HEAD", path, None),
        ("PUT", path, {"title": "Stolen"}),
        ("PUT", path, {}),
        ("PATCH", path, {"status": "completed"}),
        ("DELETE", path, None),
        ("GET", f"{path}/", None),
    ]


def ask(
    client: httpx2.Client, method: str, path: str, body: Any, headers: dict[str, str]
) -> httpx2.Response:
    """Returns the answer to a request with or without a body."""
    sent: dict[str, Any] = {} if body is None else {"json": body}
    return client.request(method, path, headers=headers, **sent)


def test_todo_of_another_is_one_that_is_not_there_on_every_route_and_with_every_header(
    client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    of_all = create(client, "shared")
    mine = {client: of_all, ada: create(ada, "of Ada"), bob: create(bob, "of Bob")}
    for who in mine:
        for whose, todo in mine.items():
            if who is whose:
                continue
            asked = zip(requests_of_one(todo["id"]), requests_of_one(MISSING), strict=True)
            for (method, path, body), (_, missing, _) in asked:
                for headers in CONDITIONS:
                    answer = ask(who, method, path, body, headers)
                    absent = ask(who, method, missing, body, headers)
                    assert answer.status_code == absent.status_code == 404
                    assert answer.content == absent.content
                    assert set(answer.headers) == set(absent.headers)
    for whose, todo in mine.items():
        assert whose.get(f"/api/todos/{todo['id']}").json() == todo


def test_each_sees_and_changes_their_own_list(
    client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    who = {"shared": client, "ada": ada, "bob": bob}
    for name, each in who.items():
        create_many(each, f"{name} 1", f"{name} 2", f"{name} 3")
        create(each, f"{name} done", status="completed")
    for name, each in who.items():
        assert titles(each) == [f"{name} 1", f"{name} 2", f"{name} 3", f"{name} done"]
        assert titles(each, q="1") == [f"{name} 1"]
        assert titles(each, status="completed") == [f"{name} done"]
        assert titles(each, sort="-title", skip=1, limit=1) == [f"{name} 3"]
        listed = each.get("/api/todos", params={"total": "true", "limit": "3", "sort": "title"})
        assert listed.headers["X-Total-Count"] == "4"
        assert each.get("/api/todos/stats").json() == {"total": 4, "active": 3, "completed": 1}
        following = each.get(listed.links["next"]["url"])
        assert [todo["title"] for todo in following.json()] == [f"{name} done"]
        # The place in a list of one's own says nothing in another's.
        for other in who.values():
            found = other.get(listed.links["next"]["url"]).json()
            assert other is each or not [t for t in found if t["title"].startswith(name)]
    assert ada.patch("/api/todos", json={"status": "completed"}).json() == {"affected": 4}
    assert ada.delete("/api/todos", params={"status": "completed"}).json() == {"affected": 4}
    assert titles(ada) == []
    for name, each in (("shared", client), ("bob", bob)):
        assert each.get("/api/todos/stats").json() == {"total": 4, "active": 3, "completed": 1}
        assert titles(each)[0] == f"{name} 1"


def test_owner_in_a_body_or_a_query_is_ignored(
    client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    bobs = bob.get("/api/users/me").json()["id"]
    fields = {"owner_id": bobs, "owner": bobs, "user_id": bobs, "id": 4711}
    made = ada.post("/api/todos", json={"title": "mine"} | fields, params=fields).json()
    assert list(made) == ["id", "title", "status", "created_at", "updated_at"]
    ada.post("/api/todos/bulk", json=[{"title": "also mine"} | fields])
    for method in ("PUT", "PATCH"):
        changed = ada.request(method, f"/api/todos/{made['id']}", json=fields)
        assert changed.json() == made
    ada.patch("/api/todos", json={"status": "active"} | fields, params=fields)
    client.post("/api/todos", json={"title": "shared"} | fields)
    assert (titles(bob), titles(ada), titles(client)) == ([], ["mine", "also mine"], ["shared"])
    assert titles(client, **fields) == ["shared"]


def test_idempotency_key_belongs_to_one_owner(
    client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    headers = {"Idempotency-Key": "k1"}
    made = []
    for title, each in (("a", ada), ("b", bob), ("c", client)):
        first = each.post("/api/todos", json={"title": title}, headers=headers)
        again = each.post("/api/todos", json={"title": title}, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        made.append(first.json()["id"])
        other = each.post("/api/todos", json={"title": "other"}, headers=headers)
        assert_problem(other, 422)
    assert len(set(made)) == 3


def test_of_20_creates_at_once_with_one_key_each_owner_has_one_todo(
    client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    who = [client, ada, bob, ada]
    headers = {"Idempotency-Key": "k2"}

    def post(number: int) -> int:
        sent = who[number % 4].post("/api/todos", json={"title": "one"}, headers=headers)
        return sent.status_code

    assert set(at_once(20, post)) == {201}
    assert [titles(each) for each in who] == [["one"]] * 4


def test_todos_go_with_their_user(
    server: Server, client: httpx2.Client, ada: httpx2.Client, bob: httpx2.Client
) -> None:
    for each in (client, ada, bob):
        create_many(each, "a", "b")
    assert ada.delete("/api/users/me").status_code == 204
    assert query(server.database_url, "SELECT count(*) FROM todos") == [(4,)]
    assert (titles(client), titles(bob)) == (["a", "b"], ["a", "b"])


def test_database_itself_lets_the_todos_go(server: Server, ada: httpx2.Client) -> None:
    create_many(ada, "a", "b")
    keys = ["PRAGMA foreign_keys = ON"] if server.database_url.startswith("sqlite") else []
    execute(server.database_url, *keys, "DELETE FROM users")
    assert query(server.database_url, "SELECT count(*) FROM todos") == [(0,)]


@pytest.mark.parametrize("path", ["/api/todos", "/api/todos/bulk"])
def test_create_by_a_user_who_goes_meanwhile_is_401_and_leaves_nothing(
    server: Server, client: httpx2.Client, path: str
) -> None:
    body: Any = {"title": "late"} if path == "/api/todos" else [{"title": "late"}] * 50
    seen = set()
    for number in range(5):
        user = newcomer(client, f"leaving{number}")
        leaves = threading.Timer(0.01, lambda: user.delete("/api/users/me"))  # noqa: B023
        leaves.start()
        while 401 not in seen:
            seen.add(user.post(path, json=body).status_code)
            assert seen <= {201, 401}
        leaves.join()
        seen.discard(401)
    assert query(server.database_url, "SELECT count(*) FROM todos") == [(0,)]


def test_auth_required_closes_the_shared_list(server: Server, log_path: Path) -> None:
    closed = serve(server.database_url, log_path, AUTH_REQUIRED="true")
    with closed as running, running.client() as client:
        for method, path, body in (
            ("GET", "/api/todos", None),
            ("POST", "/api/todos", {"title": "x"}),
            ("PATCH", "/api/todos", {"status": "active"}),
            ("DELETE", "/api/todos?status=active", None),
            ("GET", "/api/todos/stats", None),
            ("POST", "/api/todos/bulk", [{"title": "x"}]),
            *requests_of_one(1),
        ):
            response = ask(client, method, path, body, {})
            assert response.status_code == 401, (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
        document = client.get("/openapi.json").json()
        assert document["paths"]["/api/todos"]["get"]["security"] == [{"SignIn": []}]
        fay = newcomer(client, "fay")
        create(fay, "mine")
        assert titles(fay) == ["mine"]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_page_of_one_owner_is_read_from_an_index_in_its_order(
    server: Server, client: httpx2.Client, ada: httpx2.Client, shared: bool
) -> None:
    owner = client if shared else ada
    create_many(owner, *map(str, range(1000)))
    execute(server.database_url, "ANALYZE")
    owner_id = None if shared else int(ada.get("/api/users/me").json()["id"])
    for sort in ("created_at", "-updated_at", "title", "-status"):
        value: Any = now() if sort.endswith("_at") else "5"
        for place in (None, Place(value, 250)):
            assert_index_is_used(server, owner_id, sort, place)


def assert_index_is_used(
    server: Server, owner_id: int | None, sort: str, place: Place | None
) -> None:
    """Asserts that a database goes straight to the rows of a page, and to no others."""
    on_sqlite = server.database_url.startswith("sqlite")
    statement = page(Todo, TodoPublic, sort, place, owned_by(Todo, owner_id), skips=False)
    dialect = sqlite.dialect() if on_sqlite else postgresql.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.params(skip=0, limit=11).compile(
        dialect=dialect, compile_kwargs={"literal_binds": True}
    )
    explain = "EXPLAIN QUERY PLAN" if on_sqlite else "EXPLAIN"
    planning = [] if on_sqlite else ["SET enable_seqscan = off"]  # a table so small is read at once
    shown = str(compiled).replace(":", r"\:")
    plan = explained(server, planning, f"{explain} {shown}")
    name = f"todos_of_owner_by_{sort.removeprefix('-')}"
    assert name in plan, plan
    # The few rows of the page may be sorted once more, not what they are chosen from.
    if on_sqlite:
        assert "SCAN todos" not in plan, plan
        assert "owner_id=?" in plan, plan
    else:
        assert "owner_id" in plan.partition("Index Cond")[2].partition("\\n")[0], plan
        assert "Filter" not in plan, plan
        assert "Sort" not in plan.partition("Limit")[2], plan


def explained(server: Server, before: list[str], statement: str) -> str:
    """Returns a database's plan, after these statements on the same connection."""
    with connection(server.database_url) as connected:
        for each in before:
            connected.execute(text(each))
        return "\n".join(str(row) for row in connected.execute(text(statement)))
