"""ETags: reading what has changed only, and changing what has not."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.databases import holding, query
from tests.helpers import assert_problem, at_once, wait_until
from tests.resources import Row, Rows, having
from tests.servers import Server

STRONG_ETAG = re.compile(r'"[!#-~]+"')

CHANGING = pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])


def change(rows: Rows, row: Row, method: str, if_match: str, number: int = 0) -> httpx2.Response:
    """Changes or deletes a row if it matches."""
    return rows.change(row, method, rows.resource.changes[number], If_Match=if_match)


def etag(rows: Rows, row: Row) -> str:
    """Returns the row's current ETag."""
    tag: str = rows.client.get(rows.path_of(row)).headers["ETag"]
    return tag


@pytest.fixture
def row(rows: Rows) -> Row:
    """A row."""
    return rows.create()


def test_every_answer_with_one_row_has_its_etag(rows: Rows) -> None:
    made = rows.post()
    assert STRONG_ETAG.fullmatch(made.headers["ETag"])
    row = made.json()
    assert etag(rows, row) == made.headers["ETag"]
    for method, body in zip(("PUT", "PATCH"), rows.resource.changes, strict=True):
        changed = rows.change(row, method, body)
        assert STRONG_ETAG.fullmatch(changed.headers["ETag"])
        assert etag(rows, row) == changed.headers["ETag"]


def test_etag_changes_with_every_change(rows: Rows, row: Row) -> None:
    first, second = rows.resource.changes
    tags = [etag(rows, row)]
    for body in (first, second, second, {name: row[name] for name in first}, first):
        assert rows.change(row, "PUT", body).status_code == 200
        tags.append(etag(rows, row))
    assert len(set(tags)) == len(tags)


@having("bulk", "choice")
def test_etag_changes_with_every_change_of_many(rows: Rows, row: Row) -> None:
    assert rows.resource.choice
    name, *values = rows.resource.choice
    tags = [etag(rows, row)]
    for value in (*values, values[1]):
        rows.client.patch(rows.path, json={name: value})
        tags.append(etag(rows, row))
    assert len(set(tags)) == len(tags)


def test_etag_stays_while_nothing_changes(rows: Rows, row: Row) -> None:
    before = etag(rows, row)
    rows.change(rows.create("Another"), "DELETE")
    rows.change(row, "PUT", {})
    rows.change(row, "PUT", {rows.resource.text: None})
    assert etag(rows, row) == before


@having("free_text")
def test_etags_of_equal_rows_differ(rows: Rows) -> None:
    assert len({etag(rows, row) for row in rows.create_many("Same", "Same")}) == 2


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
def test_unchanged_row_is_304(rows: Rows, row: Row, condition: str, method: str) -> None:
    tag = etag(rows, row)
    headers = {"If-None-Match": condition.format(etag=tag)}
    response = rows.client.request(method, rows.path_of(row), headers=headers)
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == tag


@pytest.mark.parametrize("condition", ['"x"', 'W/"x"', '"x", "y"', '""'])
def test_changed_row_is_sent_whole(rows: Rows, row: Row, condition: str) -> None:
    response = rows.client.get(rows.path_of(row), headers={"If-None-Match": condition})
    assert response.status_code == 200
    assert response.json() == row


def test_old_etag_does_not_match_after_a_change(rows: Rows, row: Row) -> None:
    old = etag(rows, row)
    rows.change(row, "PUT", rows.resource.changes[0])
    headers = {"If-None-Match": old}
    assert rows.client.get(rows.path_of(row), headers=headers).status_code == 200


@CHANGING
@pytest.mark.parametrize(
    "condition", ["{etag}", "*", '"x", {etag}', '{etag},W/"x"', '"a,b",{etag}']
)
def test_change_goes_through_while_the_etag_matches(
    rows: Rows, row: Row, method: str, condition: str
) -> None:
    response = change(rows, row, method, condition.format(etag=etag(rows, row)))
    after = rows.client.get(rows.path_of(row))
    if method == "DELETE":
        assert response.status_code == 204
        assert after.status_code in (401, 404)
    else:
        assert response.status_code == 200
        assert after.json() == response.json()
        assert after.json() == after.json() | rows.resource.changes[0]


@CHANGING
@pytest.mark.parametrize("condition", ['"x"', "W/{etag}", 'W/{etag}, "x"', '"x", "y"', '""'])
def test_change_is_412_unless_the_etag_matches_strongly(
    rows: Rows, row: Row, method: str, condition: str
) -> None:
    before = rows.client.get(rows.path_of(row))
    assert_problem(change(rows, row, method, condition.format(etag=before.headers["ETag"])), 412)
    assert rows.client.get(rows.path_of(row)).content == before.content


