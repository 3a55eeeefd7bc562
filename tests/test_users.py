"""Users: who can register, what of them is shown, and what they alone can change."""
# ruff: noqa: RUF001

import json
from typing import Any

import httpx2
import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem, at_once
from tests.servers import Server
from tests.users import (
    PASSWORD,
    bearer,
    newcomer,
    oneself,
    register,
    sign_in,
    try_to_sign_in,
    user_body,
)

NEW_PASSWORD = "a better one, by far"  # noqa: S105 - it guards nothing
CHANGE = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}


def post(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    """Returns the answer to a registration of Ada, with these fields instead."""
    return client.post("/api/users", json=user_body("ada") | fields)


def test_user_is_shown_without_what_is_secret(server: Server, client: httpx2.Client) -> None:
    fields = {"is_active": False, "id": 4711, "token_version": 9, "password_hash": "x"}
    response = post(client, email="Ada@EXAMPLE.com", username=" ada ", **fields)
    assert response.status_code == 201
    user = response.json()
    assert list(user) == ["id", "email", "username", "is_active", "created_at", "updated_at"]
    assert (user["email"], user["username"], user["is_active"]) == ("Ada@example.com", "ada", True)
    assert user["id"] != 4711
    ada = oneself(client, user)
    shown = ada.get("/api/users").text + ada.get("/api/users/me").text + server.log
    ((stored,),) = query(server.database_url, "SELECT password_hash FROM users")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    for secret in (PASSWORD, stored, "password", "argon2", "token_version"):
        assert secret not in shown.replace("/password", "")


@pytest.mark.parametrize(
    "email",
    ["ada@example.com", "ADA@example.com", "ada@EXAMPLE.COM", "ａda@example.com"],
)
def test_email_is_taken_in_any_case_and_form(client: httpx2.Client, email: str) -> None:
    register(client, "ada", email="ada@example.com")
    problem = assert_problem(post(client, username="other", email=email), 409)
    assert problem["detail"] == "User with this email already exists"


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        ("Zoë", "zoë"),
        ("Zoë", "ZOE\u0308"),
        ("straße", "STRASSE"),
        ("ada", "Ａｄａ"),
        ("ﬁnn", "FINN"),
        ("ΐota", "Ϊ́OTA"),
        ("ada2", "ada\u00b2".replace("\u00b2", "２")),
    ],
)
def test_username_is_taken_in_any_case_and_form(
    client: httpx2.Client, taken: str, name: str
) -> None:
    register(client, taken)
    answer = post(client, username=name, email="other@example.com")
    problem = assert_problem(answer, 409)
    assert problem["detail"] == "User with this username already exists"


def test_names_that_differ_are_two(client: httpx2.Client) -> None:
    for name in ("zoe", "zoë", "zoé", "z.oe", "z_oe"):
        register(client, name)


@pytest.mark.parametrize("field", ["email", "username"])
def test_of_20_registrations_at_once_one_wins(client: httpx2.Client, field: str) -> None:
    def try_to_register(number: int) -> int:
        body = user_body(f"ada{number}")
        name = "Ada" if number % 2 else "aDA"
        body[field] = name if field == "username" else f"{name}@example.com"
        return client.post("/api/users", json=body).status_code

    assert sorted(at_once(20, try_to_register)) == [201] + [409] * 19


@pytest.mark.parametrize(
    "email",
    [
        *("", "ada", "ada@", "@example.com", "ada@@example.com", "ada@bob@example.com"),
        *(" ada@example.com", "ada@example.com ", "a da@example.com", "ada@example.com\n"),
        *("Ada <ada@example.com>", '"ada"@example.com', "ada@[127.0.0.1]", "ada@localhost"),
        *("ada@example.com\nBcc: bob@example.com", "ada\0@example.com", "ada@exa\ud800mple.com"),
        *("ada..b@example.com", "ada@-example.com", "ada＠example.com", "ada@example.test"),
        *(
            "a" * 65 + "@example.com",
            "a@" + "b.".join(["b" * 60] * 5) + ".com",
            None,
            7,
            ["a@b.de"],
        ),
    ],
)
def test_what_is_no_email_is_422(server: Server, client: httpx2.Client, email: Any) -> None:
    raw = user_body("ada") | {"email": email}
    # As ASCII, so that half a character can be sent.

    headers = {"Content-Type": "application/json"}
    response = client.post("/api/users", content=json.dumps(raw).encode(), headers=headers)
    assert_problem(response, 422)
    assert not email or str(email)[:20] not in response.text
    assert query(server.database_url, "SELECT count(*) FROM users") == [(0,)]


