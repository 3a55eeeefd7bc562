"""ETags: reading what has changed only, and changing what has not."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.databases import holding, query
from tests.helpers import assert_problem, at_once, create, create_many, wait_until
from tests.servers import Server

STRONG_ETAG = re.compile(r'"[!#-~]+"')

CHANGING = pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])


def change(
    client: httpx2.Client, method: str, path: str, if_match: str, title: str = "Sell milk"
) -> httpx2.Response:
    """Changes or deletes a todo if it matches."""
    body = None if method == "DELETE" else {"title": title}
    return client.request(method, path, json=body, headers={"If-Match": if_match})


def etag(client: httpx2.Client, path: str) -> str:
    """Returns the todo's current ETag."""
    tag: str = client.get(path).headers["ETag"]
    return tag


@pytest.fixture
def path(client: httpx2.Client) -> str:
    """The path of a todo."""
    return f"/api/todos/{create(client)['id']}"


def test_every_answer_with_one_todo_has_its_etag(client: httpx2.Client) -> None:
    made = client.post("/api/todos", json={"title": "Buy milk"})
    assert STRONG_ETAG.fullmatch(made.headers["ETag"])
    path = made.headers["Location"]
    assert client.get(path).headers["ETag"] == made.headers["ETag"]
    for method in ("PUT", "PATCH"):
        changed = client.request(method, path, json={"title": "Sell milk"})
        assert STRONG_ETAG.fullmatch(changed.headers["ETag"])
        assert client.get(path).headers["ETag"] == changed.headers["ETag"]


def test_etag_changes_with_every_change(client: httpx2.Client, path: str) -> None:
    tags = [etag(client, path)]
    for change in ({"title": "Sell milk"}, {"status": "completed"}, {"status": "completed"}):
        client.put(path, json=change)
        tags.append(etag(client, path))
    for status in ("active", "active"):
        client.patch("/api/todos", json={"status": status})
        tags.append(etag(client, path))
    client.put(path, json={"title": "Buy milk", "status": "active"})
    tags.append(etag(client, path))
    assert len(set(tags)) == len(tags)


def test_etag_stays_while_nothing_changes(client: httpx2.Client, path: str) -> None:
    before = etag(client, path)
    other = create(client, "Another")
    client.delete(f"/api/todos/{other['id']}")
    client.put(path, json={})
    client.put(path, json={"title": None})
    assert etag(client, path) == before


def test_etags_of_equal_todos_differ(client: httpx2.Client) -> None:
    first, second = create_many(client, "Same", "Same")
    tags = {etag(client, f"/api/todos/{todo['id']}") for todo in (first, second)}
    assert len(tags) == 2


