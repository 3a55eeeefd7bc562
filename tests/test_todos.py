"""One todo: what it is, and how it is made, read, changed and deleted."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.databases import execute
from tests.helpers import assert_problem, at_once, create, create_many, titles
from tests.servers import serve

MAX_ID = 2**63 - 1
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

UPDATES = pytest.mark.parametrize("method", ["PUT", "PATCH"])

CONTROL_CHARACTERS = "".join(map(chr, range(1, 32)))
TITLES = [
    "Buy milk",
    f"<{CONTROL_CHARACTERS}>",
    "quotes \" ' ` and slashes \\ / \\u0041 \\n",
    "delete \x7f, next line \x85!, separators \u2028\u2029!",
    "emoji 😀 \U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "\ufeffbyte order mark, noncharacters \ufffe \uffff \U0010ffff",
    "<script>&amp;</script> %00 {{7*7}} '; DROP TABLE todos; --",
]


def as_bytes(todo: dict[str, Any]) -> bytes:
    """Returns the one way in which the API writes a todo."""
    fields = ("id", "title", "status", "created_at", "updated_at")
    ordered = {name: todo[name] for name in fields}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()


def test_create_answers_with_the_todo_and_its_location(client: httpx2.Client) -> None:
    response = client.post("/api/todos", json={"title": "Buy milk"})
    assert response.status_code == 201
    todo = response.json()
    assert todo["title"] == "Buy milk"
    assert set(todo) == {"id", "title", "status", "created_at", "updated_at"}
    assert response.headers["Location"] == f"/api/todos/{todo['id']}"
    assert client.get(response.headers["Location"]).json() == todo


def test_location_does_not_depend_on_a_proxy(client: httpx2.Client) -> None:
    headers = {"X-Forwarded-Host": "todos.example", "X-Forwarded-Proto": "https"}
    response = client.post("/api/todos", json={"title": "Buy milk"}, headers=headers)
    assert response.headers["Location"] == f"/api/todos/{response.json()['id']}"


def test_todo_is_active_unless_given(client: httpx2.Client) -> None:
    assert create(client)["status"] == "active"
    assert create(client, status="active")["status"] == "active"
    assert create(client, status="completed")["status"] == "completed"


def test_create_ignores_unknown_fields(client: httpx2.Client) -> None:
    sent = {"title": "Buy milk", "id": 4711, "created_at": "1999-01-01T00:00:00Z", "colour": "red"}
    todo = client.post("/api/todos", json=sent).json()
    assert todo["id"] != 4711
    assert not todo["created_at"].startswith("1999")
    assert "colour" not in todo


@pytest.mark.parametrize(
    "space",
    [" ", "\t\r\n", "\x1c\x1f", "\x85", "\xa0", "\u2003\u2028\u3000"],
    ids=["blank", "ascii", "separators", "next line", "no-break", "unicode"],
)
def test_title_is_trimmed(client: httpx2.Client, space: str) -> None:
    todo = create(client, f"{space}Buy{space}milk{space}")
    assert todo["title"] == f"Buy{space}milk"
    changed = client.put(f"/api/todos/{todo['id']}", json={"title": f"{space}Sell{space}"})
    assert changed.json()["title"] == "Sell"


@pytest.mark.parametrize(
    "title",
    ["x", "x" * 200, f"{' ' * 300}{'x' * 200}{' ' * 300}", "😀" * 200, "ΐ" * 200],
    ids=["one", "two hundred", "spaces around", "beyond 16 bits", "folds to three characters"],
)
def test_title_has_up_to_200_characters_after_trimming(client: httpx2.Client, title: str) -> None:
    todo = create(client, title)
    assert todo["title"] == title.strip()
    assert titles(client, q=title.strip()) == [title.strip()]


@UPDATES
def test_times_are_utc_and_move_with_every_change(client: httpx2.Client, method: str) -> None:
    made = create(client)
    assert UTC_TIME.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    path = f"/api/todos/{made['id']}"
    last = made["updated_at"]
    for change in ({"title": "Sell milk"}, {"status": "completed"}, {"status": "completed"}):
        changed = client.request(method, path, json=change).json()
        assert changed["created_at"] == made["created_at"]
        assert UTC_TIME.fullmatch(changed["updated_at"])
        assert changed["updated_at"] > last
        last = changed["updated_at"]
    client.patch("/api/todos", json={"status": "active"})
    assert client.get(path).json()["updated_at"] > last


def test_times_are_now(client: httpx2.Client) -> None:
    before = datetime.now(UTC)
    made = datetime.fromisoformat(create(client)["created_at"])
    assert before <= made <= datetime.now(UTC)


def test_id_is_never_reused(client: httpx2.Client) -> None:
    ids = [create(client)["id"] for _ in range(3)]
    assert ids == sorted(ids)
    client.delete(f"/api/todos/{ids[-1]}")
    after_delete = create(client, status="completed")["id"]
    assert after_delete > ids[-1]
    client.delete("/api/todos", params={"status": "completed"})
    assert create_many(client, "Sell milk")[0]["id"] > after_delete


def test_id_has_64_bits(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path) as server, server.client() as client:
        first = create(client)["id"]
        if own_database_url.startswith("sqlite"):
            execute(own_database_url, f"UPDATE sqlite_sequence SET seq = {MAX_ID - 1}")
        else:
            execute(own_database_url, f"ALTER SEQUENCE todos_id_seq RESTART WITH {MAX_ID}")
        response = client.post("/api/todos", json={"title": "The last one"})
        assert response.headers["Location"] == f"/api/todos/{MAX_ID}"
        path = f"/api/todos/{MAX_ID}"
        assert client.get(path).json()["id"] == MAX_ID
        assert client.put(path, json={"status": "completed"}).json()["id"] == MAX_ID
        page = client.get("/api/todos", params={"limit": 1, "sort": "-created_at"})
        assert [todo["id"] for todo in page.json()] == [MAX_ID]
        page = client.get(page.links["next"]["url"])
        assert [todo["id"] for todo in page.json()] == [first]
        assert client.delete(path).status_code == 204


@pytest.mark.parametrize("title", TITLES)
def test_todo_reads_the_same_everywhere(client: httpx2.Client, title: str) -> None:
    response = client.post("/api/todos", json={"title": title})
    todo = response.json()
    path = f"/api/todos/{todo['id']}"
    assert todo["title"] == title
    assert response.content == as_bytes(todo)
    assert client.get(path).content == response.content
    assert client.get("/api/todos").content == b"[" + response.content + b"]"
    assert client.patch(path, json={}).content == response.content
    changed = client.patch(path, json={"status": "completed"})
    assert changed.content == as_bytes(changed.json())
    assert client.get(path).content == changed.content
    bulk = client.post("/api/todos/bulk", json=[{"title": title}])
    assert bulk.content == b"[" + as_bytes(bulk.json()[0]) + b"]"
    assert bulk.json()[0]["title"] == title


def test_every_character_comes_back(client: httpx2.Client) -> None:
    characters = [chr(code) for code in range(1, 0x10000) if not 0xD800 <= code <= 0xDFFF]
    pieces = ["".join(characters[start : start + 150]) for start in range(0, len(characters), 150)]
    sent = [f"<{piece}>" for piece in pieces]
    assert [todo["title"] for todo in create_many(client, *sent)] == sent
    listed = client.get("/api/todos", params={"limit": 1000})
    assert [todo["title"] for todo in listed.json()] == sent
    assert listed.content == b"[" + b",".join(map(as_bytes, listed.json())) + b"]"


@UPDATES
def test_update_is_partial(client: httpx2.Client, method: str) -> None:
    made = create(client, "Buy milk")
    path = f"/api/todos/{made['id']}"
    renamed = client.request(method, path, json={"title": "Sell milk"})
    assert renamed.status_code == 200
    assert (renamed.json()["title"], renamed.json()["status"]) == ("Sell milk", "active")
    completed = client.request(method, path, json={"status": "completed"}).json()
    assert (completed["title"], completed["status"]) == ("Sell milk", "completed")
    both = client.request(method, path, json={"title": "Rest", "status": "active"}).json()
    assert (both["title"], both["status"]) == ("Rest", "active")
    assert client.get(path).json() == both


@UPDATES
def test_update_leaves_other_todos_alone(client: httpx2.Client, method: str) -> None:
    first, second = create_many(client, "First", "Second")
    client.request(method, f"/api/todos/{first['id']}", json={"status": "completed"})
    assert client.get(f"/api/todos/{second['id']}").json() == second


@UPDATES
@pytest.mark.parametrize("field", ["title", "status"])
def test_update_rejects_null(client: httpx2.Client, method: str, field: str) -> None:
    made = create(client)
    path = f"/api/todos/{made['id']}"
    sent = {"title": "Sell milk", "status": "completed", field: None}
    problem = assert_problem(client.request(method, path, json=sent), 422)
    assert problem["errors"][0]["loc"] == ["body", field]
    assert client.get(path).json() == made


@UPDATES
def test_update_ignores_other_fields_that_a_client_sends_back(
    client: httpx2.Client, method: str
) -> None:
    made = create(client)
    sent = {**made, "title": "Sell milk", "id": 4711, "created_at": None, "updated_at": [], "x": 1}
    changed = client.request(method, f"/api/todos/{made['id']}", json=sent).json()
    assert changed["id"] == made["id"]
    assert changed["title"] == "Sell milk"
    assert changed["created_at"] == made["created_at"]
    assert changed["updated_at"] > made["updated_at"]


@UPDATES
@pytest.mark.parametrize("nothing", [{}, {"id": 1, "colour": "red"}], ids=["empty", "unknown"])
def test_update_that_says_nothing_changes_nothing(
    client: httpx2.Client, method: str, nothing: dict[str, Any]
) -> None:
    path = f"/api/todos/{create(client)['id']}"
    before = client.get(path)
    response = client.request(method, path, json=nothing)
    assert response.status_code == 200
    assert response.content == before.content
    assert response.headers["ETag"] == before.headers["ETag"]
    assert client.get(path).content == before.content


def test_last_writer_wins_field_by_field(client: httpx2.Client) -> None:
    made = create_many(client, *["Buy milk"] * 10)
    changes = [{"title": "Sell milk"}, {"status": "completed"}]
    responses = at_once(
        20, lambda n: client.put(f"/api/todos/{made[n // 2]['id']}", json=changes[n % 2])
    )
    assert {response.status_code for response in responses} == {200}
    ended = {(todo["title"], todo["status"]) for todo in client.get("/api/todos").json()}
    assert ended == {("Sell milk", "completed")}


def test_delete_answers_204_without_a_body(client: httpx2.Client) -> None:
    first, second = create_many(client, "First", "Second")
    response = client.delete(f"/api/todos/{first['id']}")
    assert response.status_code == 204
    assert response.content == b""
    assert titles(client) == ["Second"]
    assert client.get(f"/api/todos/{second['id']}").json() == second


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "never there"])
def test_missing_todo_is_404(client: httpx2.Client, method: str, gone: bool) -> None:
    todo_id = create(client)["id"] if gone else MAX_ID
    client.delete(f"/api/todos/{todo_id}")
    for body in ({}, {"status": "completed"}) if method in ("PUT", "PATCH") else (None,):
        problem = assert_problem(client.request(method, f"/api/todos/{todo_id}", json=body), 404)
        assert problem["detail"] == "Todo not found"


def test_stats_count_the_todos(client: httpx2.Client) -> None:
    assert client.get("/api/todos/stats").json() == {"total": 0, "active": 0, "completed": 0}
    create_many(client, "First", "Second")
    create(client, status="completed")
    response = client.get("/api/todos/stats")
    assert response.status_code == 200
    assert response.json() == {"total": 3, "active": 2, "completed": 1}