@pytest.mark.parametrize(
    "email",
    ["ada+todo@example.com", "ö@example.com", "ﷺ" * 64 + "@example.com", "a@" + "b" * 63 + ".com"],
)
def test_unusual_email_is_taken(client: httpx2.Client, email: str) -> None:
    user = register(client, "ada", email=email)
    assert user["email"] == email
    assert sign_in(client, email)
    ada = oneself(client, user)
    assert ada.get("/api/users", params={"q": email[:100]}).json() == [user]
    page = ada.get("/api/users", params={"sort": "email", "limit": 1})
    assert page.json() == [user]


@pytest.mark.parametrize(
    "name",
    ["abc", "a.b_c-d", "Zoë", "Ёлка", "दीपक", "山田太郎", "ada２", "e\u0301va", "ﷺ" * 50, "x" * 50],
)
def test_name_is_of_any_script(client: httpx2.Client, name: str) -> None:
    user = register(client, name)
    assert user["username"] == name
    assert sign_in(client, name)
    following = oneself(client, user).get("/api/users", params={"sort": "username"})
    assert following.json() == [user]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "ab",
            " ab ",
            "x" * 51,
            "a b c",
            "ada@example.com",
            "ada!",
            "ada\0",
            "ada\n.b",
            "a/b/c",
        ),
        *(
            "ada\u200b",
            "ada\u202e",
            "😀😀😀",
            "ada\u00b2",
            "Ⅷada",
            "ada\ue000",
            "<b>ada",
            None,
            777,
        ),
    ],
)
def test_what_is_no_name_is_422(client: httpx2.Client, name: Any) -> None:
    problem = assert_problem(post(client, username=name), 422)
    assert problem["errors"][0]["loc"] == ["body", "username"]


@pytest.mark.parametrize(
    "password",
    [
        "x" * 8,
        "x" * 128,
        "😀" * 8,
        "😀" * 128,
        " " * 8,
        "  secret",
        "secret  ",
        "\t\n\r\x01\x7f\u2028\ufeff\xa0",
    ],
)
def test_password_is_taken_as_it_is(client: httpx2.Client, password: str) -> None:
    register(client, password=password)
    sign_in(client, "ada", password)
    for other in (password.strip(), password + " ", password.upper(), "x" + password):
        if other != password:
            assert try_to_sign_in(client, "ada", other).status_code == 401


@pytest.mark.parametrize(
    "password", ["", "x" * 7, "😀" * 7, "x" * 129, "secret\0!!", None, 12345678]
)
def test_what_is_no_password_is_422(client: httpx2.Client, password: Any) -> None:
    response = post(client, password=password)
    problem = assert_problem(response, 422)
    assert problem["errors"][0]["loc"] == ["body", "password"]
    ada = newcomer(client)
    change = CHANGE | {"new_password": password}
    problem = assert_problem(ada.put("/api/users/me/password", json=change), 422)
    assert problem["errors"][0]["loc"] == ["body", "new_password"]


