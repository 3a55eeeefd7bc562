"""Live: whoever follows a list is told what changes in it, when it is committed."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.databases import execute, holding
from tests.followers import (
    PROMPTLY,
    Follower,
    Reader,
    following,
    live_url,
    refusal,
    wait_until_agreed,
)
from tests.helpers import at_once, create, create_many
from tests.servers import Server, serve


@pytest.fixture
def follower(server: Server, client: httpx2.Client) -> Iterator[Follower]:
    """A client that follows the shared todos, of which there are none."""
    with following(server.base_url) as follower:
        follower.silence("", 0.2)  # the rows that were cleared
        yield follower


@pytest.fixture(scope="module")
def other_server(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another process that serves the same database, as a second worker does."""
    log_path = tmp_path_factory.mktemp("log") / "other.log"
    with serve(server.database_url, log_path) as other:
        yield other


# Who is there.


def test_welcome_is_first_and_says_how_many_follow(server: Server) -> None:
    with following(server.base_url, quiet=False) as first:
        welcome = first.receive()
        assert list(welcome) == ["type", "client", "clients"]
        assert welcome["type"] == "welcome"
        with following(server.base_url, quiet=False) as second:
            again = second.receive()
            assert again["client"] != welcome["client"]
            assert again["clients"] == welcome["clients"] + 1
            assert first.receive_type("clients") == {
                "type": "clients",
                "clients": again["clients"],
            }
        assert first.receive_type("clients")["clients"] == welcome["clients"]


def test_trailing_slash_makes_no_difference(server: Server) -> None:
    with following(server.base_url, path="/", quiet=False) as follower:
        assert follower.receive()["type"] == "welcome"


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:3000", None])
def test_page_of_an_allowed_origin_and_script_are_let_in(
    server: Server, origin: str | None
) -> None:
    with following(server.base_url, origin=origin, quiet=False) as follower:
        assert follower.receive()["type"] == "welcome"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost", "null", ""])
def test_foreign_origin_is_refused(server: Server, origin: str) -> None:
    status, problem = refusal(live_url(server.base_url), [("Origin", origin)])
    assert status == 403
    assert problem["title"] == "Forbidden"


@pytest.mark.parametrize("second", ["http://localhost:3000", "https://evil.example"])
def test_two_origins_are_no_request(server: Server, second: str) -> None:
    origins = [("Origin", "http://localhost:3000"), ("Origin", second)]
    with pytest.raises(InvalidStatus, match="400"):
        connect(live_url(server.base_url), additional_headers=origins)


def test_foreign_host_is_refused(server: Server) -> None:
    url = live_url(server.base_url).replace("127.0.0.1", "foreign.example")
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        pytest.raises(InvalidStatus, match="400"),
    ):
        connect(url, sock=plain)


def test_unknown_path_is_the_usual_problem(server: Server) -> None:
    status, problem = refusal(server.base_url.replace("http", "ws") + "/api/nothing")
    assert status == 404
    assert problem["detail"] == "There is nothing at this path"


# What has changed.


def todo_path(todo: dict[str, Any]) -> str:
    return f"/api/todos/{todo['id']}"


Change = Callable[[httpx2.Client, dict[str, Any]], httpx2.Response]

OF_ONE: dict[str, Change] = {
    "put": lambda client, todo: client.put(todo_path(todo), json={"title": "Wash up"}),
    "patch": lambda client, todo: client.patch(todo_path(todo), json={"status": "completed"}),
    "delete": lambda client, todo: client.delete(todo_path(todo)),
}
OF_MANY: dict[str, Change] = {
    "toggle all": lambda client, _: client.patch("/api/todos", json={"status": "completed"}),
    "clear": lambda client, _: client.delete("/api/todos?status=active"),
    "bulk": lambda client, _: client.post("/api/todos/bulk", json=[{"title": "a"}] * 1000),
}
OF_NONE: dict[str, Change] = {
    "says nothing": lambda client, todo: client.patch(todo_path(todo), json={}),
    "read": lambda client, todo: client.get(todo_path(todo)),
    "invalid": lambda client, todo: client.patch(todo_path(todo), json={"title": ""}),
    "another's etag": lambda client, todo: client.put(
        todo_path(todo), json={"title": "x"}, headers={"If-Match": '"no"'}
    ),
    "clear none": lambda client, _: client.delete("/api/todos?status=completed"),
    "key used before": lambda client, _: client.post(
        "/api/todos", json={"title": "once"}, headers={"Idempotency-Key": "k"}
    ),
}


