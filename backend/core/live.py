"""Who follows what, and what they are told: lists, their clients, and what waits for each.

A change is told when it is committed. It travels as a hint, which rows to read again, so that
hints can wait for a slow client as one set. Hints of all transactions are gathered and given
out a few times a second; so a thousand writes cost what one does.
"""

import asyncio
import logging
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from secrets import token_hex
from typing import Any, TypeAlias

from anyio.to_thread import run_sync
from pydantic_core import from_json, to_json
from sqlalchemy import MetaData, exc
from sqlmodel import Session
from starlette.websockets import WebSocket, WebSocketDisconnect

from backend.core.changes import Changes, add_changes, followed_tables, note
from backend.core.connections import Database, reason
from backend.core.deadlines import start_deadline
from backend.core.relays import entries_of, relay_for
from backend.core.sockets import LINGER, MAX_MESSAGE, TRY_AGAIN_LATER

logger = logging.getLogger(__name__)

# Whose list a client follows: an owner's, by id, or None for the shared one.
List: TypeAlias = int | None

# Returns the owner of each of the tokens that hold.
OwnersOf: TypeAlias = Callable[[Collection[str]], Mapping[str, int]]

# What a client says: in which list, its name, to whom (None for all others), and what.
Saying: TypeAlias = tuple[List, str, str | None, Any]

MAX_CONTENT = 1000  # bytes of JSON that a client may say to others
MAX_WAITING = 200  # messages of others that wait for a client; then the oldest is dropped
MAX_RATE = 20.0  # messages of a client per second

SIGN_IN_TIMEOUT = 5.0  # seconds for it
SIGNED_IN_CHECK = 4.0  # seconds between two looks whether tokens still hold
MAX_SENDS = 2000  # messages to all, times clients, in a round; then the oldest are dropped

# Seconds between two rounds of telling, and more for each client, so that a round is short.
PAUSE, PAUSE_EACH, LONGEST_PAUSE = 0.1, 0.0001, 0.4
COUNTS_PAUSE, COUNTS_PAUSE_EACH, LONGEST_COUNTS_PAUSE = 0.2, 0.001, 5.0

# Seconds until that is told again of which nobody knows whether it is committed yet.
SECOND_THOUGHTS = 3.0

UNREADABLE, UNWANTED, TOO_BIG = 1007, 1008, 1009


class Closed(Exception):
    """The connection is to be closed with this code, for this reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class NotHeld(Closed):
    """The token does not hold, or not any more; nobody needs to know which."""

    def __init__(self) -> None:
        super().__init__(UNWANTED, "the token does not hold; sign in again")


class Hints:
    """Which rows of which resources to read again; None for the whole list."""

    def __init__(self, ids: dict[str, set[int] | None]) -> None:
        self.ids = ids

    def with_more(self, more: "Hints") -> "Hints":
        """Returns these hints and others as one."""
        merged: Changes = {}
        for hints in (self, more):
            for resource, ids in hints.ids.items():
                note(merged, resource, None, ids)
        return Hints({resource: ids for (resource, _), ids in merged.items()})

    @cached_property
    def texts(self) -> list[str]:
        """The messages that say so; made once, for all who get the same."""
        return [
            encode(type="changed", resource=resource, ids=None if ids is None else sorted(ids))
            for resource, ids in self.ids.items()
        ]


def encode(**message: Any) -> str:
    """Returns a message as JSON."""
    return str(to_json(message), "utf-8")


class Client:
    """One who follows a list, and what waits to be sent there."""

    __slots__ = (
        *("closed", "count", "hints", "joined", "list", "messages", "name", "news", "token"),
        "woken",
    )

    def __init__(self) -> None:
        self.name = token_hex(8)
        self.list: List = None
        self.joined = False  # it follows the list
        self.token: str | None = None  # with which it has signed in
        self.closed: Closed | None = None
        self.count = 0  # of the clients of the list, as told
        self.news = ""  # "welcome" or "clients", when the count is to be told
        self.hints: Hints | None = None
        self.messages: deque[str] = deque(maxlen=MAX_WAITING)
        self.woken = asyncio.Event()

    def welcome(self, which: List, count: int) -> None:
        """Lets the client follow a list; what waits from another one is forgotten."""
        self.list, self.count, self.news = which, count, "welcome"
        self.hints = None
        self.messages.clear()
        self.woken.set()

    def close(self, closed: Closed) -> None:
        """Lets the connection be closed; what waits is forgotten."""
        self.closed = closed
        self.news, self.hints = "", None
        self.messages.clear()
        self.woken.set()

    def show_count(self, count: int) -> None:
        """Adds the number of clients to what waits, if it is another one."""
        if count != self.count:
            self.count = count
            self.news = self.news or "clients"
            self.woken.set()

    def hint(self, hints: Hints) -> None:
        """Adds hints to those that wait."""
        self.hints = hints if self.hints is None else self.hints.with_more(hints)
        self.woken.set()

    def say(self, text: str) -> None:
        """Adds a message to those that wait."""
        self.messages.append(text)
        self.woken.set()

    def take(self) -> list[str]:
        """Returns what waits, as the messages to send; nothing waits then."""
        self.woken.clear()
        texts = []
        if self.news == "welcome":
            texts.append(encode(type="welcome", client=self.name, clients=self.count))
        elif self.news:
            texts.append(encode(type="clients", clients=self.count))
        if self.hints:
            texts += self.hints.texts
        texts += self.messages
        self.news, self.hints = "", None
        self.messages.clear()
        return texts


class Allowance:
    """How many messages a client may still send: so many at once, and as many each second."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = MAX_RATE
        self._since = now

    def spend(self, now: float) -> bool:
        """Takes one message off; returns whether there was one."""
        self._left = min(MAX_RATE, self._left + MAX_RATE * (now - self._since)) - 1
        self._since = now
        return self._left >= 0


