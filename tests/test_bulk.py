"""Many rows in one request: create, change and delete those that the filters choose."""

from typing import Any

import pytest

from tests.helpers import assert_problem
from tests.resources import Row, Rows, having

bulk = having("bulk", "choice")
clearing = having("bulk", "choice", "clears")


def choice_of(rows: Rows) -> tuple[str, Any, Any]:
    """Returns the field by which many rows are changed, and two values of it."""
    assert rows.resource.choice
    return rows.resource.choice


def values(rows: Rows) -> dict[str, Any]:
    """Returns every row's value of that field by the row's text."""
    name = choice_of(rows)[0]
    return {row[rows.resource.text]: row[name] for row in rows.read()}


@pytest.fixture
def four(rows: Rows) -> Rows:
    """Two rows with one value and two with the other."""
    name, one, other = choice_of(rows)
    rows.create_many("Buy milk", "Buy bread", **{name: one})
    rows.create_many("Sell milk", "Sell bread", **{name: other})
    return rows


def by_text(rows: Rows) -> dict[str, Row]:
    """Returns every row by its text."""
    return {row[rows.resource.text]: row for row in rows.read()}


@bulk
def test_bulk_creates_in_the_order_given(rows: Rows) -> None:
    name, _, other = choice_of(rows)
    sent = [rows.resource.body(f"Row {n * 7 % 10}") for n in range(10)]
    sent[3][name] = other
    response = rows.client.post(f"{rows.path}/bulk", json=sent)
    assert response.status_code == 201
    made = response.json()
    text = rows.resource.text
    assert [row[text] for row in made] == [each[text] for each in sent]
    assert [row[name] == other for row in made] == 3 * [False] + [True] + 6 * [False]
    assert len({row["id"] for row in made}) == 10
    assert rows.client.get(rows.path).content == response.content
    for row in made:
        assert rows.client.get(rows.path_of(row)).json() == row


@bulk
def test_bulk_trims_and_ignores_like_create(rows: Rows) -> None:
    (made,) = rows.create_many("  Buy milk ", id=4711, colour=None)
    assert made[rows.resource.text] == "Buy milk"
    assert made["id"] != 4711


@bulk
@pytest.mark.parametrize("count", [1, 1000])
def test_bulk_takes_1_to_1000(rows: Rows, count: int) -> None:
    sent = [f"{n} {'😀' * 190}" for n in range(count)]
    made = rows.create_many(*sent)
    assert [row[rows.resource.text] for row in made] == sent
    assert rows.read(limit=1000) == made


@bulk
@pytest.mark.parametrize("count", [0, 1001])
def test_bulk_refuses_none_and_more_than_1000(rows: Rows, count: int) -> None:
    body = count * [rows.resource.body("x")]
    problem = assert_problem(rows.client.post(f"{rows.path}/bulk", json=body), 422)
    assert problem["errors"][0]["loc"] == ["body"]
    assert rows.read() == []


@bulk
@pytest.mark.parametrize("place", [0, 4, 8])
@pytest.mark.parametrize("bad", ["", " ", "a\0b", None, 1, ["x"]], ids=repr)
def test_bulk_creates_all_or_none(rows: Rows, place: int, bad: Any) -> None:
    for whole in (bad, rows.resource.body("x") | {rows.resource.text: bad}):
        sent: list[Any] = [rows.resource.body(f"Row {n}") for n in range(8)]
        sent.insert(place, whole)
        problem = assert_problem(rows.client.post(f"{rows.path}/bulk", json=sent), 422)
        assert problem["errors"][0]["loc"][:2] == ["body", place]
        assert rows.read() == []


@bulk
def test_bulk_refuses_anything_but_an_array_of_rows(rows: Rows) -> None:
    row = rows.resource.body("x")
    for body in (row, [[row]], {"0": row}, "x", 1, None):
        assert_problem(rows.client.post(f"{rows.path}/bulk", json=body), 422)
    assert rows.read() == []


@bulk
def test_change_of_all(four: Rows) -> None:
    name, one, other = choice_of(four)
    for value in (other, one):
        response = four.client.patch(four.path, json={name: value})
        assert response.status_code == 200
        assert response.json() == {"affected": 4}
        assert set(values(four).values()) == {value}