def test_created_row_is_told(client: httpx2.Client, follower: Follower) -> None:
    todo = create(client)
    assert follower.receive_type("changed", PROMPTLY) == {
        "type": "changed",
        "resource": "todos",
        "ids": [todo["id"]],
    }
    follower.silence("changed")


@pytest.mark.parametrize("change", OF_ONE.values(), ids=OF_ONE)
def test_changed_row_is_told(client: httpx2.Client, follower: Follower, change: Change) -> None:
    todo = create(client)
    assert follower.told() == {todo["id"]}
    assert change(client, todo).is_success
    assert follower.told() == {todo["id"]}


@pytest.mark.parametrize("change", OF_MANY.values(), ids=OF_MANY)
def test_change_of_many_is_told(client: httpx2.Client, follower: Follower, change: Change) -> None:
    todo = create(client)
    assert follower.told() == {todo["id"]}
    assert change(client, todo).is_success
    assert follower.told() is None


def test_few_rows_made_at_once_are_told_by_id(client: httpx2.Client, follower: Follower) -> None:
    todos = create_many(client, "a", "b", "c")
    assert follower.told() == {todo["id"] for todo in todos}


@pytest.mark.parametrize("change", OF_NONE.values(), ids=OF_NONE)
def test_what_changes_nothing_is_not_told(
    client: httpx2.Client, follower: Follower, change: Change
) -> None:
    headers = {"Idempotency-Key": "k"}
    made = client.post("/api/todos", json={"title": "once"}, headers=headers).json()
    assert follower.told() == {made["id"]}
    change(client, made)
    follower.silence("changed")


def test_change_is_told_after_its_commit_and_not_before(
    server: Server, client: httpx2.Client, follower: Follower
) -> None:
    todo = create(client)
    assert follower.told() == {todo["id"]}
    locks = ["BEGIN", f"UPDATE todos SET title = 'held' WHERE id = {todo['id']}"]
    with ThreadPoolExecutor(1) as pool:
        with holding(server.database_url, *locks):
            answer = pool.submit(client.put, todo_path(todo), json={"title": "new"})
            follower.silence("changed")
        assert follower.told() in ({todo["id"]}, None)
    assert answer.result().json()["title"] == "new"


def test_what_is_told_can_be_read(client: httpx2.Client, follower: Follower) -> None:
    for number in range(20):
        todo = create(client, f"todo {number}")
        told = follower.receive_type("changed", PROMPTLY)
        assert told["ids"] == [todo["id"]]
        assert client.get(todo_path(todo)).json()["title"] == f"todo {number}"


def test_other_process_tells_too(
    server: Server, other_server: Server, client: httpx2.Client, follower: Follower
) -> None:
    with other_server.client() as other, following(other_server.base_url) as elsewhere:
        follower.silence("changed", 0.3)
        todo = create(client)
        assert elsewhere.told() in ({todo["id"]}, None)
        assert follower.told() == {todo["id"]}
        other.patch("/api/todos", json={"status": "completed"})
        assert follower.told() is None
        for change in OF_ONE.values():
            assert change(other, todo).is_success
            assert follower.told() in ({todo["id"]}, None)


