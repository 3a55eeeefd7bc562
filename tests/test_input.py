"""Bad input of every kind: a 422 that says where, repeats nothing and changes nothing."""

import json
from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem
from tests.resources import Row, Rows, having

# Where it stands in a request, no part of it may stand in the answer.
MARK = "Zaphod"

JSON = {"Content-Type": "application/json"}

UNREADABLE = {
    "nothing": b"",
    "white space": b" \n",
    "a word": b"Zaphod",
    "half an object": b'{"title": "Zaphod"',
    "half an array": b"[",
    "two values": b'{"title": "Zaphod"} {}',
    "trailing comma": b'{"title": "Zaphod",}',
    "single quotes": b"{'title': 'Zaphod'}",
    "comment": b'{"title": "Zaphod"} // Zaphod',
    "byte order mark": b'\xef\xbb\xbf{"title": "Zaphod", "status": "active"}',
    "UTF-16": '{"title": "Zaphod", "status": "active"}'.encode("utf-16"),
    "invalid UTF-8": b'{"title": "Zaphod\xff", "status": "active"}',
    "overlong UTF-8": b'{"title": "Zaphod\xc0\x80", "status": "active"}',
    "surrogate as UTF-8": b'{"title": "Zaphod\xed\xa0\x80", "status": "active"}',
    "high surrogate": rb'{"title": "Zaphod\ud800", "status": "active"}',
    "low surrogate": rb'{"title": "Zaphod\udc00", "status": "active"}',
    "surrogates the wrong way round": rb'{"title": "\udc00\ud800", "status": "active"}',
    "surrogate in a name": rb'{"title": "x", "status": "active", "\ud800": 1}',
    "raw NUL": b'{"title": "Zaphod\x00", "status": "active"}',
    "raw control character": b'{"title": "Zaphod\n", "status": "active"}',
    "unknown escape": rb'{"title": "Zaphod\x41", "status": "active"}',
    "NaN": b'{"title": NaN, "status": "active"}',
    "Infinity": b'{"title": Infinity, "status": "active"}',
    "-Infinity": b'{"title": -Infinity, "status": "active"}',
    "number of 10,000 digits": b'{"title": "x", "status": "active", "y": %b}' % (b"9" * 10_000),
    "NaN in an ignored field": b'{"title": "x", "status": "active", "y": NaN}',
    "arrays without end": b"[" * 100_000,
    "objects without end": b'{"title":' * 50_000,
    "deep arrays": b"[" * 50_000 + b"]" * 50_000,
    "deep ignored field": b'{"title": "x", "status": "active", "y": %b}'
    % (b"[" * 5000 + b"]" * 5000),
}

WRONG_TYPES = {
    "null": b"null",
    "true": b"true",
    "text": b'"Zaphod"',
    "number": b"1",
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "huge integer": b"9" * 400,
    "array of null": b"[null]",
    "array of text": b'["Zaphod"]',
    "array of arrays": b"[[]]",
    "array of pairs": b'[["title", "Zaphod"]]',
}

BAD_TEXTS = {
    "null": b"null",
    "true": b"true",
    "integer": b"1",
    "huge integer": b"9" * 400,
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "float": b"1.5",
    "array": b'["Zaphod"]',
    "object": b'{"Zaphod": 1}',
    "empty": b'""',
    "blank": rb'" \t\u00a0\u2003"',
    "too long": b'"%b"' % (b"x" * 2001),
    "too long, with spaces": b'" %b "' % (b"x" * 2001),
    "too long, wide": '"{}"'.format("😀" * 2001).encode(),
    "a million characters": b'"%b"' % (b"x" * 1_000_000),
    "NUL": rb'"\u0000"',
    "NUL inside": rb'"Zapho\u0000d"',
    "NUL at the end": rb'"Zaphod\u0000"',
}