def test_registration_takes_no_idempotency_key(client: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert client.post("/api/users", json=user_body("ada"), headers=headers).status_code == 201
    assert client.post("/api/users", json=user_body("ada"), headers=headers).status_code == 409


def test_me_is_oneself(client: httpx2.Client) -> None:
    user = register(client)
    ada, path = oneself(client, user), f"/api/users/{user['id']}"
    me = ada.get("/api/users/me")
    assert (me.json(), me.headers["ETag"]) == (user, ada.get(path).headers["ETag"])
    unchanged = ada.get("/api/users/me", headers={"If-None-Match": me.headers["ETag"]})
    assert unchanged.status_code == 304
    changed = ada.patch("/api/users/me", json={"username": "eva"})
    assert changed.json() == ada.get(path).json()
    assert ada.put("/api/users/me", json={}, headers={"If-Match": '"x"'}).status_code == 412
    assert ada.delete("/api/users/me").status_code == 204
    bob = newcomer(client, "bob")
    for wrong in ("ME", "Me", "me1", "0", "-1", "1.0"):
        assert_problem(bob.get(f"/api/users/{wrong}"), 422)


def test_another_user_is_seen_but_not_changed(client: httpx2.Client) -> None:
    bob, ada = register(client, "bob"), newcomer(client, "ada")
    path = f"/api/users/{bob['id']}"
    assert ada.get(path).json() == bob
    for headers in (
        {},
        {"If-Match": "*"},
        {"If-Match": '"x"'},
        {"If-Match": ada.get(path).headers["ETag"]},
    ):
        for method, suffix, body in (
            ("PUT", "", {"username": "stolen"}),
            ("PATCH", "", {"is_active": False}),
            ("PUT", "", {}),
            ("DELETE", "", None),
            ("PUT", "/password", CHANGE),
        ):
            sent: dict[str, Any] = {} if body is None else {"json": body}
            assert_problem(ada.request(method, path + suffix, headers=headers, **sent), 403)
            missing = ada.request(method, f"/api/users/{2**62}{suffix}", headers=headers, **sent)
            assert assert_problem(missing, 404)["detail"] == "User not found"
    assert ada.get(path).json() == bob
    sign_in(client, "bob")


def test_user_can_change_names_to_free_ones_only(client: httpx2.Client) -> None:
    register(client, "bob", email="bob@example.com")
    ada = newcomer(client, "ada")
    for change, field in (
        ({"username": "BOB"}, "username"),
        ({"email": "BOB@example.com"}, "email"),
    ):
        problem = assert_problem(ada.put("/api/users/me", json=change), 409)
        assert problem["detail"] == f"User with this {field} already exists"
    assert ada.put("/api/users/me", json={"username": "ADA"}).json()["username"] == "ADA"
    sign_in(client, "ada")


def test_user_who_leaves_is_signed_in_no_more_and_cannot_come_back(client: httpx2.Client) -> None:
    ada = newcomer(client)
    left = ada.patch("/api/users/me", json={"is_active": False})
    assert left.json()["is_active"] is False
    assert ada.patch("/api/users/me", json={"is_active": True}).status_code == 401
    assert try_to_sign_in(client, "ada").status_code == 401
    bob = newcomer(client, "bob")
    assert [user["username"] for user in bob.get("/api/users?is_active=false").json()] == ["ada"]
    assert [user["username"] for user in bob.get("/api/users?is_active=true").json()] == ["bob"]


def test_q_finds_names_and_emails(client: httpx2.Client) -> None:
    register(client, "Zoë", email="grüße@example.com")
    ada = newcomer(client, "ada")
    for q in ("ZO", "ＺＯ", "zoe\u0308", "GRÜSSE", "Ü", "@EXAMPLE"):
        found = [user["username"] for user in ada.get("/api/users", params={"q": q}).json()]
        assert "Zoë" in found
        assert ("ada" in found) == (q == "@EXAMPLE")


def test_new_password_takes_the_place_of_the_old_one_and_of_every_token(
    client: httpx2.Client,
) -> None:
    user = register(client)
    old = [
        oneself(client, user),
        httpx2.Client(base_url=client.base_url, headers=bearer(sign_in(client, "ada"))),
    ]
    tag = old[0].get("/api/users/me").headers["ETag"]
    response = old[0].put(f"/api/users/{user['id']}/password", json=CHANGE)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    token = response.json()
    assert list(token) == ["access_token", "token_type", "expires_in"]
    for each in old:
        assert each.get("/api/todos").status_code == 401
        assert each.get("/api/users/me").status_code == 401
    old[1].close()
    me = client.get("/api/users/me", headers=bearer(token["access_token"]))
    assert me.status_code == 200
    assert me.headers["ETag"] != tag
    assert try_to_sign_in(client, "ada").status_code == 401
    sign_in(client, "ada", NEW_PASSWORD)


def test_wrong_current_password_is_403_and_counts_as_a_failed_sign_in(
    client: httpx2.Client,
) -> None:
    ada = newcomer(client)
    wrong = CHANGE | {"current_password": "wrong"}
    for _ in range(10):
        assert_problem(ada.put("/api/users/me/password", json=wrong), 403)
    for change in (wrong, CHANGE):
        response = ada.put("/api/users/me/password", json=change)
        assert_problem(response, 429)
        assert response.headers["Retry-After"]
    assert_problem(try_to_sign_in(client, "ada"), 429)
    assert ada.get("/api/users/me").status_code == 200


def test_of_10_password_changes_at_once_one_wins(client: httpx2.Client) -> None:
    ada = newcomer(client)

    def change(number: int) -> int:
        body = CHANGE | {"new_password": f"password number {number}"}
        return ada.put("/api/users/me/password", json=body).status_code

    assert sorted(at_once(10, change)) == [200] + [401] * 9


def test_user_switched_off_under_a_request_is_not_switched_on_by_it(
    server: Server, client: httpx2.Client
) -> None:
    ada = newcomer(client)
    off = "UPDATE users SET is_active = false, token_version = token_version + 1"

    def act(number: int) -> int:
        if number == 0:
            execute(server.database_url, off)
            return 200
        return ada.patch("/api/users/me", json={"is_active": True}).status_code

    assert set(at_once(8, act)) <= {200, 401}
    assert [
        bool(active) for (active,) in query(server.database_url, "SELECT is_active FROM users")
    ] == [False]
