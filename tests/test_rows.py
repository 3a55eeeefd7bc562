"""One row of any resource: how it is made, read, changed and deleted."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem, at_once
from tests.resources import Resource, Row, Rows, having, same_client
from tests.servers import serve

MAX_ID = 2**63 - 1
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

UPDATES = pytest.mark.parametrize("method", ["PUT", "PATCH"])

CONTROL_CHARACTERS = "".join(map(chr, range(1, 32)))
TEXTS = [
    "Buy milk",
    f"<{CONTROL_CHARACTERS}>",
    "quotes \" ' ` and slashes \\ / \\u0041 \\n",
    "delete \x7f, next line \x85!, separators \u2028\u2029!",
    "emoji 😀 \U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "\ufeffbyte order mark, noncharacters \ufffe \uffff \U0010ffff",
    "<script>&amp;</script> %00 {{7*7}} '; DROP TABLE todos; --",
]


def as_bytes(resource: Resource, row: Row) -> bytes:
    """Returns the one way in which the API writes a row."""
    ordered = {name: row[name] for name in resource.fields}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()


def test_create_answers_with_the_row_and_its_location(rows: Rows) -> None:
    response = rows.post("Groceries")
    assert response.status_code == 201
    row = response.json()
    assert row[rows.resource.text] == "Groceries"
    assert tuple(row) == rows.resource.fields
    assert response.headers["Location"] == rows.path_of(row)
    assert rows.client.get(response.headers["Location"]).json() == row


def test_location_does_not_depend_on_a_proxy(rows: Rows) -> None:
    headers = {"X-Forwarded-Host": "todos.example", "X-Forwarded-Proto": "https"}
    body = rows.resource.body("Groceries")
    response = rows.client.post(rows.path, json=body, headers=headers)
    assert response.headers["Location"] == rows.path_of(response.json())


def test_create_ignores_unknown_fields(rows: Rows) -> None:
    row = rows.create("Groceries", id=4711, created_at="1999-01-01T00:00:00Z", colour="red")
    assert row["id"] != 4711
    assert not row["created_at"].startswith("1999")
    assert "colour" not in row


@pytest.mark.parametrize(
    "space",
    [" ", "\t\r\n", "\x1c\x1f", "\x85", "\xa0", "\u2003\u2028\u3000"],
    ids=["blank", "ascii", "separators", "next line", "no-break", "unicode"],
)
def test_text_is_trimmed(rows: Rows, space: str) -> None:
    name = rows.resource.text
    row = rows.create(f"{space}Groceries{space}")
    assert row[name] == "Groceries"
    changed = rows.change(row, "PUT", {name: f"{space}Laundry{space}"})
    assert changed.json()[name] == "Laundry"
    if rows.resource.free_text:
        assert rows.create(f"{space}Buy{space}milk{space}")[name] == f"Buy{space}milk"


@having("free_text")
@pytest.mark.parametrize("sign", ["x", "😀", "ΐ"], ids=["ascii", "wide", "folds to three"])
def test_text_has_a_greatest_length_after_trimming(rows: Rows, sign: str) -> None:
    length = rows.resource.max_length
    for text in (sign, sign * length, f"{' ' * 300}{sign * length}{' ' * 300}"):
        row = rows.create(text)
        assert row[rows.resource.text] == text.strip()
        assert row in rows.read(q=text.strip()[:200])
    for text in ("", " ", sign * (length + 1)):
        assert_problem(rows.post(text), 422)
        assert_problem(rows.change(row, "PATCH", {rows.resource.text: text}), 422)


@UPDATES
def test_times_are_utc_and_move_with_every_change(rows: Rows, method: str) -> None:
    made = rows.create()
    assert UTC_TIME.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    last = made["updated_at"]
    for change in (*rows.resource.changes, rows.resource.changes[1]):
        changed = rows.change(made, method, change).json()
        assert changed["created_at"] == made["created_at"]
        assert UTC_TIME.fullmatch(changed["updated_at"])
        assert changed["updated_at"] > last
        last = changed["updated_at"]


def test_times_are_now(rows: Rows) -> None:
    before = datetime.now(UTC)
    made = datetime.fromisoformat(rows.create()["created_at"])
    assert before <= made <= datetime.now(UTC)


def test_id_is_never_reused(rows: Rows) -> None:
    made = [rows.create(text) for text in ("First", "Second", "Third")]
    ids = [row["id"] for row in made]
    assert ids == sorted(ids)
    assert rows.change(made[-1], "DELETE").status_code == 204
    assert rows.create("Fourth")["id"] > ids[-1]


@having("bulk", "choice", "clears")
def test_id_is_not_reused_after_many_were_deleted(rows: Rows) -> None:
    assert rows.resource.choice
    name, _, value = rows.resource.choice
    last = rows.create_many(*["Buy milk"] * 3, **{name: value})[-1]["id"]
    assert rows.client.delete(rows.path, params={name: value}).json() == {"affected": 3}
    assert rows.create_many("Sell milk")[0]["id"] == last + 1


def test_id_has_64_bits(resource: Resource, own_database_url: str, log_path: Path) -> None:
    if resource.sign_in is not same_client:
        pytest.skip("the first row is the one who signs in")
    with serve(own_database_url, log_path) as server, server.client() as client:
        rows = Rows(resource, client)
        first = rows.create("First")
        if own_database_url.startswith("sqlite"):
            table = f"WHERE name = '{resource.name}'"
            execute(own_database_url, f"UPDATE sqlite_sequence SET seq = {MAX_ID - 1} {table}")
        else:
            sequence = f"{resource.name}_id_seq"
            execute(own_database_url, f"ALTER SEQUENCE {sequence} RESTART WITH {MAX_ID}")
        response = rows.post("Last")
        last = response.json()
        assert response.headers["Location"] == f"{resource.path}/{MAX_ID}"
        assert client.get(rows.path_of(last)).json()["id"] == MAX_ID
        assert rows.change(last, "PUT", resource.changes[0]).json()["id"] == MAX_ID
        page = client.get(resource.path, params={"limit": 1, "sort": "-created_at"})
        assert [row["id"] for row in page.json()] == [MAX_ID]
        page = client.get(page.links["next"]["url"])
        assert [row["id"] for row in page.json()] == [first["id"]]
        assert rows.change(last, "DELETE").status_code == 204


def assert_reads_the_same_everywhere(rows: Rows, text: str) -> None:
    """Asserts that a row with this text is the same bytes in every answer."""
    response = rows.post(text)
    row = response.json()
    assert row[rows.resource.text] == text
    assert response.content == as_bytes(rows.resource, row)
    assert rows.client.get(rows.path_of(row)).content == response.content
    listed = rows.client.get(rows.path, params={"sort": "-created_at", "limit": 1})
    assert listed.content == b"[" + response.content + b"]"
    assert rows.change(row, "PATCH", {}).content == response.content
    changed = rows.change(row, "PATCH", rows.resource.changes[1])
    assert changed.content == as_bytes(rows.resource, changed.json())
    assert rows.client.get(rows.path_of(row)).content == changed.content


def test_row_reads_the_same_everywhere(rows: Rows) -> None:
    assert_reads_the_same_everywhere(rows, "Groceries")


@having("free_text", "bulk")
@pytest.mark.parametrize("text", TEXTS)
def test_row_of_any_text_reads_the_same_everywhere(rows: Rows, text: str) -> None:
    assert_reads_the_same_everywhere(rows, text)
    bulk = rows.client.post(f"{rows.path}/bulk", json=[rows.resource.body(text)])
    assert bulk.content == b"[" + as_bytes(rows.resource, bulk.json()[0]) + b"]"
    assert bulk.json()[0][rows.resource.text] == text


@having("free_text", "bulk")
def test_every_character_comes_back(rows: Rows) -> None:
    characters = [chr(code) for code in range(1, 0x10000) if not 0xD800 <= code <= 0xDFFF]
    pieces = ["".join(characters[start : start + 150]) for start in range(0, len(characters), 150)]
    sent = [f"<{piece}>" for piece in pieces]
    assert [row[rows.resource.text] for row in rows.create_many(*sent)] == sent
    listed = rows.client.get(rows.path, params={"limit": 1000})
    assert [row[rows.resource.text] for row in listed.json()] == sent
    written = [as_bytes(rows.resource, row) for row in listed.json()]
    assert listed.content == b"[" + b",".join(written) + b"]"


@UPDATES
def test_update_is_partial(rows: Rows, method: str) -> None:
    row = rows.create()
    first, second = rows.resource.changes
    for change in (first, second, first | second):
        response = rows.change(row, method, change)
        assert response.status_code == 200
        assert response.json() == row | change | {"updated_at": response.json()["updated_at"]}
        row = response.json()
        assert rows.client.get(rows.path_of(row)).json() == row


@UPDATES
def test_update_leaves_other_rows_alone(rows: Rows, method: str) -> None:
    first, second = rows.create_many("First", "Second")
    rows.change(first, method, rows.resource.changes[1])
    assert rows.client.get(rows.path_of(second)).json() == second


@UPDATES
def test_update_takes_null_only_where_a_field_can_be_empty(rows: Rows, method: str) -> None:
    row = rows.create()
    first, second = rows.resource.changes
    for name in {**first, **second}:
        response = rows.change(row, method, {**first, **second, name: None})
        if name in rows.resource.nullable:
            assert response.json()[name] is None
            row = response.json()
        else:
            problem = assert_problem(response, 422)
            assert problem["errors"][0]["loc"] == ["body", name]
        assert rows.client.get(rows.path_of(row)).json() == row


@UPDATES
def test_update_ignores_other_fields_that_a_client_sends_back(rows: Rows, method: str) -> None:
    made = rows.create()
    change = rows.resource.changes[0]
    sent = {**made, **change, "id": 4711, "created_at": None, "updated_at": [], "x": 1}
    changed = rows.change(made, method, sent).json()
    assert changed == made | change | {"updated_at": changed["updated_at"]}
    assert changed["updated_at"] > made["updated_at"]


@UPDATES
@pytest.mark.parametrize("nothing", [{}, {"id": 1, "colour": "red"}], ids=["empty", "unknown"])
def test_update_that_says_nothing_changes_nothing(
    rows: Rows, method: str, nothing: dict[str, Any]
) -> None:
    row = rows.create()
    before = rows.client.get(rows.path_of(row))
    response = rows.change(row, method, nothing)
    assert response.status_code == 200
    assert response.content == before.content
    assert response.headers["ETag"] == before.headers["ETag"]
    assert rows.client.get(rows.path_of(row)).content == before.content


@having("free_text")
def test_last_writer_wins_field_by_field(rows: Rows) -> None:
    made = rows.create_many(*["Buy milk"] * 10)
    changes = rows.resource.changes
    responses = at_once(20, lambda n: rows.change(made[n // 2], "PUT", changes[n % 2]))
    assert {response.status_code for response in responses} == {200}
    for row in rows.read():
        assert row == row | changes[0] | changes[1]


def test_delete_answers_204_without_a_body(rows: Rows) -> None:
    first, second = rows.create_many("First", "Second")
    response = rows.change(first, "DELETE")
    assert response.status_code == 204
    assert response.content == b""
    assert "First" not in rows.texts()
    assert rows.client.get(rows.path_of(second)).json() == second


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "never there"])
def test_missing_row_is_404(rows: Rows, method: str, gone: bool) -> None:
    row = rows.create()
    if gone:
        rows.change(row, "DELETE")
    path = rows.path_of(row) if gone else f"{rows.path}/{MAX_ID}"
    bodies = [{}, rows.resource.changes[0]] if method in ("PUT", "PATCH") else [None]
    for body in bodies:
        problem = assert_problem(rows.client.request(method, path, json=body), 404)
        assert problem["detail"] == f"{rows.resource.noun} not found"


def test_row_that_breaks_a_rule_of_input_can_be_read(
    resource: Resource, own_database_url: str, log_path: Path
) -> None:
    if resource.sign_in is not same_client or not resource.free_text:
        pytest.skip("its rows cannot be written past the API")
    broken = [(resource.text, text) for text in ("", " ", "x" * 300, "two\nlines ")]
    if resource.choice:
        broken += [(resource.choice[0], text) for text in ("", "x" * 300)]
    with serve(own_database_url, log_path) as server, server.client() as client:
        rows = Rows(resource, client)
        for name, text in broken:
            row = rows.create()
            write_past_the_rules(own_database_url, resource, row, name, text)
            response = client.get(rows.path_of(row))
            assert response.status_code == 200
            assert response.json() == row | {name: text}
            assert client.get(rows.path).content == b"[" + response.content + b"]"
            change = next(each for each in resource.changes if name not in each)
            changed = rows.change(row, "PUT", change)
            assert changed.status_code == 200
            assert changed.json()[name] == text
            assert rows.change(row, "DELETE").status_code == 204


def write_past_the_rules(
    database_url: str, resource: Resource, row: Row, name: str, text: str
) -> None:
    """Gives a field of a row a text as a table without our rules would hold it."""
    table = resource.name
    statements = ["PRAGMA ignore_check_constraints = ON"]
    if database_url.startswith("postgresql"):
        checks = f"conrelid = '{table}'::regclass AND contype = 'c'"
        names = query(database_url, f"SELECT conname FROM pg_constraint WHERE {checks}")
        statements = [
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE text",
            *(f"ALTER TABLE {table} DROP CONSTRAINT {check}" for (check,) in names),
        ]
    change = f"UPDATE {table} SET {name} = '{text}' WHERE id = {row['id']}"
    execute(database_url, *statements, change)
