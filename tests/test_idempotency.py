"""Creating a todo once, however often the request comes."""

from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, at_once, titles

VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def create_once(client: httpx2.Client, key: str | bytes = "a-key", **todo: Any) -> httpx2.Response:
    """Creates a todo under a key."""
    value = key if isinstance(key, bytes) else key.encode()
    headers = {b"Idempotency-Key": value}
    return client.post("/api/todos", json={"title": "Buy milk", **todo}, headers=headers)


def test_repeat_answers_with_the_todo_made_first(client: httpx2.Client) -> None:
    first = create_once(client)
    again = create_once(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["ETag"] == first.headers["ETag"]
    assert titles(client) == ["Buy milk"]


def test_repeat_answers_with_the_todo_as_it_is_now(client: httpx2.Client) -> None:
    path = create_once(client).headers["Location"]
    changed = client.put(path, json={"title": "Sell milk", "status": "completed"})
    again = create_once(client)
    assert again.status_code == 201
    assert again.content == changed.content
    assert again.headers["ETag"] == changed.headers["ETag"]
    assert again.headers["Location"] == path
    assert titles(client) == ["Sell milk"]


@pytest.mark.parametrize(
    "same",
    [{"status": "active"}, {"title": "  Buy milk\n"}, {"colour": "red"}],
    ids=["default said", "white space", "unknown field"],
)
def test_body_that_means_the_same_is_the_same(client: httpx2.Client, same: dict[str, str]) -> None:
    first = create_once(client)
    assert create_once(client, **same).json() == first.json()


@pytest.mark.parametrize(
    "other",
    [{"title": "Sell milk"}, {"title": "BUY MILK"}, {"status": "completed"}],
    ids=["title", "case", "status"],
)
def test_other_body_under_the_same_key_is_422(client: httpx2.Client, other: dict[str, str]) -> None:
    create_once(client)
    problem = assert_problem(create_once(client, **other), 422)
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert titles(client) == ["Buy milk"]


def test_other_body_is_422_also_after_the_todo_became_equal(client: httpx2.Client) -> None:
    path = create_once(client).headers["Location"]
    client.put(path, json={"title": "Sell milk"})
    assert_problem(create_once(client, title="Sell milk"), 422)


def test_keys_are_separate(client: httpx2.Client) -> None:
    ids = {create_once(client, key).json()["id"] for key in ("a", "A", "a.", "aa")}
    assert len(ids) == 4


def test_without_a_key_every_request_creates(client: httpx2.Client) -> None:
    for _ in range(2):
        client.post("/api/todos", json={"title": "Buy milk"})
    assert titles(client) == ["Buy milk", "Buy milk"]


@pytest.mark.parametrize("clear", ["one", "completed"])
def test_key_is_free_again_when_its_todo_is_deleted(client: httpx2.Client, clear: str) -> None:
    first = create_once(client, status="completed")
    if clear == "one":
        client.delete(first.headers["Location"])
    else:
        client.delete("/api/todos", params={"status": "completed"})
    again = create_once(client, title="Another")
    assert again.status_code == 201
    assert again.json()["id"] > first.json()["id"]
    assert again.json()["title"] == "Another"


@pytest.mark.parametrize("key", ["x", "k" * 255, VISIBLE_ASCII], ids=["one", "255", "ascii"])
def test_key_has_1_to_255_visible_characters(client: httpx2.Client, key: str) -> None:
    first = create_once(client, key)
    assert first.status_code == 201
    assert create_once(client, key).json() == first.json()


@pytest.mark.parametrize(
    "key",
    [b"", b"k" * 256, b"two words", b"tab\tinside", "ü".encode(), b"\xff"],
    ids=["empty", "256", "blank", "tab", "utf-8", "latin-1"],
)
def test_malformed_key_is_422(client: httpx2.Client, key: bytes) -> None:
    problem = assert_problem(create_once(client, key), 422)
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert titles(client) == []


def test_refused_body_does_not_take_the_key(client: httpx2.Client) -> None:
    assert_problem(create_once(client, title=""), 422)
    assert create_once(client).status_code == 201


def test_20_repeats_at_once_create_one(client: httpx2.Client) -> None:
    responses = at_once(20, lambda _: create_once(client))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert titles(client) == ["Buy milk"]


def test_of_20_bodies_at_once_under_one_key_one_is_made(client: httpx2.Client) -> None:
    responses = at_once(20, lambda n: create_once(client, title=f"Todo {n}"))
    assert sorted(response.status_code for response in responses) == [201] + 19 * [422]
    (made,) = (response for response in responses if response.status_code == 201)
    assert titles(client) == [made.json()["title"]]


def test_20_keys_at_once_create_20(client: httpx2.Client) -> None:
    responses = at_once(20, lambda n: create_once(client, f"key-{n}"))
    assert len({response.json()["id"] for response in responses}) == 20
    assert len(titles(client)) == 20
