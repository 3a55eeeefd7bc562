"""The list of any resource: its text filter, its orders and its parts."""

import httpx2
import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem
from tests.resources import RESOURCES, Resource, Rows, having, ordered, with_each_order
from tests.servers import Server

MIXED_TEXTS = ["b", "A", "a", "B", "Z", "ä", "Ä", "é", "ß", "SS", "st", "_", "10", "9", "~"]
# U+FF5E sorts before U+1F600 by code point, and after it by UTF-16 code unit.
FAR_TEXTS = ["\uff5e", "\U0001f600", "\ue000", "zebra", "z ebra", "z-ebra"]

FILTERS = [(resource, name) for resource in RESOURCES for name in ("q", *resource.filters)]


def test_list_is_a_bare_array(rows: Rows) -> None:
    response = rows.client.get(rows.path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    there = response.json()
    assert isinstance(there, list)
    made = rows.create("Groceries")
    assert rows.client.get(rows.path).json() == [*there, made]


@having("choice")
def test_choice_filters(rows: Rows) -> None:
    assert rows.resource.choice
    name, one, other = rows.resource.choice
    rows.create("Buy milk", **{name: one})
    rows.create("Sell milk", **{name: other})
    rows.create("Sell bread", **{name: other})
    assert rows.texts(**{name: one}) == ["Buy milk"]
    assert rows.texts(**{name: other}) == ["Sell milk", "Sell bread"]
    assert rows.texts(**{name: other}, q="MILK") == ["Sell milk"]
    assert rows.texts(**{name: one}, q="sell") == []
    assert len(rows.texts()) == 3


@having("free_text")
@pytest.mark.parametrize(
    ("text", "q"),
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
def test_q_finds_a_part_of_the_text_in_any_case(rows: Rows, text: str, q: str) -> None:
    rows.create_many("Something else", text)
    found = [text, "Something else"] if q == " " else [text]
    assert sorted(rows.texts(q=q)) == sorted(found)


def test_q_finds_a_part_of_a_plain_word(rows: Rows) -> None:
    rows.create_many("Groceries", "Laundry", "Übung")
    assert rows.texts(q="CERI") == ["Groceries"]
    assert rows.texts(q="übu") == ["Übung"]
    assert rows.texts(q="%") == rows.texts(q="cer_es") == []


@having("free_text")
@pytest.mark.parametrize("sign", ["%", "_", "\\", "/", "'", '"', "*", "?", "[", "^", "\\%", "%%"])
def test_q_takes_every_sign_as_itself(rows: Rows, sign: str) -> None:
    rows.create_many("5 apples", f"a{sign}b", "5 0 apples", "ab", "axb", "axxb")
    assert rows.texts(q=sign) == [f"a{sign}b"]
    assert rows.texts(q=f"A{sign}B") == [f"a{sign}b"]


@having("free_text")
def test_q_has_up_to_200_characters(rows: Rows) -> None:
    rows.create("ΐ" * 200)
    assert rows.texts(q="ΐ" * 200) == ["ΐ" * 200]
    assert_problem(rows.client.get(rows.path, params={"q": "x" * 201}), 422)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_filter_and_order_follow_a_change(rows: Rows, method: str) -> None:
    text = rows.resource.text
    first, _ = rows.create_many("Apples", "Bread")
    rows.change(first, method, {text: "Straße"})
    assert rows.texts(q="STRASSE") == ["Straße"]
    assert rows.texts(q="apples") == []
    ordered_texts = [each for each in rows.texts(sort=text) if each in ("Bread", "Straße")]
    assert ordered_texts == ["Bread", "Straße"]


def test_order_is_by_creation_unless_given(rows: Rows) -> None:
    there = rows.texts()
    rows.create_many("Carrots", "Apples", "Bread")
    texts = [*there, "Carrots", "Apples", "Bread"]
    assert rows.texts() == rows.texts(sort="created_at") == texts
    assert rows.texts(sort="-created_at") == texts[::-1]


@with_each_order()
def test_sort_is_by_code_point_in_any_case_then_by_id(rows: Rows, sort: str) -> None:
    made = rows.create_many("bread", "Apples", "Zebra", "Ämter", "école", "zebras", "ZebrA2")
    if rows.resource.free_text:
        made += rows.create_many(*MIXED_TEXTS, *FAR_TEXTS, *reversed(MIXED_TEXTS))
        for row in made[::3]:
            rows.change(row, "PUT", rows.resource.changes[1])
    listed = rows.read()
    assert len(listed) >= len(made)
    assert rows.read(sort=sort) == ordered(listed, sort)


# The tests' PostgreSQL knows no locale in which the order would differ, so the column is asked.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True, scope="session")
def test_text_order_does_not_depend_on_the_databases_locale(
    server: Server, resource: Resource
) -> None:
    collations = query(
        server.database_url,
        "SELECT collation_name FROM information_schema.columns"
        f" WHERE table_name = '{resource.name}' AND column_name = '{resource.text}_folded'",
    )
    assert collations == [("C",)]


@pytest.mark.parametrize("sort", ["created_at", "updated_at"])
def test_same_time_is_sorted_by_id(server: Server, rows: Rows, sort: str) -> None:
    rows.create_many("Carrots", "Apples", "Dates", "Bread")
    ids = [row["id"] for row in rows.read()]
    table = rows.resource.name
    execute(server.database_url, f"UPDATE {table} SET {sort} = '2026-01-01 00:00:00.000000'")
    # Moves a row, so that the order on disk is not the order of ids.
    text = f"{rows.resource.text} = 'first'"
    execute(server.database_url, f"UPDATE {table} SET {text} WHERE id = {ids[-4]}")
    if sort in rows.resource.sorts:
        assert [row["id"] for row in rows.read(sort=sort)] == ids
        assert [row["id"] for row in rows.read(sort=f"-{sort}")] == ids[::-1]


def test_updated_at_order_follows_changes(rows: Rows) -> None:
    if "updated_at" not in rows.resource.sorts:
        pytest.skip("its list has no such order")
    first, second, third = rows.create_many("First", "Second", "Third")
    first = rows.change(first, "PUT", rows.resource.changes[1]).json()
    assert rows.read(sort="updated_at")[-3:] == [second, third, first]
    assert rows.read(sort="-updated_at")[:3] == [first, third, second]


def test_skip_and_limit_choose_a_part(rows: Rows) -> None:
    rows.create_many("Apples", "Bread", "Carrots", "Dates", "Eggs")
    whole = rows.read()
    assert rows.read(limit=2) == whole[:2]
    assert rows.read(skip=3) == whole[3:]
    assert rows.read(skip=1, limit=2, sort="-created_at") == whole[::-1][1:3]
    assert rows.read(skip=len(whole)) == []
    assert rows.read(skip=2**63 - 1) == []


@having("bulk", "free_text")
def test_limit_is_100_unless_given_and_up_to_1000(rows: Rows) -> None:
    rows.create_many(*["x"] * 1000)
    rows.create("y")
    assert len(rows.read()) == 100
    assert len(rows.read(limit=1)) == 1
    assert len(rows.read(limit=1000)) == 1000


def test_total_is_counted_when_asked_for(rows: Rows) -> None:
    there = len(rows.read())
    rows.create_many("Apples", "Bread", "Applejuice", "Applepie")
    for parameters in ({}, {"total": "false"}):
        assert "X-Total-Count" not in rows.client.get(rows.path, params=parameters).headers
    for parameters, total in (
        ({}, there + 4),
        ({"limit": "1"}, there + 4),
        ({"skip": "10"}, there + 4),
        ({"q": "APPLE"}, 3),
        ({"q": "none"}, 0),
    ):
        response = rows.client.get(rows.path, params={"total": "true", **parameters})
        assert response.headers["X-Total-Count"] == str(total)


@having("choice")
def test_total_counts_what_the_filters_choose(rows: Rows) -> None:
    assert rows.resource.choice
    name, one, other = rows.resource.choice
    rows.create_many("a", "b", "ab", **{name: one})
    rows.create("abc", **{name: other})
    for parameters, total in (({name: one}, "3"), ({name: other, "q": "B"}, "1")):
        response = rows.client.get(rows.path, params={"total": "true", **parameters})
        assert response.headers["X-Total-Count"] == total


def test_unknown_parameters_are_ignored(rows: Rows) -> None:
    row = rows.create()
    whole = rows.read()
    owner = rows.resource.owner(rows.client, row)
    unknown = {"colour": "red", "id": "", "page": "-1", "_": "\ufffd"}
    assert rows.read(**unknown) == whole
    path = rows.path_of(row)
    assert rows.client.get(path, params=unknown).json() == row
    assert owner.put(path, params=unknown, json={}).json() == row
    assert owner.delete(path, params=unknown).status_code == 204


@pytest.mark.parametrize("name", ["q", "sort", "skip", "limit", "total", "cursor"])
def test_empty_known_parameter_is_invalid(rows: Rows, name: str) -> None:
    assert_refused(rows, name, f"{name}=")
    assert_refused(rows, name, name)


@pytest.mark.parametrize(
    ("resource", "name"), FILTERS, ids=[f"{resource.name} {name}" for resource, name in FILTERS]
)
@pytest.mark.parametrize("value", ["", "%00", "a%00b"], ids=["empty", "NUL", "NUL inside"])
def test_bad_filter_is_invalid(rows: Rows, name: str, value: str) -> None:
    assert_refused(rows, name, f"{name}={value}")


@pytest.mark.parametrize(
    "query",
    [
        "sort=id",
        "sort=--created_at",
        "sort=Created_at",
        "sort=created_at,id",
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
def test_invalid_parameter_is_422(rows: Rows, query: str) -> None:
    assert_refused(rows, query.partition("=")[0], query)


def assert_refused(rows: Rows, name: str, query: str) -> None:
    """Asserts that a query is invalid because of the parameter of this name."""
    response: httpx2.Response = rows.client.get(f"{rows.path}?{query}")
    assert assert_problem(response, 422)["errors"][0]["loc"] == ["query", name]
