"""Users of the API: how they register, sign in, and ask as themselves."""

import re
import time
from hashlib import sha1
from typing import Any

import httpx2
import jwt
from sqlmodel import Session

from backend import models
from tests.databases import engine_of
from tests.servers import SECRET_KEY

PASSWORD = "correct horse battery"  # noqa: S105 - it guards nothing

User = dict[str, Any]


def user_body(name: str, **fields: Any) -> dict[str, Any]:
    """Returns what registers a user with this name, whose email does not say it."""
    email = f"{sha1(name.encode(), usedforsecurity=False).hexdigest()}@example.com"
    username = re.sub(r"^(Buy|Wash) ", r"\1-", name)  # what the contract tests call their rows
    return {"email": email, "username": username, "password": PASSWORD, **fields}


def register(client: httpx2.Client, name: str = "ada", **fields: Any) -> User:
    """Registers a user and returns them."""
    response = client.post("/api/users", json=user_body(name, **fields))
    assert response.status_code == 201, response.text
    user: User = response.json()
    return user


def try_to_sign_in(
    client: httpx2.Client, name: str, password: str = PASSWORD, **headers: str
) -> httpx2.Response:
    """Returns the answer to a sign-in."""
    form = {"username": name, "password": password}
    return client.post("/api/auth/token", data=form, headers=headers)


def sign_in(client: httpx2.Client, name: str, password: str = PASSWORD) -> str:
    """Signs in and returns the token."""
    response = try_to_sign_in(client, name, password)
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


def claims(user_id: object = 1, **others: Any) -> dict[str, Any]:
    """Returns what a token of ours says, of a user who has not changed their password."""
    moment = int(time.time())
    return {"sub": str(user_id), "iat": moment, "exp": moment + 3600, "ver": 1, **others}


def forge(payload: dict[str, Any], key: str = SECRET_KEY, algorithm: str = "HS256") -> str:
    """Returns a token that says anything."""
    return jwt.encode(payload, key, algorithm)


def bearer(token: str) -> dict[str, str]:
    """Returns the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def with_token(client: httpx2.Client, token: str) -> httpx2.Client:
    """Returns a client that sends a token, on the connections of another client."""
    return httpx2.Client(
        base_url=client.base_url,
        headers=bearer(token),
        timeout=client.timeout,
        transport=client._transport,
    )


def newcomer(client: httpx2.Client, name: str = "ada") -> httpx2.Client:
    """Returns a client that asks as a new user."""
    return oneself(client, register(client, name))


def oneself(client: httpx2.Client, user: User) -> httpx2.Client:
    """Returns a client that asks as this user.

    Its token says what signing in would give, without the time that a hash takes.
    """
    return with_token(client, forge(claims(user["id"])))


def onlooker(client: httpx2.Client, database_url: str) -> httpx2.Client:
    """Returns a client that asks as a user who only looks, put into the database as they are.

    Hundreds of tests need one, and registering takes the time of a hash.
    """
    with Session(engine_of(database_url)) as session:
        user = models.User(email="reader@example.com", username="reader", password_hash="")
        session.add(user)
        session.commit()
        return with_token(client, forge(claims(user.id)))
