"""Any type of column: the list says what the one-row answers say, and sorts by it."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.resources import Row, ordered
from tests.servers import serve

CONTROL_CHARACTERS = "".join(map(chr, range(1, 32)))
VALUES: dict[str, list[Any]] = {
    "text": [
        *("", "plain", "Plain", "Übung", 'it\'s "quoted" \\ / %', f"<{CONTROL_CHARACTERS}>"),
        *("emoji 😀 \U0001f469\u200d\U0001f467", "lines\u2028and\u2029more\x7f\x85", "\uffff"),
    ],
    "flag": [True, False],
    "day": ["2026-01-02", "0001-01-01", "9999-12-31", "2024-02-29"],
    "moment": [
        *("2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:05.000001Z"),
        *("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.5Z"),
    ],
    "weight": [
        *(0.0, 1.0, 0.1, 1 / 3, -2.5, 1e16, 1e22, 123456789.123456789, 1e-7, 1e300, -1e300),
        *(5e-324, 1.7976931348623157e308, 100000.0, 1e15),
    ],
    "count": [0, -1, 1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "colour": ["rouge", "vert", "bleu"],
    "mood": ["happy", "sad"],
}
PLAIN = ["text", "flag", "day", "moment", "count", "mood"]
ORDERS = [
    (path, sign + name)
    for path, names in (("/samples", [*VALUES, "created_at"]), ("/plain", PLAIN))
    for name in names
    for sign in ("", "-")
]


@pytest.fixture(scope="module")
def samples(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of the app with that table, which has rows of every value and empty ones."""
    log = tmp_path_factory.mktemp("samples") / "server.log"
    with (
        serve(database_url, log, app="tests.samples:app", wait_for="/samples") as server,
        server.client() as client,
    ):
        longest = max(map(len, VALUES.values()))
        rows = [
            {
                name: VALUES[name][(n + shift) % len(VALUES[name])]
                for shift, name in enumerate(VALUES)
            }
            for n in range(longest)
        ]
        make(client, {}, *rows, {}, rows[0], {})
        yield client


def make(samples: httpx2.Client, *rows: Row) -> list[Row]:
    """Creates rows in one request and returns them."""
    response = samples.post("/samples/bulk", json=rows)
    assert response.status_code == 201
    made: list[Row] = response.json()
    assert samples.get("/samples", params={"sort": "-created_at"}).json()[0] == made[-1]
    return made


def read(samples: httpx2.Client, path: str = "/samples", **parameters: str | int) -> list[Row]:
    """Returns the rows of a list; all of them unless the parameters say otherwise."""
    response = samples.get(path, params={"limit": 1000, **parameters})
    assert response.status_code == 200
    rows: list[Row] = response.json()
    return rows


@pytest.mark.parametrize(("path", "sort"), ORDERS, ids=map(" ".join, ORDERS))
def test_pages_visit_each_row_once_with_empty_values_last(
    samples: httpx2.Client, path: str, sort: str
) -> None:
    # The members of an enum stand in the order in which it names them.
    places = dict(zip(VALUES["colour"], range(3), strict=True)) | {None: None}
    ranked = [{**row, "colour": places[row["colour"]]} for row in read(samples)]
    whole = read(samples, path, sort=sort)
    assert [row["id"] for row in whole] == [row["id"] for row in ordered(ranked, sort)]
    for limit in (1, 7):
        visited: list[Row] = []
        page = f"{path}?sort={sort}&limit={limit}"
        while page:
            response = samples.get(page)
            assert response.status_code == 200
            visited += response.json()
            page = response.links.get("next", {}).get("url", "")
        assert visited == whole


@pytest.mark.parametrize("name", VALUES)
def test_list_says_what_one_row_says_byte_for_byte(samples: httpx2.Client, name: str) -> None:
    for value in (*VALUES[name], None):
        made = samples.post("/samples", json={name: value})
        assert made.status_code == 201
        path = f"/samples/{made.json()['id']}"
        assert samples.get(path).content == made.content
        last: dict[str, str | int] = {"sort": "-created_at", "limit": 1}
        assert samples.get("/samples", params=last).content == b"[" + made.content + b"]"
        plain = samples.get(path.replace("samples", "plain"))
        assert samples.get("/plain", params=last).content == b"[" + plain.content + b"]"
        assert plain.json() == {key: made.json()[key] for key in plain.json()}
        if name != "moment":  # which comes back with all of its six digits
            assert made.json()[name] == value


@pytest.mark.parametrize("path", ["/samples", "/plain"])
def test_all_rows_at_once_say_the_same(samples: httpx2.Client, path: str) -> None:
    each = [samples.get(f"{path}/{row['id']}").content for row in read(samples)]
    listed = samples.get(path, params={"limit": 1000})
    assert listed.content == b"[" + b",".join(each) + b"]"


@pytest.mark.parametrize("sort", ["day", "-day", "count"])
def test_skip_counts_rows_with_and_without_a_value(samples: httpx2.Client, sort: str) -> None:
    whole = read(samples, sort=sort)
    valued = sum(row[sort.removeprefix("-")] is not None for row in whole)
    assert 0 < valued < len(whole)
    for skip in (0, 1, valued - 1, valued, valued + 1, len(whole)):
        assert read(samples, sort=sort, skip=skip, limit=3) == whole[skip : skip + 3]


def test_empty_value_moves_a_row_to_the_end_and_back(samples: httpx2.Client) -> None:
    first = make(samples, {"count": 1})[0]["id"]
    for value, is_last in ((None, True), (1, False), (None, True)):
        changed = samples.patch(f"/samples/{first}", json={"count": value})
        assert changed.json()["count"] == value
        assert (read(samples, sort="count")[-1]["id"] == first) is is_last
        rows = read(samples, sort="-count")
        valued = [row["id"] for row in rows if row["count"] is not None]
        assert (first in valued) is not is_last
        assert all(row["count"] is None for row in rows[len(valued) :])


def test_key_that_others_use_too_is_of_this_table(samples: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "a-key"}
    answers = [samples.post("/samples", json={"count": 3}, headers=headers) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert samples.post("/samples", json={"count": 4}, headers=headers).status_code == 422


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1.5, True, [], {}, "", "0", "1735689600", "2026-12-24T00:00:00Z", "24.12.2026"),
        *("2026-1-2", "2026-02-30", "0000-01-01", "\uff12026-12-24", " 2026-12-24", "2026-12-24\n"),
    ],
    ids=repr,
)
def test_day_is_nothing_but_a_day(samples: httpx2.Client, value: object) -> None:
    assert samples.post("/samples", json={"day": value}).status_code == 422


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1.5, True, [], {}, "", "0", "1735689600", "2026-12-24", "2026-12-24T18:00:00"),
        *("2026-12-24 18:00:00Z", "2026-12-24T18:00Z", "2026-12-24T25:00:00Z", "now"),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2026-02-30T00:00:00Z"),
    ],
    ids=repr,
)
def test_time_is_nothing_but_a_time_with_its_zone(samples: httpx2.Client, value: object) -> None:
    assert samples.post("/samples", json={"moment": value}).status_code == 422


def test_time_of_any_zone_is_answered_in_utc(samples: httpx2.Client) -> None:
    for sent in (
        "2026-12-24T18:00:00+05:30",
        "2026-12-24T12:30:00Z",
        "2026-12-24T12:30:00.000-00:00",
    ):
        made = samples.post("/samples", json={"moment": sent})
        assert made.json()["moment"] == "2026-12-24T12:30:00.000000Z"
        assert samples.get(f"/samples/{made.json()['id']}").content == made.content