@pytest.mark.parametrize(
    "condition",
    [
        "{etag}",
        "W/{etag}",
        "*",
        '"x", {etag}',
        '{etag},"x"',
        'W/"x" ,W/{etag}, ""',
        '"a,b", {etag}',
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unchanged_todo_is_304(
    client: httpx2.Client, path: str, condition: str, method: str
) -> None:
    tag = etag(client, path)
    headers = {"If-None-Match": condition.format(etag=tag)}
    response = client.request(method, path, headers=headers)
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == tag


@pytest.mark.parametrize("condition", ['"x"', 'W/"x"', '"x", "y"', '""'])
def test_changed_todo_is_sent_whole(client: httpx2.Client, path: str, condition: str) -> None:
    response = client.get(path, headers={"If-None-Match": condition})
    assert response.status_code == 200
    assert response.json()["title"] == "Buy milk"


def test_old_etag_does_not_match_after_a_change(client: httpx2.Client, path: str) -> None:
    old = etag(client, path)
    client.put(path, json={"title": "Sell milk"})
    assert client.get(path, headers={"If-None-Match": old}).status_code == 200


@CHANGING
@pytest.mark.parametrize(
    "condition", ["{etag}", "*", '"x", {etag}', '{etag},W/"x"', '"a,b",{etag}']
)
def test_change_goes_through_while_the_etag_matches(
    client: httpx2.Client, path: str, method: str, condition: str
) -> None:
    if_match = condition.format(etag=etag(client, path))
    response = change(client, method, path, if_match)
    if method == "DELETE":
        assert response.status_code == 204
        assert client.get(path).status_code == 404
    else:
        assert response.status_code == 200
        assert client.get(path).json() == response.json()
        assert response.json()["title"] == "Sell milk"


@CHANGING
@pytest.mark.parametrize("condition", ['"x"', "W/{etag}", 'W/{etag}, "x"', '"x", "y"', '""'])
def test_change_is_412_unless_the_etag_matches_strongly(
    client: httpx2.Client, path: str, method: str, condition: str
) -> None:
    before = client.get(path)
    if_match = condition.format(etag=before.headers["ETag"])
    assert_problem(change(client, method, path, if_match), 412)
    assert client.get(path).content == before.content


@CHANGING
def test_change_is_412_when_the_todo_has_moved_on(
    client: httpx2.Client, path: str, method: str
) -> None:
    old = etag(client, path)
    client.put(path, json={"title": "Changed elsewhere"})
    assert_problem(change(client, method, path, old), 412)
    assert client.get(path).json()["title"] == "Changed elsewhere"


def test_update_that_says_nothing_keeps_the_condition(client: httpx2.Client, path: str) -> None:
    tag = etag(client, path)
    good = client.put(path, json={}, headers={"If-Match": tag})
    assert (good.status_code, good.headers["ETag"]) == (200, tag)
    assert_problem(client.put(path, json={}, headers={"If-Match": '"x"'}), 412)


@CHANGING
@pytest.mark.parametrize("condition", ['"x"', "*", 'W/"x"'])
def test_condition_on_a_missing_todo_is_404(
    client: httpx2.Client, path: str, method: str, condition: str
) -> None:
    client.delete(path)
    problem = assert_problem(change(client, method, path, condition), 404)
    assert problem["detail"] == "Todo not found"


def test_etag_of_a_deleted_todo_matches_none(client: httpx2.Client, path: str) -> None:
    client.delete(path)
    assert_problem(client.get(path, headers={"If-None-Match": "*"}), 404)


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("condition", ["", "x", '"x', 'x"', "'x'", '"x" "y"', '*, "x"', 'w/"x"'])
def test_malformed_condition_is_422(
    client: httpx2.Client, path: str, name: str, condition: str
) -> None:
    method = "GET" if name == "If-None-Match" else "DELETE"
    problem = assert_problem(client.request(method, path, headers={name: condition}), 422)
    assert problem["errors"][0]["loc"] == ["header", name]
    assert client.get(path).status_code == 200


def test_condition_may_be_split_over_several_headers(client: httpx2.Client, path: str) -> None:
    tag = etag(client, path)
    unchanged = client.get(path, headers=[("If-None-Match", '"x"'), ("If-None-Match", tag)])
    assert unchanged.status_code == 304
    headers = [("If-Match", '"x"'), ("If-Match", tag)]
    assert client.put(path, json={"title": "Sell milk"}, headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_of_20_writers_with_one_etag_one_wins(
    client: httpx2.Client, path: str, method: str
) -> None:
    tag = etag(client, path)
    responses = at_once(20, lambda n: change(client, method, path, tag, title=f"Writer {n}"))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200] + 19 * [412]
    (winner,) = (response for response in responses if response.status_code == 200)
    assert client.get(path).content == winner.content


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True, scope="session")
def test_writers_that_wait_for_a_todo_see_its_new_etag(
    server: Server, client: httpx2.Client, path: str
) -> None:
    tag = etag(client, path)
    row = f"SELECT FROM todos WHERE id = {path.rpartition('/')[2]} FOR UPDATE"
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(8) as threads:
        with holding(server.database_url, "BEGIN", row):
            answers = [threads.submit(change, client, "PUT", path, tag) for _ in range(8)]
            wait_until(lambda: query(server.database_url, waiting) == [(8,)])
        assert sorted(each.result().status_code for each in answers) == [200] + 7 * [412]


def test_of_20_deletes_and_updates_with_one_etag_one_wins(client: httpx2.Client, path: str) -> None:
    tag = etag(client, path)
    methods = ["DELETE", "PUT"]
    responses = at_once(20, lambda n: change(client, methods[n % 2], path, tag))
    won = [response for response in responses if response.is_success]
    assert len(won) == 1
    gone = won[0].status_code == 204
    assert {each.status_code for each in responses} - {won[0].status_code} <= {404 if gone else 412}
    assert client.get(path).status_code == (404 if gone else 200)