BAD_IDS = [
    "0",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e3",
    "0x10",
    "1_000",
    "%201",
    "1%20",
    "%D9%A1",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "9" * 20,
    "9" * 400,
    "9" * 5000,
    "NaN",
    "Infinity",
    "null",
    "undefined",
    "true",
    "Zaphod",
    "%00",
    "1%00",
    "%FF",
    "%ED%A0%80",
    "1;DROP",
    "%7B%7D",
    "statsx",
    "Bulk",
]


def assert_refused(client: httpx2.Client, method: str, path: str, body: bytes) -> dict[str, Any]:
    """Asserts that bytes sent as JSON are a 422 that repeats nothing of them."""
    response = client.request(method, path, content=body, headers=JSON)
    problem = assert_problem(response, 422)
    assert {error["loc"][0] for error in problem["errors"]} == {"body"}
    assert MARK not in response.text
    assert len(response.content) < 2000
    return problem


def assert_refused_by_every_write(rows: Rows, body: bytes) -> None:
    """Asserts that no write takes these bytes, and that nothing has changed then."""
    row = rows.create()
    there = rows.read()
    for method, path, _ in rows.resource.writes(row["id"]):
        assert_refused(rows.resource.owner(rows.client, row), method, path, body)
    assert rows.read() == there


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_json_is_refused_by_every_write(rows: Rows, body: bytes) -> None:
    assert_refused_by_every_write(rows, body)
    problem = assert_refused(rows.client, "POST", rows.path, body)
    assert [error["loc"] for error in problem["errors"]] == [["body"]]


