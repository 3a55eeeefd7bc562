"""Live, signed in: a user's own list, for as long as the token holds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.followers import PROMPTLY, Follower, following
from tests.helpers import create
from tests.servers import Server, serve

PASSWORD = "correct horse"  # noqa: S105 - of nobody
REVOKED_WITHIN = 10.0  # seconds

numbers = count()


class Someone:
    """A user of a server, signed in."""

    def __init__(self, server: Server) -> None:
        self.name = f"live-{next(numbers)}"
        self.server = server
        self.client = server.client()
        account = {"username": self.name, "email": f"{self.name}@example.com", "password": PASSWORD}
        self.id = self.client.post("/api/users", json=account).raise_for_status().json()["id"]
        self.token = self.sign_in()
        self.client.headers["Authorization"] = f"Bearer {self.token}"

    def sign_in(self) -> str:
        form = {"username": self.name, "password": PASSWORD}
        answer = self.client.post("/api/auth/token", data=form).raise_for_status()
        return str(answer.json()["access_token"])

    def follow(self, follower: Follower) -> int:
        """Signs in on a connection; returns how many follow the list."""
        follower.send({"type": "sign_in", "token": self.token})
        return int(follower.receive_type("welcome")["clients"])


@contextmanager
def somebody(server: Server) -> Iterator[Someone]:
    """Registers a user, who signs in."""
    someone = Someone(server)
    try:
        yield someone
    finally:
        someone.client.close()


@pytest.fixture
def ada(server: Server) -> Iterator[Someone]:
    with somebody(server) as someone:
        yield someone


@pytest.fixture
def bob(server: Server) -> Iterator[Someone]:
    with somebody(server) as someone:
        yield someone


def test_user_follows_their_own_list_and_no_other(
    server: Server, client: httpx2.Client, ada: Someone, bob: Someone
) -> None:
    with (
        following(server.base_url) as nobodys,
        following(server.base_url) as adas,
        following(server.base_url) as again,
        following(server.base_url) as bobs,
    ):
        assert ada.follow(adas) == 1
        assert ada.follow(again) == 2
        assert bob.follow(bobs) == 1
        assert adas.receive_type("clients")["clients"] == 2
        todo = create(ada.client)
        for follower in (adas, again):
            assert follower.receive_type("changed", PROMPTLY)["ids"] == [todo["id"]]
        ada.client.patch("/api/todos", json={"status": "completed"})
        assert adas.told() is None
        ada.client.delete("/api/todos?status=completed")
        assert adas.told() is None
        for follower in (nobodys, bobs):
            follower.silence("changed")
        shared = create(client)
        assert nobodys.receive_type("changed", PROMPTLY)["ids"] == [shared["id"]]
        adas.silence("changed")


def test_users_are_not_followed(server: Server, ada: Someone) -> None:
    with following(server.base_url) as nobodys, following(server.base_url) as adas:
        ada.follow(adas)
        ada.client.patch("/api/users/me", json={"username": f"{ada.name}-2"}).raise_for_status()
        adas.silence("changed")
        nobodys.silence("changed", 0.05)


def test_message_stays_in_the_list(server: Server, ada: Someone) -> None:
    with (
        following(server.base_url, quiet=False) as nobodys,
        following(server.base_url) as adas,
        following(server.base_url) as again,
    ):
        name = nobodys.receive()["client"]
        ada.follow(adas)
        ada.follow(again)
        adas.send({"type": "message", "content": "mine", "to": name})
        adas.send({"type": "message", "content": "ours"})
        assert again.receive_type("message")["content"] == "ours"
        nobodys.silence("message")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", 7, None, "\0"])
def test_token_that_does_not_hold_closes(server: Server, token: object) -> None:
    with following(server.base_url) as follower:
        follower.send({"type": "sign_in", "token": token})
        assert follower.close_code() == 1008


def test_token_is_not_in_the_log(server: Server, ada: Someone) -> None:
    with following(server.base_url) as follower:
        ada.follow(follower)
    assert ada.token not in server.log


Revoke = Callable[[httpx2.Client], httpx2.Response]

REVOKED: dict[str, Revoke] = {
    "password changed": lambda client: client.put(
        "/api/users/me/password",
        json={"current_password": PASSWORD, "new_password": f"{PASSWORD} 2"},
    ),
    "switched off": lambda client: client.patch("/api/users/me", json={"is_active": False}),
    "deleted": lambda client: client.delete("/api/users/me"),
}


@pytest.mark.slow
def test_token_that_stops_to_hold_closes(server: Server, bob: Someone) -> None:
    with ExitStack() as stack:
        stays = stack.enter_context(following(server.base_url))
        bob.follow(stays)
        followers = []
        for revoke in REVOKED.values():
            someone = stack.enter_context(somebody(server))
            followers.append(stack.enter_context(following(server.base_url)))
            someone.follow(followers[-1])
            assert revoke(someone.client).is_success
        for follower in followers:
            assert follower.close_code(REVOKED_WITHIN) == 1008
        todo = create(bob.client)
        assert stays.told() == {todo["id"]}


@pytest.mark.slow
def test_token_that_expires_closes(own_database_url: str, log_path: Path) -> None:
    settings = {"TOKEN_LIFETIME": "3"}
    with (
        serve(own_database_url, log_path, **settings) as server,  # type: ignore[arg-type]
        somebody(server) as ada,
        following(server.base_url) as follower,
    ):
        ada.follow(follower)
        assert follower.close_code(3 + REVOKED_WITHIN) == 1008


@pytest.mark.slow
def test_whoever_must_sign_in_follows_nothing_before(own_database_url: str, log_path: Path) -> None:
    with (
        serve(own_database_url, log_path, AUTH_REQUIRED="true") as server,
        following(server.base_url, quiet=False) as silent,
        following(server.base_url, quiet=False) as talker,
        following(server.base_url, quiet=False) as adas,
        somebody(server) as ada,
    ):
        talker.send({"type": "message", "content": 1})
        assert talker.close_code() == 1008
        assert ada.follow(adas) == 1
        todo = create(ada.client)
        assert adas.told() == {todo["id"]}
        with pytest.raises(ConnectionClosed, match="1008"):  # and nothing before
            silent.receive()
