"""Bad input of every kind: a 422 that says where, repeats nothing and changes nothing."""

from typing import Any

import httpx2
import pytest

from tests.helpers import assert_problem, create

# Where it stands in a request, no part of it may stand in the answer.
MARK = "Zaphod"

WRITES = [
    ("POST", "/api/todos"),
    ("POST", "/api/todos/bulk"),
    ("PATCH", "/api/todos"),
    ("PUT", "/api/todos/{id}"),
    ("PATCH", "/api/todos/{id}"),
]

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
    "title is null": b'{"title": null, "status": null}',
    "status is null": b'{"title": "x", "status": null}',
    "status is a number": b'{"title": "x", "status": 1}',
    "status is 1e999": b'{"title": "x", "status": 1e999}',
    "status is huge": b'{"title": "x", "status": %b}' % (b"9" * 400),
    "status is an array": b'{"title": "x", "status": ["active"]}',
    "status is an object": b'{"title": "x", "status": {"Zaphod": 1}}',
    "status is unknown": b'{"title": "x", "status": "Zaphod"}',
    "status in capitals": b'{"title": "x", "status": "ACTIVE"}',
    "status with a blank": b'{"title": "x", "status": " active"}',
    "status is empty": b'{"title": "x", "status": ""}',
    "status with a NUL": rb'{"title": "x", "status": "active\u0000"}',
}

BAD_TITLES = {
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
    "201 characters": b'"%b"' % (b"x" * 201),
    "201 characters with spaces": b'" %b "' % (b"x" * 201),
    "201 emoji": '"{}"'.format("😀" * 201).encode(),
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
    headers = {"Content-Type": "application/json"}
    response = client.request(method, path, content=body, headers=headers)
    problem = assert_problem(response, 422)
    assert {error["loc"][0] for error in problem["errors"]} == {"body"}
    assert MARK not in response.text
    assert len(response.content) < 2000
    return problem


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_json_is_refused_by_every_write(client: httpx2.Client, body: bytes) -> None:
    todo = create(client)
    for method, path in WRITES:
        problem = assert_refused(client, method, path.format(**todo), body)
        assert [error["loc"] for error in problem["errors"]] == [["body"]]
    assert client.get("/api/todos").json() == [todo]


@pytest.mark.parametrize("body", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_type_is_refused_by_every_write(client: httpx2.Client, body: bytes) -> None:
    todo = create(client)
    for method, path in WRITES:
        assert_refused(client, method, path.format(**todo), body)
    assert client.get("/api/todos").json() == [todo]


@pytest.mark.parametrize("title", BAD_TITLES.values(), ids=BAD_TITLES)
def test_bad_title_is_refused_by_every_write(client: httpx2.Client, title: bytes) -> None:
    todo = create(client)
    path = f"/api/todos/{todo['id']}"
    body = b'{"status": "completed", "title": %b}' % title
    for method, where in (("POST", "/api/todos"), ("PUT", path), ("PATCH", path)):
        problem = assert_refused(client, method, where, body)
        assert [error["loc"] for error in problem["errors"]] == [["body", "title"]]
    in_bulk = b'[{"title": "x"}, {"title": %b}]' % title
    problem = assert_refused(client, "POST", "/api/todos/bulk", in_bulk)
    assert [error["loc"] for error in problem["errors"]] == [["body", 1, "title"]]
    assert client.get("/api/todos").json() == [todo]


def test_title_is_required(client: httpx2.Client) -> None:
    problem = assert_refused(client, "POST", "/api/todos", b"{}")
    assert problem["errors"] == [
        {"loc": ["body", "title"], "msg": "Field required", "type": "missing"}
    ]


def test_every_wrong_value_is_named(client: httpx2.Client) -> None:
    body = b'[{"title": ""}, {"title": "x"}, {"status": "done"}]'
    problem = assert_refused(client, "POST", "/api/todos/bulk", body)
    places = [error["loc"] for error in problem["errors"]]
    assert places == [["body", 0, "title"], ["body", 2, "title"], ["body", 2, "status"]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"title": "x", "title": "Buy milk"}',
        b'{"title": "Buy milk", "x": 1e999}',
        b'{"title": "Buy milk", "x": %b}' % (b"9" * 400),
        b'{"title": "Buy milk", "x": "\\u0000"}',
        b'{"title": "Buy milk", "": {"deep": [[[]]]}}',
        rb'{"title": "\u0042uy milk"}',
        b'\r\n\t {"title" : "Buy milk"} \n',
    ],
    ids=["name twice", "1e999", "huge integer", "NUL", "empty name", "escapes", "white space"],
)
def test_what_is_ignored_may_be_anything(client: httpx2.Client, body: bytes) -> None:
    response = client.post("/api/todos", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 201
    assert response.json()["title"] == "Buy milk"


def test_escaped_pair_of_surrogates_is_one_character(client: httpx2.Client) -> None:
    headers = {"Content-Type": "application/json"}
    body = rb'{"title": "\ud83d\ude00"}'
    response = client.post("/api/todos", content=body, headers=headers)
    assert response.json()["title"] == "😀"


@pytest.mark.parametrize("bad_id", BAD_IDS, ids=lambda bad_id: bad_id[:24])
def test_anything_but_a_positive_64_bit_integer_is_no_id(
    client: httpx2.Client, bad_id: str
) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {"title": "x"} if method in ("PUT", "PATCH") else None
        response = client.request(method, f"/api/todos/{bad_id}", json=body)
        problem = assert_problem(response, 422)
        assert [error["loc"] for error in problem["errors"]] == [["path", "todo_id"]]
        assert MARK not in response.text


@pytest.mark.parametrize("name", ["status", "sort", "skip", "limit", "total", "cursor"])
def test_bad_parameter_is_not_repeated(client: httpx2.Client, name: str) -> None:
    response = client.get("/api/todos", params={name: MARK})
    assert_problem(response, 422)
    assert MARK not in response.text


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("If-Match", "DELETE", "/api/todos/{id}"),
        ("If-None-Match", "GET", "/api/todos/{id}"),
        ("Idempotency-Key", "POST", "/api/todos"),
    ],
)
def test_bad_header_is_not_repeated(
    client: httpx2.Client, name: str, method: str, path: str
) -> None:
    todo = create(client)
    body = {"title": "x"} if method == "POST" else None
    headers = {name: f"{MARK} {MARK}"}
    response = client.request(method, path.format(**todo), json=body, headers=headers)
    problem = assert_problem(response, 422)
    assert problem["errors"][0]["loc"] == ["header", name]
    assert MARK not in response.text
    assert client.get("/api/todos").json() == [todo]


@pytest.mark.parametrize(
    "query", ["q=%FF", "q=%ED%A0%80", "q=%C0%80", "q=%", "q=%zz", "%00=1", "&&=&", "q=a;b", "?"]
)
def test_odd_query_is_no_defect(client: httpx2.Client, query: str) -> None:
    create(client)
    response = client.get(f"/api/todos?{query}")
    assert response.status_code == 200


def test_parameter_may_stand_twice(client: httpx2.Client) -> None:
    create(client)
    assert client.get("/api/todos?limit=1&limit=1").status_code == 200
    assert_problem(client.get("/api/todos?limit=1&limit=0"), 422)
