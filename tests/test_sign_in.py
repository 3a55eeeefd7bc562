"""Sign-in: the form, the token, who is let in, and who has tried too often."""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem, at_once
from tests.servers import SECRET_KEY, Server, serve
from tests.users import PASSWORD, bearer, claims, forge, newcomer, register, sign_in, try_to_sign_in

FORM = "application/x-www-form-urlencoded"
URL = "/api/auth/token"
TRIES = 10

# Without a token one can register, sign in, and ask whether the process lives.
OPEN = {("post", "/api/users"), ("post", URL)}


def encode(value: object) -> str:
    """Returns a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def lasting(response: httpx2.Response) -> tuple[Any, ...]:
    """Returns all of an answer that does not differ from moment to moment."""
    moment = {"date", "x-request-id", "x-process-time"}
    headers = {name: value for name, value in response.headers.items() if name not in moment}
    return response.status_code, headers, response.content


def assert_refused(response: httpx2.Response) -> None:
    """Asserts that the answer says to sign in."""
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_sign_in_answers_with_a_token(client: httpx2.Client) -> None:
    user = register(client)
    response = try_to_sign_in(client, "ada")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    token = response.json()
    assert list(token) == ["access_token", "token_type", "expires_in"]
    assert (token["token_type"], token["expires_in"]) == ("bearer", 604800)
    said = jwt.decode(token["access_token"], SECRET_KEY, ["HS256"])
    assert said["sub"] == str(user["id"])
    assert said["exp"] - said["iat"] == 604800
    me = client.get("/api/users/me", headers=bearer(token["access_token"]))
    assert me.json() == user


@pytest.mark.parametrize(
    "name",
    ["zoë", "ZOË", "ZOE\u0308", "Ｚｏë", " zoë ", "zoë@example.com", "ZOË@EXAMPLE.COM"],
)
def test_name_or_email_is_known_in_any_case_and_form(client: httpx2.Client, name: str) -> None:
    register(client, "Zoë", email="Zoë@example.com")
    sign_in(client, name)


def test_international_address_is_known_as_it_is_written(client: httpx2.Client) -> None:
    user = register(client, "ada", email="ada@xn--bcher-kva.example.com")
    assert user["email"] == "ada@bücher.example.com"
    for email in ("ada@xn--bcher-kva.example.com", "ada@BÜCHER.example.com"):
        sign_in(client, email)


def test_wrong_unknown_short_and_inactive_are_told_the_same(
    server: Server, client: httpx2.Client
) -> None:
    register(client, "ada")
    register(client, "bob")
    execute(server.database_url, "UPDATE users SET is_active = false WHERE username = 'bob'")
    wrong = try_to_sign_in(client, "ada", "wrong password")
    assert_refused(wrong)
    assert wrong.json()["detail"] == "The user name or the password is wrong"
    for name, password in (
        ("nobody", PASSWORD),
        ("nobody@example.com", PASSWORD),
        ("ada", "short"),
        ("ada", ""),
        ("ada", PASSWORD + " "),
        ("ada", "x" * 1000),
        ("bob", PASSWORD),
    ):
        assert lasting(try_to_sign_in(client, name, password)) == lasting(wrong), name


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "", None])
def test_form_sent_as_something_else_is_415(
    client: httpx2.Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"username": "ada", "password": PASSWORD}).encode()
    problem = assert_problem(client.post(URL, content=body, headers=headers), 415)
    assert FORM in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "username"),
        (b"username=ada", "password"),
        (b"password=x", "username"),
        (b"username=&password=x", "username"),
        (b'{"username": "ada", "password": "x"}', "username"),
        (b"username=ada&username=bob&password=x", "username"),
        (b"username=ada&password=x&password=x", "password"),
        (b"username=a%00da&password=x", "username"),
        (b"username=ada&password=x%00", "password"),
        (b"username=ada&password=%ff", None),
        (b"username=\xff&password=x", None),
        (b"username=ada&password=%ED%A0%80", None),
        (b"username=" + b"x" * 300 + b"&password=x", "username"),
        (b"username=ada&password=x" + b"&a=b" * 250_000, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_form_is_422(client: httpx2.Client, body: bytes, field: str | None) -> None:
    problem = assert_problem(client.post(URL, content=body, headers={"Content-Type": FORM}), 422)
    assert problem["errors"][0]["loc"] == ["body", *([field] if field else [])]


def test_form_over_a_mebibyte_is_413(client: httpx2.Client) -> None:
    body = b"username=ada&password=" + b"x" * 2**20
    assert_problem(client.post(URL, content=body, headers={"Content-Type": FORM}), 413)


@pytest.mark.parametrize(
    "body",
    [
        "grant_type=password&username=zo%C3%AB&password={}&scope=&client_id=&client_secret=",
        "username=zoë&password={}",
    ],
    ids=["as /docs sends it", "letters as they are"],
)
def test_form_may_be_written_in_other_ways(client: httpx2.Client, body: str) -> None:
    register(client, "Zoë")
    headers = {"Content-Type": f"{FORM}; charset=utf-8", "Authorization": "Basic Og=="}
    form = body.format(PASSWORD.replace(" ", "+")).encode()
    assert client.post(URL, content=form, headers=headers).status_code == 200


def test_every_route_but_the_open_ones_takes_a_token(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    flow = document["components"]["securitySchemes"]["SignIn"]["flows"]["password"]
    assert f"/{flow['tokenUrl']}" == URL
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/") and (method, path) not in OPEN:
                asked = operation["security"]
                assert asked[0] == {"SignIn": []}, (method, path)
                assert ({} in asked) == path.startswith("/api/todos"), (method, path)
                assert "401" in operation["responses"]
            else:
                assert "security" not in operation


def test_header_that_is_no_token_is_401_before_anything_else_is_looked_at(
    client: httpx2.Client,
) -> None:
    document = client.get("/openapi.json").json()
    token = sign_in(client, register(client)["username"])
    wrong = [
        [("Authorization", value)]
        for value in (
            *(
                "",
                "Bearer",
                "Basic YTpi",
                "abc",
                f"Bearer\t{token}",
                f"Bearer {token} x",
            ),
            *(
                token,
                f"Token {token}",
                f'Bearer "{token}"',
                f"Bearer {token},",
                "Bearer " + "x" * 10_000,
            ),
        )
    ]
    wrong.append([("Authorization", f"Bearer {token}")] * 2)
    wrong.append([("Authorization", f"Bearer {token}"), ("Authorization", "Basic YTpi")])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "security" in operation:
                for headers in wrong:
                    url = re.sub(r"\{\w+\}", "x", path) + "?limit=0&status=wrong"
                    sent = [*headers, ("Content-Type", "text/plain")]
                    response = client.request(method, url, headers=sent, content=b"{")
                    assert_refused(response)


def test_scheme_is_known_in_any_case(client: httpx2.Client) -> None:
    token = sign_in(client, register(client)["username"])
    for value in (f"bearer {token}", f"BEARER  {token}"):
        assert client.get("/api/users/me", headers={"Authorization": value}).status_code == 200


def test_registration_and_sign_in_ignore_the_header(client: httpx2.Client) -> None:
    headers = {"Authorization": "nonsense"}
    body = {"email": "ada@example.com", "username": "ada", "password": PASSWORD}
    assert client.post("/api/users", json=body, headers=headers).status_code == 201
    assert try_to_sign_in(client, "ada", **headers).status_code == 200


def test_forged_token_is_401(client: httpx2.Client) -> None:
    user = register(client)
    token = sign_in(client, user["username"])
    head, body, signature = token.split(".")
    good = claims(user["id"])
    flipped = "A" if signature[5] != "A" else "B"
    forged = {
        "a changed signature": f"{head}.{body}.{signature[:5]}{flipped}{signature[6:]}",
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{encode(claims(user['id'] + 1))}.{signature}",
        "another key": forge(good, "x" * 40),
        "none": f"{encode({'alg': 'none', 'typ': 'JWT'})}.{encode(good)}.",
        "None": f"{encode({'alg': 'None', 'typ': 'JWT'})}.{encode(good)}.{signature}",
        "another algorithm": forge(good, algorithm="HS512"),
        "a key of its own": f"{encode({'alg': 'HS256', 'jwk': {}})}.{body}.{signature}",
        "expired": forge(good | {"exp": int(time.time()) - 1}),
        "expires as a text": forge(good | {"exp": str(int(time.time()) + 60)}),
        "another version": forge(good | {"ver": 2}),
        "a version too large": forge(good | {"ver": 2**70}),
        "a version that is true": forge(good | {"ver": True}),
        "no object": ".".join([head, encode([[]]), signature]),
        "a deep head": ".".join([base64.urlsafe_b64encode(b"[" * 600).decode(), body, signature]),
        "a head of bytes": ".".join([base64.urlsafe_b64encode(b"\xff" * 99).decode(), body, "x"]),
        "four parts": f"{token}.x",
        "one part": "x",
    }
    for name in good:
        forged[f"without {name}"] = forge({key: good[key] for key in good if key != name})
    for subject in (
        "",
        "0",
        "-1",
        "x",
        "\u0661",
        f"0{user['id']}",
        f"+{user['id']}",
        "9" * 5000,
        "9" * 19,
    ):
        forged[f"of {subject[:9]}"] = forge(good | {"sub": subject})
    for path in ("/api/users/me", "/api/todos"):
        assert client.get(path, headers=bearer(forge(good))).status_code == 200  # the others differ
        for name, each in forged.items():
            response = client.get(path, headers=bearer(each))
            assert response.status_code == 401, name
            assert_refused(response)


@pytest.mark.slow
def test_token_expires(server: Server, log_path: Path) -> None:
    with (
        serve(server.database_url, log_path, TOKEN_LIFETIME=str(1)) as brief,
        brief.client() as client,
    ):
        register(client, "brief")
        token = sign_in(client, "brief")
        assert client.get("/api/users/me", headers=bearer(token)).status_code == 200
        time.sleep(2.1)  # the seconds of a token are whole ones
        assert_refused(client.get("/api/users/me", headers=bearer(token)))


def test_deleted_user_is_signed_in_no_more(client: httpx2.Client) -> None:
    ada = newcomer(client)
    assert ada.delete("/api/users/me").status_code == 204
    assert_refused(ada.get("/api/todos"))
    assert_refused(ada.get("/api/users"))
    assert_refused(ada.post("/api/todos", json={"title": "Buy milk"}))


def test_user_switched_off_is_signed_in_no_more_and_never_by_an_old_token(
    server: Server, client: httpx2.Client
) -> None:
    ada = newcomer(client)
    # As the README says.
    switch = (
        "UPDATE users SET is_active = {}, token_version = token_version + 1 WHERE username = 'ada'"
    )
    execute(server.database_url, switch.format("false"))
    assert_refused(ada.get("/api/todos"))
    assert_refused(try_to_sign_in(client, "ada"))
    execute(server.database_url, switch.format("true"))
    assert_refused(ada.get("/api/todos"))
    sign_in(client, "ada")


def test_tenth_failure_is_the_last_also_for_the_right_password(client: httpx2.Client) -> None:
    register(client)
    for _ in range(TRIES):
        assert_refused(try_to_sign_in(client, "ada", "wrong password"))
    for name, password in (("ada", PASSWORD), ("ADA", "wrong password")):
        response = try_to_sign_in(client, name, password)
        assert_problem(response, 429)
        assert 0 < int(response.headers["Retry-After"]) <= 60
    register(client, "bob")
    sign_in(client, "bob")


def test_unknown_name_is_counted_too(client: httpx2.Client) -> None:
    seen = [try_to_sign_in(client, "nobody").status_code for _ in range(TRIES + 1)]
    assert seen == [401] * TRIES + [429]


def test_success_starts_the_count_anew(client: httpx2.Client) -> None:
    register(client)
    for _ in range(2):
        for _ in range(TRIES - 1):
            assert_refused(try_to_sign_in(client, "ada", "wrong password"))
        sign_in(client, "ada")


def test_count_ends_with_the_minute(server: Server, client: httpx2.Client) -> None:
    register(client)
    for _ in range(TRIES):
        try_to_sign_in(client, "ada", "wrong password")
    assert_problem(try_to_sign_in(client, "ada"), 429)
    execute(server.database_url, "UPDATE tries SET since = '2026-01-01 00:00:00.000000'")
    sign_in(client, "ada")


def test_counts_of_the_past_are_deleted(server: Server, client: httpx2.Client) -> None:
    for name in ("carl", "dora", "emil"):
        try_to_sign_in(client, name)
    assert query(server.database_url, "SELECT count(*) FROM tries") == [(3,)]
    execute(server.database_url, "UPDATE tries SET since = '2026-01-01 00:00:00.000000'")
    try_to_sign_in(client, "fritz")
    assert query(server.database_url, "SELECT count(*) FROM tries") == [(1,)]


def test_count_names_nobody(server: Server, client: httpx2.Client) -> None:
    try_to_sign_in(client, "fritz")
    assert "fritz" not in str(query(server.database_url, "SELECT * FROM tries"))


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:0:2", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.9", "192.0.2.9", "::ffff:192.0.2.8"),
    ],
)
def test_each_address_has_its_own_count(
    client: httpx2.Client, first: str, same: str, other: str
) -> None:
    register(client)
    # The tests ask from an address that uvicorn takes for that of a proxy.
    for _ in range(TRIES):
        assert_refused(try_to_sign_in(client, "ada", "wrong", **{"X-Forwarded-For": first}))
    assert_problem(try_to_sign_in(client, "ada", **{"X-Forwarded-For": same}), 429)
    assert try_to_sign_in(client, "ada", **{"X-Forwarded-For": other}).status_code == 200


@pytest.mark.slow
def test_of_many_guesses_at_once_ten_get_through_whichever_worker_is_asked(
    own_database_url: str, log_path: Path
) -> None:
    with serve(own_database_url, log_path, app=None, WORKERS="2") as server:
        with server.client() as client:
            register(client)

        def guess(number: int) -> int:
            with server.client() as own:  # a connection of its own, to either worker
                return try_to_sign_in(own, "ada", f"guess number {number}").status_code

        seen = at_once(30, guess)
    assert sorted(seen) == [401] * TRIES + [429] * 20


def test_20_sign_ins_of_one_user_at_once_are_20_tokens(client: httpx2.Client) -> None:
    register(client)
    assert len({len(token) for token in at_once(20, lambda _: sign_in(client, "ada"))}) == 1