@CHANGING
def test_change_is_412_when_the_row_has_moved_on(rows: Rows, row: Row, method: str) -> None:
    old = etag(rows, row)
    elsewhere = rows.change(row, "PUT", rows.resource.changes[1])
    problem = assert_problem(change(rows, row, method, old), 412)
    noun = rows.resource.noun.lower()
    assert problem["detail"] == f"The {noun} has changed since you read it"
    assert rows.client.get(rows.path_of(row)).json() == elsewhere.json()


def test_update_that_says_nothing_keeps_the_condition(rows: Rows, row: Row) -> None:
    tag = etag(rows, row)
    good = rows.change(row, "PUT", {}, If_Match=tag)
    assert (good.status_code, good.headers["ETag"]) == (200, tag)
    assert_problem(rows.change(row, "PUT", {}, If_Match='"x"'), 412)


@CHANGING
@pytest.mark.parametrize("condition", ['"x"', "*", 'W/"x"'])
def test_condition_on_a_missing_row_is_404(rows: Rows, method: str, condition: str) -> None:
    body = None if method == "DELETE" else rows.resource.changes[0]
    path, headers = f"{rows.path}/{2**63 - 1}", {"If-Match": condition}
    response = rows.client.request(method, path, json=body, headers=headers)
    assert assert_problem(response, 404)["detail"] == f"{rows.resource.noun} not found"


def test_etag_of_a_missing_row_matches_none(rows: Rows) -> None:
    response = rows.client.get(f"{rows.path}/{2**63 - 1}", headers={"If-None-Match": "*"})
    assert_problem(response, 404)


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("condition", ["", "x", '"x', 'x"', "'x'", '"x" "y"', '*, "x"', 'w/"x"'])
def test_malformed_condition_is_422(rows: Rows, row: Row, name: str, condition: str) -> None:
    method = "GET" if name == "If-None-Match" else "DELETE"
    response = rows.client.request(method, rows.path_of(row), headers={name: condition})
    assert assert_problem(response, 422)["errors"][0]["loc"] == ["header", name]
    assert rows.client.get(rows.path_of(row)).status_code == 200


def test_condition_may_be_split_over_several_headers(rows: Rows, row: Row) -> None:
    tag, path = etag(rows, row), rows.path_of(row)
    headers = [("If-None-Match", '"x"'), ("If-None-Match", tag)]
    assert rows.client.get(path, headers=headers).status_code == 304
    headers = [("If-Match", '"x"'), ("If-Match", tag)]
    owner = rows.resource.owner(rows.client, row)
    assert owner.put(path, json=rows.resource.changes[0], headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_of_20_writers_with_one_etag_one_wins(rows: Rows, row: Row, method: str) -> None:
    tag = etag(rows, row)
    responses = at_once(20, lambda n: change(rows, row, method, tag, number=n % 2))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200] + 19 * [412]
    (winner,) = (response for response in responses if response.status_code == 200)
    assert rows.client.get(rows.path_of(row)).content == winner.content


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True, scope="session")
def test_writers_that_wait_for_a_row_see_its_new_etag(server: Server, rows: Rows, row: Row) -> None:
    tag = etag(rows, row)
    locked = f"SELECT FROM {rows.resource.name} WHERE id = {row['id']} FOR UPDATE"
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(8) as threads:
        with holding(server.database_url, "BEGIN", locked):
            answers = [threads.submit(change, rows, row, "PUT", tag) for _ in range(8)]
            wait_until(lambda: query(server.database_url, waiting) == [(8,)])
        assert sorted(each.result().status_code for each in answers) == [200] + 7 * [412]


def test_of_20_deletes_and_updates_with_one_etag_one_wins(rows: Rows, row: Row) -> None:
    tag = etag(rows, row)
    methods = ["DELETE", "PUT"]
    responses = at_once(20, lambda n: change(rows, row, methods[n % 2], tag))
    won = [response for response in responses if response.is_success]
    assert len(won) == 1
    gone = won[0].status_code == 204
    lost = {404, 401} if gone else {412}  # a user who is gone is signed in no more
    assert {each.status_code for each in responses} - {won[0].status_code} <= lost
    assert rows.client.get(rows.path_of(row)).status_code in ((404, 401) if gone else (200,))
