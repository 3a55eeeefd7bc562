"""Creating a row once, however often the request comes."""

from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, at_once
from tests.resources import RESOURCES, Resource, Row, Rows, having

VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))

pytestmark = having("idempotent")


def create_once(
    rows: Rows, text: str = "Buy milk", key: str | bytes = "a-key", **fields: Any
) -> httpx2.Response:
    """Creates a row under a key."""
    value = key if isinstance(key, bytes) else key.encode()
    body = rows.resource.body(text) | fields
    return rows.client.post(rows.path, json=body, headers={b"Idempotency-Key": value})


def test_repeat_answers_with_the_row_made_first(rows: Rows) -> None:
    first = create_once(rows)
    again = create_once(rows)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["ETag"] == first.headers["ETag"]
    assert rows.read() == [first.json()]


def test_repeat_answers_with_the_row_as_it_is_now(rows: Rows) -> None:
    first = create_once(rows)
    changed = rows.change(first.json(), "PUT", {**rows.resource.changes[0]})
    again = create_once(rows)
    assert again.status_code == 201
    assert again.content == changed.content
    assert again.headers["ETag"] == changed.headers["ETag"]
    assert again.headers["Location"] == first.headers["Location"]
    assert rows.read() == [changed.json()]


def default_said(resource: Resource, made: Row) -> Row:
    """Returns the fields that a client may say and that its row has without saying them."""
    if resource.choice is None:
        return {}
    name = resource.choice[0]
    return {name: made[name]}


def test_body_that_means_the_same_is_the_same(rows: Rows) -> None:
    first = create_once(rows)
    assert create_once(rows, "  Buy milk\n").json() == first.json()
    assert create_once(rows, colour="red").json() == first.json()
    default = default_said(rows.resource, first.json())
    assert create_once(rows, **default).json() == first.json()


def test_other_body_under_the_same_key_is_422(rows: Rows) -> None:
    first = create_once(rows)
    others = [create_once(rows, "Sell milk"), create_once(rows, "BUY MILK")]
    if rows.resource.choice:
        name, _, value = rows.resource.choice
        others.append(create_once(rows, **{name: value}))
    for other in others:
        problem = assert_problem(other, 422)
        assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert rows.read() == [first.json()]


def test_other_body_is_422_also_after_the_row_became_equal(rows: Rows) -> None:
    row = create_once(rows).json()
    changed = rows.change(row, "PUT", {rows.resource.text: "Sell milk"})
    assert changed.status_code == 200
    assert_problem(create_once(rows, "Sell milk"), 422)


def test_keys_are_separate(rows: Rows) -> None:
    ids = {create_once(rows, key=key).json()["id"] for key in ("a", "A", "a.", "aa")}
    assert len(ids) == 4


def test_key_belongs_to_one_resource(rows: Rows, database_url: str) -> None:
    for resource in RESOURCES:
        if resource.idempotent:
            others = Rows(resource, resource.sign_in(rows.client, database_url))
            made, again = create_once(others), create_once(others)
            assert (made.status_code, again.status_code) == (201, 201)
            assert again.content == made.content
            assert others.read() == [made.json()]


def test_without_a_key_every_request_creates(rows: Rows) -> None:
    assert rows.create()["id"] != rows.create()["id"]
    assert rows.texts() == ["Buy milk", "Buy milk"]


def test_key_is_free_again_when_its_row_is_deleted(rows: Rows) -> None:
    first = create_once(rows).json()
    rows.change(first, "DELETE")
    again = create_once(rows, "Another")
    assert again.status_code == 201
    assert again.json()["id"] > first["id"]
    assert again.json()[rows.resource.text] == "Another"


def test_key_is_free_again_when_many_rows_are_deleted(rows: Rows) -> None:
    if rows.resource.choice is None or not rows.resource.clears:
        pytest.skip("its rows are deleted one by one")
    name, _, value = rows.resource.choice
    first = create_once(rows, **{name: value}).json()
    rows.client.delete(rows.path, params={name: value})
    again = create_once(rows, "Another")
    assert again.status_code == 201
    assert again.json()["id"] > first["id"]


@pytest.mark.parametrize("key", ["x", "k" * 255, VISIBLE_ASCII], ids=["one", "255", "ascii"])
def test_key_has_1_to_255_visible_characters(rows: Rows, key: str) -> None:
    first = create_once(rows, key=key)
    assert first.status_code == 201
    assert create_once(rows, key=key).json() == first.json()


@pytest.mark.parametrize(
    "key",
    [b"", b"k" * 256, b"two words", b"tab\tinside", "ü".encode(), b"\xff"],
    ids=["empty", "256", "blank", "tab", "utf-8", "latin-1"],
)
def test_malformed_key_is_422(rows: Rows, key: bytes) -> None:
    problem = assert_problem(create_once(rows, key=key), 422)
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert rows.read() == []


def test_refused_body_does_not_take_the_key(rows: Rows) -> None:
    assert_problem(create_once(rows, ""), 422)
    assert create_once(rows).status_code == 201


def test_20_repeats_at_once_create_one(rows: Rows) -> None:
    responses = at_once(20, lambda _: create_once(rows))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert rows.texts() == ["Buy milk"]


def test_of_20_bodies_at_once_under_one_key_one_is_made(rows: Rows) -> None:
    responses = at_once(20, lambda n: create_once(rows, f"Row {n}"))
    assert sorted(response.status_code for response in responses) == [201] + 19 * [422]
    (made,) = (response for response in responses if response.status_code == 201)
    assert rows.read() == [made.json()]


def test_20_keys_at_once_create_20(rows: Rows) -> None:
    responses = at_once(20, lambda n: create_once(rows, key=f"key-{n}"))
    assert len({response.json()["id"] for response in responses}) == 20
    assert len(rows.read()) == 20
