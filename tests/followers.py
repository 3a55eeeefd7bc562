"""Clients of `/api/live`: one that a test speaks for, and one that follows the rule by itself."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, Self

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.helpers import wait_until
from tests.servers import VERIFY

PROMPTLY = 1.0  # seconds until a change is told
QUIET = 0.3  # seconds without a word that count as silence
WAIT_TIMEOUT = 10.0
FEW = 10  # rows that are read one by one

Message = dict[str, Any]


class Follower:
    """A connection to `/api/live`, whose messages a test reads one by one."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, message: object) -> None:
        self.connection.send(json.dumps(message))

    def receive(self, within: float = WAIT_TIMEOUT) -> Message:
        """Returns the next message. Raises `TimeoutError` when there is none in time."""
        message: Message = json.loads(self.connection.recv(within))
        return message

    def receive_type(self, kind: str, within: float = WAIT_TIMEOUT) -> Message:
        """Returns the next message of a type; others before it are not looked at."""
        give_up = time.monotonic() + within
        while (message := self.receive(give_up - time.monotonic()))["type"] != kind:
            pass
        return message

    def silence(self, kind: str, seconds: float = QUIET) -> None:
        """Asserts that no message of a type comes."""
        give_up = time.monotonic() + seconds
        try:
            while (left := give_up - time.monotonic()) > 0:
                message = self.receive(left)
                assert message["type"] != kind, message
        except TimeoutError:
            pass

    def told(self, *, seconds: float = QUIET) -> set[int] | None:
        """Returns the ids that are told to have changed until nothing more comes; `None` for many.

        The first must come promptly.
        """
        message = self.receive_type("changed", PROMPTLY)
        ids: set[int] | None = set()
        while True:
            assert message["resource"] == "todos"
            ids = None if ids is None or message["ids"] is None else ids | set(message["ids"])
            try:
                message = self.receive_type("changed", seconds)
            except TimeoutError:
                return ids

    def close_code(self, within: float = WAIT_TIMEOUT) -> int:
        """Returns the code with which the server closes the connection."""
        give_up = time.monotonic() + within
        try:
            while True:
                self.connection.recv(max(0, give_up - time.monotonic()))
        except ConnectionClosed as closed:
            return int(closed.rcvd.code) if closed.rcvd else 1006  # there was no closing frame


def live_url(base_url: str) -> str:
    return base_url.replace("http", "ws", 1) + "/api/live"


@contextmanager
def following(
    base_url: str, *, origin: str | None = None, path: str = "", quiet: bool = True
) -> Iterator[Follower]:
    """Follows the shared todos until the block ends; the welcome has been read where `quiet`."""
    with connect(
        live_url(base_url) + path, origin=Origin(origin) if origin else None, max_size=2**24
    ) as connection:
        follower = Follower(connection)
        if quiet:
            follower.receive_type("welcome")
            follower.silence("", 0.05)
        yield follower


def refusal(url: str, headers: Sequence[tuple[str, str]] = ()) -> tuple[int, Message]:
    """Returns the status and the problem with which a handshake is refused."""
    try:
        with connect(url, additional_headers=headers):
            raise AssertionError("The handshake was not refused")
    except InvalidStatus as error:
        response = error.response
        assert response.headers["Content-Type"] == "application/problem+json"
        return response.status_code, json.loads(response.body or b"")


class Reader:
    """A client that follows the rule: it reads the list after `welcome`, then what changed.

    It connects again when it is cut off. `rows` is the list as it knows it.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.rows: dict[int, Message] = {}
        self.closes: list[int] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_TIMEOUT)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with (
                    httpx2.Client(base_url=self.base_url, timeout=15, verify=VERIFY) as client,
                    connect(live_url(self.base_url), ping_interval=None) as connection,
                ):
                    self._follow(client, Follower(connection))
            except ConnectionClosed as closed:
                self.closes.append(int(closed.rcvd.code) if closed.rcvd else 1006)
            except (OSError, InvalidStatus, httpx2.TransportError, TimeoutError):
                self._stop.wait(0.1)

    def _follow(self, client: httpx2.Client, follower: Follower) -> None:
        while not self._stop.is_set():
            changed = self._changed(follower)
            if changed is None or len(changed) > FEW:
                self.rows = read_list(client)
            else:
                for row_id in changed:
                    self._read_row(client, row_id)

    def _changed(self, follower: Follower) -> set[int] | None:
        """Returns the ids of all that waits to be read again; `None` for the whole list."""
        changed: set[int] | None = set()
        with suppress(TimeoutError):
            message = follower.receive(0.2)
            while True:
                if message["type"] == "welcome" or message.get("ids", ()) is None:
                    changed = None
                elif message["type"] == "changed" and changed is not None:
                    changed |= set(message["ids"])
                message = follower.receive(0)
        return changed

    def _read_row(self, client: httpx2.Client, row_id: int) -> None:
        response = answer(client, f"/api/todos/{row_id}")
        if response.status_code == 404:
            self.rows.pop(row_id, None)
        else:
            self.rows[row_id] = response.json()


def answer(client: httpx2.Client, path: str) -> httpx2.Response:
    """Reads again and again until there is an answer, as the rule demands."""
    while (response := client.get(path)).status_code == 503:
        time.sleep(0.1)
    return response


def read_list(client: httpx2.Client) -> dict[int, Message]:
    """Returns the list as it is, by id."""
    rows: dict[int, Message] = {}
    path: str | None = "/api/todos?limit=1000"
    while path:
        response = answer(client, path)
        rows |= {row["id"]: row for row in response.json()}
        path = response.links.get("next", {}).get("url")
    return rows


def wait_until_agreed(
    readers: Sequence[Reader], client: httpx2.Client, within: float = 5.0
) -> float:
    """Waits until each reader knows the list as it is; returns the seconds that it took."""

    def agree() -> bool:
        listed = read_list(client)
        return all(reader.rows == listed for reader in readers)

    return wait_until(agree, within)