def test_whoever_follows_the_rule_ends_with_the_list_as_it_is(
    server: Server, other_server: Server, client: httpx2.Client
) -> None:
    def write(number: int) -> None:
        with (server if number % 2 else other_server).client() as own:
            for n in range(10):
                todo = create(own, f"todo {n} of {number}")
                if n % 2:
                    own.patch(todo_path(todo), json={"status": "completed"})
                if n % 3 == 0:
                    own.delete(todo_path(todo))
            own.patch("/api/todos?status=active&q=5", json={"status": "completed"})

    with ExitStack() as stack:
        readers = [
            stack.enter_context(Reader(each.base_url))
            for each in (server, other_server, server, other_server)
        ]
        at_once(4, write)
        wait_until_agreed(readers, client)
        assert readers[0].rows


@pytest.mark.parametrize("path", ["/api/todos?q=", "/api/todos/0"])
def test_refused_request_is_not_told(client: httpx2.Client, follower: Follower, path: str) -> None:
    assert client.patch(path, json={"status": "completed"}).is_client_error
    follower.silence("changed")


def test_commit_that_fails_is_not_told(own_database_url: str, log_path: Path) -> None:
    if own_database_url.startswith("sqlite"):
        pytest.skip("SQLite has no trigger that waits for COMMIT")
    with (
        serve(own_database_url, log_path) as server,
        server.client() as client,
    ):
        execute(
            own_database_url,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no'; END $$",
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON todos DEFERRABLE "
            "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        with following(server.base_url) as follower:
            assert client.post("/api/todos", json={"title": "x"}).is_error
            follower.silence("changed")


# What clients say to each other.


def test_message_goes_to_all_others(server: Server, client: httpx2.Client) -> None:
    with (
        following(server.base_url, quiet=False) as first,
        following(server.base_url) as second,
        following(server.base_url) as third,
    ):
        name = first.receive()["client"]
        for content in ("hi", None, 0, [1, {"a": "ü\U0001f600\0"}], {"x": 1.5}):
            first.send({"type": "message", "content": content})
            expected = {"type": "message", "from": name, "content": content}
            assert second.receive_type("message") == expected
            assert third.receive_type("message") == expected
        first.silence("message")


def test_message_goes_to_one(server: Server) -> None:
    with (
        following(server.base_url) as first,
        following(server.base_url, quiet=False) as second,
        following(server.base_url) as third,
    ):
        name = second.receive()["client"]
        first.send({"type": "message", "content": "psst", "to": name})
        first.send({"type": "message", "content": "lost", "to": "nobody"})
        assert second.receive_type("message")["content"] == "psst"
        third.silence("message")
        second.silence("message", 0.05)


def test_message_and_count_reach_other_processes(server: Server, other_server: Server) -> None:
    if server.database_url.startswith("sqlite"):
        pytest.skip("on SQLite only changes cross between processes")
    time.sleep(0.5)  # until those of other tests are known to be gone
    with following(server.base_url) as first:
        with following(other_server.base_url, quiet=False) as second:
            welcome = second.receive()
            assert first.receive_type("clients")["clients"] == 2
            first.send({"type": "message", "content": "to all"})
            assert second.receive_type("message")["content"] == "to all"
            first.send({"type": "message", "content": "to you", "to": welcome["client"]})
            assert second.receive_type("message")["content"] == "to you"
        assert first.receive_type("clients")["clients"] == 1


# What is not let through.


LONG = json.dumps({"type": "message", "content": "x" * 5000})

REFUSED: dict[str, tuple[str | bytes, int]] = {
    "no JSON": ("hello", 1007),
    "nothing": ("", 1007),
    "bytes": (b'{"type": "message", "content": 1}', 1007),
    "NUL": ("\0", 1007),
    "NUL in a text": ('{"type": "message", "content": "\0"}', 1007),
    "NaN": ('{"type": "message", "content": NaN}', 1007),
    "lone surrogate": ('{"type": "message", "content": "\\ud800"}', 1007),
    "too deep": ('{"type": "message", "content": ' + "[" * 1900 + "]" * 1900 + "}", 1007),
    "no object": ("[]", 1008),
    "null": ("null", 1008),
    "no type": ("{}", 1008),
    "unknown type": ('{"type": "shout"}', 1008),
    "type that is no text": ('{"type": []}', 1008),
    "no content": ('{"type": "message"}', 1008),
    "wrong to": ('{"type": "message", "content": 1, "to": 7}', 1008),
    "long content": (json.dumps({"type": "message", "content": "ü" * 500}), 1008),
    "over 4 KB": (LONG[:4097], 1009),
    "16 MiB": ("x" * 2**24, 1009),
}


@pytest.mark.parametrize(("message", "code"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_the_rules_closes(server: Server, message: str | bytes, code: int) -> None:
    with following(server.base_url) as follower, following(server.base_url) as other:
        follower.connection.send(message)
        assert follower.close_code() == code
        other.silence("message", 0.05)
    assert "Traceback" not in server.log


def test_text_that_is_no_utf_8_closes(server: Server) -> None:
    with following(server.base_url) as follower:
        follower.connection.send(b"\xff\xfe", text=True)
        assert follower.close_code() == 1007
    assert "Traceback" not in server.log


def test_longest_message_is_passed_on(server: Server) -> None:
    content = "x" * 998  # and its quotes
    with following(server.base_url) as first, following(server.base_url) as second:
        message = json.dumps({"type": "message", "content": content})
        first.connection.send(message + " " * (4096 - len(message)))
        assert second.receive_type("message")["content"] == content


def test_more_than_twenty_messages_a_second_close(server: Server) -> None:
    with following(server.base_url) as follower:
        for _ in range(20):
            follower.send({"type": "message", "content": 1})
        follower.silence("message", 0.05)  # still open
        with suppress(ConnectionClosed):  # which may be before the last one is sent
            for _ in range(40):
                follower.send({"type": "message", "content": 1})
        assert follower.close_code() == 1008


# What it costs others, and the end.


@pytest.mark.slow
def test_open_connection_holds_no_thread_and_outlives_the_request_time(
    own_database_url: str, log_path: Path
) -> None:
    with (
        serve(own_database_url, log_path, DB_POOL_SIZE="1", REQUEST_TIMEOUT="2") as server,
        ExitStack() as stack,
    ):
        client = stack.enter_context(server.client())
        followers = [stack.enter_context(following(server.base_url)) for _ in range(20)]
        time.sleep(2.5)
        todo = create(client)
        for follower in followers:
            assert follower.receive_type("changed", PROMPTLY)["ids"] == [todo["id"]]


@pytest.mark.parametrize("own", [True, False], ids=["python -m backend", "uvicorn"])
def test_end_of_the_server_closes_all_at_once(tmp_path: Path, own: bool) -> None:
    app = None if own else "backend.main:app"
    url = f"sqlite:///{tmp_path}/todos.db"
    with serve(url, tmp_path / "log", app=app) as server, ExitStack() as stack:
        followers = [stack.enter_context(following(server.base_url)) for _ in range(5)]
        started = time.monotonic()
        server.process.terminate()
        assert [follower.close_code() for follower in followers] == [1012] * 5
        server.process.wait(5)
        assert time.monotonic() - started < 2
        assert "Traceback" not in server.log


def test_log_has_two_lines_for_a_connection_and_no_query(server: Server) -> None:
    with following(server.base_url, path="?secret=7"):
        pass
    with server.client() as client:
        client.get("/health")
    lines = [line for line in server.log.splitlines() if "/api/live" in line][-2:]
    assert "GET /api/live 101 " in lines[0]
    assert "WEBSOCKET /api/live 1000 " in lines[1]
    assert lines[0].split()[-1] == lines[1].split()[-1]
    assert "secret" not in server.log