@pytest.mark.parametrize("body", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_type_is_refused_by_every_write(rows: Rows, body: bytes) -> None:
    assert_refused_by_every_write(rows, body)


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_bad_text_is_refused_by_every_write(rows: Rows, text: bytes) -> None:
    name = rows.resource.text
    row = rows.create()
    there = rows.read()
    owner = rows.resource.owner(rows.client, row)
    good = rows.resource.body("Another") | rows.resource.changes[1]
    body = bytes_with(good, name, text)
    path = rows.path_of(row)
    for client, method, where in (
        (rows.client, "POST", rows.path),
        (owner, "PUT", path),
        (owner, "PATCH", path),
    ):
        problem = assert_refused(client, method, where, body)
        assert [error["loc"] for error in problem["errors"]] == [["body", name]]
    if rows.resource.bulk:
        in_bulk = b"[%b, %b]" % (json.dumps(rows.resource.body("x")).encode(), body)
        problem = assert_refused(rows.client, "POST", f"{rows.path}/bulk", in_bulk)
        assert [error["loc"] for error in problem["errors"]] == [["body", 1, name]]
    assert rows.read() == there


def bytes_with(body: Row, name: str, value: bytes) -> bytes:
    """Returns a body as JSON, with these bytes for the value of a field."""
    members = {key: json.dumps(each).encode() for key, each in body.items()} | {name: value}
    return b"{%b}" % b", ".join(b'"%b": %b' % (key.encode(), v) for key, v in members.items())


def test_fields_are_required(rows: Rows) -> None:
    problem = assert_refused(rows.client, "POST", rows.path, b"{}")
    assert problem["errors"] == [
        {"loc": ["body", name], "msg": "Field required", "type": "missing"}
        for name in rows.resource.body("Buy milk")
    ]


@having("bulk")
def test_every_wrong_value_is_named(rows: Rows) -> None:
    name, good = rows.resource.text, rows.resource.body("x")
    body = json.dumps([good | {name: ""}, good, {**good, name: None}]).encode()
    problem = assert_refused(rows.client, "POST", f"{rows.path}/bulk", body)
    places = [error["loc"] for error in problem["errors"]]
    assert places == [["body", 0, name], ["body", 2, name]]


@pytest.mark.parametrize(
    "ignored",
    [
        b'"x": 1e999',
        b'"x": %b' % (b"9" * 400),
        b'"x": "\\u0000"',
        b'"": {"deep": [[[]]]}',
    ],
    ids=["1e999", "huge integer", "NUL", "empty name"],
)
def test_what_is_ignored_may_be_anything(rows: Rows, ignored: bytes) -> None:
    body = json.dumps(rows.resource.body("Groceries")).encode()
    for whole in (b"%b, %b}" % (body[:-1], ignored), b"{%b, %b" % (ignored, body[1:])):
        response = rows.client.post(rows.path, content=whole, headers=JSON)
        assert response.status_code == 201
        assert response.json()[rows.resource.text] == "Groceries"
        rows.change(response.json(), "DELETE")


def test_json_may_be_written_in_other_ways(rows: Rows) -> None:
    name = rows.resource.text
    body = rows.resource.body("x")
    for text in (rb'"x", "%b": "Groceries"' % name.encode(), rb'"\u0047roceries"'):
        spaced = b"\r\n\t " + bytes_with(body, name, text) + b" \n"
        response = rows.client.post(rows.path, content=spaced, headers=JSON)
        assert response.status_code == 201
        assert response.json()[name] == "Groceries"
        rows.change(response.json(), "DELETE")


@having("free_text")
def test_escaped_pair_of_surrogates_is_one_character(rows: Rows) -> None:
    body = bytes_with(rows.resource.body("x"), rows.resource.text, rb'"\ud83d\ude00"')
    response = rows.client.post(rows.path, content=body, headers=JSON)
    assert response.json()[rows.resource.text] == "😀"


@pytest.mark.parametrize("bad_id", BAD_IDS, ids=lambda bad_id: bad_id[:24])
def test_anything_but_a_positive_64_bit_integer_is_no_id(rows: Rows, bad_id: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = rows.resource.changes[0] if method in ("PUT", "PATCH") else None
        response = rows.client.request(method, f"{rows.path}/{bad_id}", json=body)
        places = [error["loc"] for error in assert_problem(response, 422)["errors"]]
        assert {(place[0], place[1]) for place in places} == {("path", rows.resource.id_parameter)}
        assert MARK not in response.text


@pytest.mark.parametrize("name", ["sort", "skip", "limit", "total", "cursor"])
def test_bad_parameter_is_not_repeated(rows: Rows, name: str) -> None:
    for parameter in (name, *rows.resource.filters):
        response = rows.client.get(rows.path, params={parameter: MARK})
        assert_problem(response, 422)
        assert MARK not in response.text


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "Idempotency-Key"])
def test_bad_header_is_not_repeated(rows: Rows, name: str) -> None:
    if name == "Idempotency-Key" and not rows.resource.idempotent:
        pytest.skip("its create takes no key")
    row = rows.create()
    there = rows.read()
    method = {"If-Match": "DELETE", "If-None-Match": "GET"}.get(name, "POST")
    path = rows.path if method == "POST" else rows.path_of(row)
    body = rows.resource.body("Another") if method == "POST" else None
    headers = {name: f"{MARK} {MARK}"}
    response = rows.client.request(method, path, json=body, headers=headers)
    problem = assert_problem(response, 422)
    assert problem["errors"][0]["loc"] == ["header", name]
    assert MARK not in response.text
    assert rows.read() == there


@pytest.mark.parametrize(
    "query", ["q=%FF", "q=%ED%A0%80", "q=%C0%80", "q=%", "q=%zz", "%00=1", "&&=&", "q=a;b", "?"]
)
def test_odd_query_is_no_defect(rows: Rows, query: str) -> None:
    rows.create()
    assert rows.client.get(f"{rows.path}?{query}").status_code == 200


def test_parameter_may_stand_twice(rows: Rows) -> None:
    rows.create()
    assert rows.client.get(f"{rows.path}?limit=1&limit=1").status_code == 200
    assert_problem(rows.client.get(f"{rows.path}?limit=1&limit=0"), 422)