class Rounds:
    """Calls a function soon after it is asked to, but never twice within a pause."""

    def __init__(self, call: Callable[[], None], pause: Callable[[], float]) -> None:
        self._call = call
        self._pause = pause
        self.begin()

    def begin(self) -> None:
        """Forgets what was asked, on an event loop that has ended."""
        self._asked = False
        self._next = 0.0

    def ask(self) -> None:
        """Asks for a round; on the event loop."""
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_at(self._next, self._run)

    def _run(self) -> None:
        self._asked = False
        self._next = asyncio.get_running_loop().time() + self._pause()
        self._call()


def nobodys(tokens: Collection[str]) -> Mapping[str, int]:
    """Says that no token holds."""
    return {}


class Followers:
    """All clients of this process, told of what this process and the others commit.

    It observes the database's transactions and listens to its relay; both come from other
    threads, and go on on the event loop.
    """

    def __init__(self, database: Database) -> None:
        """Begins to observe the database; who is to be told joins while `running`."""
        self._owners_of: OwnersOf = nobodys
        self.resources: list[str] = []
        self.clients: dict[str, Client] = {}
        self.lists: dict[List, set[Client]] = {}
        self.elsewhere: dict[int, dict[List, int]] = {}  # how many follow, by other process
        self._loop: AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._committed: Changes = {}  # by us, since the last round
        self._heard: Changes = {}  # from others, since then
        self._said: list[Saying] = []  # by our clients, since then
        self._overheard: list[Saying] = []
        self._moved: set[List] = set()  # lists whose count has changed here
        self._moved_elsewhere: set[List] = set()
        self._rounds = Rounds(self._tell, self._pause)
        self._counts = Rounds(self._tell_counts, self._counts_pause)
        self._relay = relay_for(database)
        database.observer = self

    @asynccontextmanager
    async def running(self, metadata: MetaData, owners_of: OwnersOf) -> AsyncIterator[None]:
        """Tells and hears of the tables for as long as the process serves.

        `owners_of` is asked, in a worker thread, whose tokens are, and whether they hold.
        """
        self.resources = followed_tables(metadata)
        self._owners_of = owners_of
        self._loop = asyncio.get_running_loop()
        self._rounds.begin()
        self._counts.begin()
        self._relay.start(self)
        keeping = asyncio.create_task(self._keep_signed_in())
        try:
            yield
        finally:
            keeping.cancel()
            self._tell()
            self._loop = None
            await run_sync(self._relay.stop)

    async def follow(self, websocket: WebSocket, *, shared: bool = True) -> None:
        """Serves one client until it leaves, or breaks a rule.

        It follows the shared list until it signs in; where nothing is `shared`, it must soon.
        """
        await websocket.accept()
        client = Client()
        if shared:
            self._join(client, None)
        writer = asyncio.create_task(write(websocket, client))
        try:
            await self._read(websocket, client)
        except Closed as closed:
            writer.cancel()
            with suppress(TimeoutError, WebSocketDisconnect):
                async with asyncio.timeout(LINGER):  # where it takes nothing
                    await websocket.close(closed.code, closed.reason)
        finally:
            writer.cancel()
            self._leave(client)

    async def _read(self, websocket: WebSocket, client: Client) -> None:
        """Does what a client asks for until it leaves. Raises `Closed` when it may not."""
        loop = asyncio.get_running_loop()
        allowance = Allowance(loop.time())
        while True:
            try:
                async with asyncio.timeout(None if client.joined else SIGN_IN_TIMEOUT):
                    event = await websocket.receive()
            except TimeoutError:
                raise Closed(UNWANTED, "sign in first") from None
            if event["type"] == "websocket.disconnect" or client.closed:
                return
            message = parse(event.get("text"))
            if not allowance.spend(loop.time()):
                raise Closed(UNWANTED, f"more than {MAX_RATE:.0f} messages a second")
            if message.get("type") == "sign_in":
                await self._sign_in(client, message.get("token"))
            elif message.get("type") == "message" and client.joined:
                self._say(client, message)
            else:
                raise Closed(UNWANTED, "a message of an unknown type, or before signing in")

    async def _sign_in(self, client: Client, token: object) -> None:
        """Lets a client follow its own list. Raises `Closed` when its token does not hold."""
        if not isinstance(token, str):
            raise Closed(UNWANTED, "a sign_in has a token")
        try:
            owners = await self._owners([token])
        except exc.SQLAlchemyError as error:
            logger.warning("live: nobody can sign in: %s", reason(error))
            raise Closed(TRY_AGAIN_LATER, "the database does not answer; try again") from None
        if token not in owners:
            raise NotHeld
        self._leave(client)
        client.token = token
        self._join(client, owners[token])

    async def _owners(self, tokens: Collection[str]) -> Mapping[str, int]:
        start_deadline(SIGN_IN_TIMEOUT)
        return await run_sync(self._owners_of, tokens)

    async def _keep_signed_in(self) -> None:
        """Closes those whose token does not hold any more, one question for all of them."""
        while True:
            await asyncio.sleep(SIGNED_IN_CHECK)
            tokens = {client.token for client in self.clients.values() if client.token}
            if not tokens:
                continue
            try:
                owners = await self._owners(tokens)
            except exc.SQLAlchemyError as error:  # then nothing changes either
                logger.warning("live: it is not known who is still signed in: %s", reason(error))
                continue
            except Exception:  # a defect here must not end the watch for good
                logger.exception("live: it is not known who is still signed in")
                continue
            for client in list(self.clients.values()):
                if client.token in tokens and client.token not in owners:
                    self._leave(client)
                    client.close(NotHeld())

    def _say(self, client: Client, message: dict[str, Any]) -> None:
        """Passes on what one client says. Raises `Closed` when it is not as it should be."""
        recipient = message.get("to")
        if "content" not in message or not isinstance(recipient, str | None):
            raise Closed(UNWANTED, "a message has a content, and may have a client's name in to")
        if len(to_json(message["content"])) > MAX_CONTENT:
            raise Closed(UNWANTED, f"a content of more than {MAX_CONTENT:,} bytes")
        self._said.append((client.list, client.name, recipient, message["content"]))
        self._rounds.ask()

    def _join(self, client: Client, which: List) -> None:
        client.joined = True
        self.clients[client.name] = client
        self.lists.setdefault(which, set()).add(client)
        client.welcome(which, self._count(which))
        self._moved.add(which)
        self._counts.ask()

    def _leave(self, client: Client) -> None:
        if not client.joined:
            return
        client.joined = False
        del self.clients[client.name]
        followers = self.lists[client.list]
        followers.remove(client)
        if not followers:
            del self.lists[client.list]
        self._moved.add(client.list)
        self._counts.ask()

    # From the threads of transactions.

    def before_commit(self, session: Session, changes: Changes) -> None:
        """Lets the relay do in the transaction what it must."""
        self._relay.before_commit(session, changes)

    def committed(self, changes: Changes) -> None:
        """Notes what is to be told in the next round."""
        if not changes or self._loop is None:
            return
        with self._lock:
            first = not self._committed
            add_changes(self._committed, changes)
        if first:
            self._on_loop(self._rounds.ask)

    def in_doubt(self, changes: Changes) -> None:
        """Tells what may be committed, or may be soon: now, and when the server is done."""
        self.committed(changes)
        self._on_loop(self._later, self.committed, changes)

    # From the thread of the relay.

    def linked(self) -> None:
        """Tells the others who is here, and our clients that something may have been missed."""
        self._on_loop(self._introduce)
        self.missed()

    def missed(self) -> None:
        """Tells everybody to read everything again."""
        self._on_loop(self._hear, self._everything())

    def heard(self, sender: int, kind: str, entries: list[Any]) -> None:
        """Takes what another process says."""
        if kind == "changed":
            changes: Changes = {}
            for resource, whose, ids in entries:
                note(changes, resource, whose, ids)
            self._on_loop(self._hear, changes)
        elif kind == "clients":
            self._on_loop(self._count_elsewhere, sender, entries)
        elif kind == "messages":
            self._on_loop(self._overhear, entries)
        elif kind == "hello":
            self._on_loop(self._report)

    def gone(self, sender: int) -> None:
        """Forgets the clients of another process."""
        self._on_loop(self._forget, sender)

    def lost(self, sender: int) -> None:
        """Tells everybody to read everything again, also what the process was just committing."""
        self.gone(sender)
        self.missed()
        self._on_loop(self._later, self._hear, self._everything())

    def _everything(self) -> Changes:
        return {(resource, "all"): None for resource in self.resources}

    # On the event loop.

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(call, *arguments)

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(SECOND_THOUGHTS, call, *arguments)

    def _pause(self) -> float:
        return min(PAUSE + PAUSE_EACH * len(self.clients), LONGEST_PAUSE)

    def _counts_pause(self) -> float:
        return min(COUNTS_PAUSE + COUNTS_PAUSE_EACH * len(self.clients), LONGEST_COUNTS_PAUSE)

    def _hear(self, changes: Changes) -> None:
        add_changes(self._heard, changes)
        self._rounds.ask()

    def _overhear(self, sayings: list[Saying]) -> None:
        self._overheard += sayings
        self._rounds.ask()

    def _tell(self) -> None:
        """Tells our clients what is new since the last round, and the others what is new here."""
        with self._lock:
            committed, self._committed = self._committed, {}
        heard, self._heard = self._heard, {}
        said, self._said = self._said, []
        overheard, self._overheard = self._overheard, []
        self._relay.say("changed", entries_of(committed))
        self._relay.say("messages", said)
        add_changes(heard, committed)
        self._tell_changes(heard)
        self._tell_sayings(overheard + said)

    def _tell_changes(self, changes: Changes) -> None:
        hints: dict[List, Hints] = {}
        for (resource, whose), ids in changes.items():
            new = Hints({resource: ids})
            for which in list(self.lists) if whose == "all" else [whose]:
                hints[which] = hints[which].with_more(new) if which in hints else new
        for which, new in hints.items():
            for client in self.lists.get(which, ()):
                client.hint(new)

    def _tell_sayings(self, sayings: list[Saying]) -> None:
        to_all: dict[List, list[tuple[str, str]]] = {}
        for which, author, recipient, content in sayings:
            text = encode(**{"type": "message", "from": author, "content": content})
            if recipient is None:
                to_all.setdefault(which, []).append((author, text))
            elif (client := self.clients.get(recipient)) and client.list == which:
                client.say(text)
        for which, texts in to_all.items():
            clients = self.lists.get(which, set())
            for author, text in texts[-max(1, MAX_SENDS // max(1, len(clients))) :]:
                for client in clients:
                    if client.name != author:
                        client.say(text)

    def _tell_counts(self) -> None:
        """Tells our clients how many follow their list, and the others how many do here."""
        moved, self._moved = self._moved, set()
        elsewhere, self._moved_elsewhere = self._moved_elsewhere, set()
        self._relay.say("clients", self._counts_here(moved))
        for which in moved | elsewhere:
            count = self._count(which)
            for client in self.lists.get(which, ()):
                client.show_count(count)

    def _count(self, which: List) -> int:
        here = len(self.lists.get(which, ()))
        return here + sum(counts.get(which, 0) for counts in self.elsewhere.values())

    def _counts_here(self, lists: Iterable[List]) -> list[tuple[List, int]]:
        return [(which, len(self.lists.get(which, ()))) for which in lists]

    def _introduce(self) -> None:
        """Begins anew with the other processes: they will say who is there, and so do we."""
        for sender in list(self.elsewhere):
            self._forget(sender)
        self._report()

    def _report(self) -> None:
        self._relay.say("clients", self._counts_here(self.lists))

    def _count_elsewhere(self, sender: int, counts: list[tuple[List, int]]) -> None:
        known = self.elsewhere.setdefault(sender, {})
        for which, count in counts:
            known[which] = count
            if not count:
                del known[which]
        self._moved_elsewhere.update(which for which, _ in counts)
        self._counts.ask()

    def _forget(self, sender: int) -> None:
        self._moved_elsewhere.update(self.elsewhere.pop(sender, ()))
        self._counts.ask()


def parse(text: str | None) -> dict[str, Any]:
    """Returns the object that a message is. Raises `Closed` when it is none."""
    if text is None:
        raise Closed(UNREADABLE, "send text, not bytes")
    if len(text) > MAX_MESSAGE:
        raise Closed(TOO_BIG, f"more than {MAX_MESSAGE:,} bytes")
    try:
        message = from_json(text, allow_inf_nan=False)
    except ValueError:
        raise Closed(UNREADABLE, "this is no JSON") from None
    if not isinstance(message, dict):
        raise Closed(UNWANTED, "a message is an object with a type")
    return message


async def write(websocket: WebSocket, client: Client) -> None:
    """Sends a client what waits for it, for as long as it takes it."""
    # A RuntimeError is uvicorn's word for a client that left during the handshake.
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await client.woken.wait()
            for text in client.take():
                await websocket.send_text(text)
            if client.closed:
                await websocket.close(client.closed.code, client.closed.reason)
                return