@bulk
def test_change_of_many_changes_nothing_else(rows: Rows) -> None:
    name, _, other = choice_of(rows)
    made = rows.create()
    sent = {name: other, rows.resource.text: "ignored"}
    assert rows.client.patch(rows.path, json=sent).json() == {"affected": 1}
    (changed,) = rows.read()
    assert changed["updated_at"] > made["updated_at"]
    assert changed == made | {name: other, "updated_at": changed["updated_at"]}


@bulk
@pytest.mark.parametrize(
    ("which", "q", "affected"),
    [
        (1, None, ["Buy bread", "Buy milk"]),
        (None, "MILK", ["Buy milk", "Sell milk"]),
        (None, "%", []),
        (2, "bread", ["Sell bread"]),
        (None, None, ["Buy bread", "Buy milk", "Sell bread", "Sell milk"]),
    ],
    ids=["choice", "q", "sign", "both", "unknown"],
)
def test_change_affects_every_row_that_the_filters_choose(
    four: Rows, which: int | None, q: str | None, affected: list[str]
) -> None:
    choice = choice_of(four)
    parameters = {"unknown": "milk"}
    parameters |= {choice[0]: choice[which]} if which else {}
    parameters |= {"q": q} if q else {}
    before = by_text(four)
    response = four.client.patch(four.path, params=parameters, json={choice[0]: choice[2]})
    assert response.json() == {"affected": len(affected)}
    after = by_text(four)
    assert sorted(text for text in after if after[text] != before[text]) == affected
    assert all(after[text][choice[0]] == choice[2] for text in affected)
    assert all(after[text]["updated_at"] > before[text]["updated_at"] for text in affected)


@bulk
def test_change_of_no_row_affects_none(rows: Rows) -> None:
    name, _, other = choice_of(rows)
    response = rows.client.patch(rows.path, json={name: other})
    assert (response.status_code, response.json()) == (200, {"affected": 0})


@bulk
def test_change_of_many_says_what_to_change(four: Rows) -> None:
    name = choice_of(four)[0]
    bodies: list[Any] = [{}, {name: "done"}, {four.resource.text: "x"}, [], None]
    if name not in four.resource.nullable:
        bodies.append({name: None})
    before = four.client.get(four.path).content
    for body in bodies:
        assert_problem(four.client.patch(four.path, json=body), 422)
    assert four.client.get(four.path).content == before


@clearing
def test_delete_of_many(four: Rows) -> None:
    name, one, other = choice_of(four)
    response = four.client.delete(four.path, params={name: other})
    assert response.status_code == 200
    assert response.json() == {"affected": 2}
    assert values(four) == {"Buy milk": one, "Buy bread": one}
    again = four.client.delete(four.path, params={name: other})
    assert (again.status_code, again.json()) == (200, {"affected": 0})


@clearing
@pytest.mark.parametrize(
    ("which", "q", "left"),
    [
        (1, None, {"Sell milk", "Sell bread"}),
        (2, "MILK", {"Buy milk", "Buy bread", "Sell bread"}),
        (2, "_", {"Buy milk", "Buy bread", "Sell milk", "Sell bread"}),
    ],
    ids=["choice", "q", "sign"],
)
def test_delete_of_many_deletes_what_the_filters_choose(
    four: Rows, which: int, q: str | None, left: set[str]
) -> None:
    choice = choice_of(four)
    parameters = {choice[0]: choice[which]} | ({"q": q} if q else {})
    response = four.client.delete(four.path, params=parameters)
    assert response.json() == {"affected": 4 - len(left)}
    assert set(values(four)) == left


@clearing
@pytest.mark.parametrize("suffix", ["", "/", "?q=milk"])
def test_delete_of_many_without_the_filter_deletes_nothing(four: Rows, suffix: str) -> None:
    problem = assert_problem(four.client.delete(four.path + suffix), 422)
    assert problem["errors"][0]["loc"] == ["query", choice_of(four)[0]]
    assert len(four.read()) == 4


@bulk
def test_invalid_filter_changes_nothing(four: Rows) -> None:
    name, one, _ = choice_of(four)
    before = four.client.get(four.path).content
    methods = {"PATCH": {name: one}} | ({"DELETE": None} if four.resource.clears else {})
    for method, body in methods.items():
        for query in (f"{name}=", f"q=&{name}={one}", f"{name}=done", f"{name}={one}&q=%00"):
            response = four.client.request(method, f"{four.path}?{query}", json=body)
            assert assert_problem(response, 422)["errors"][0]["loc"][0] == "query"
            assert four.client.get(four.path).content == before
