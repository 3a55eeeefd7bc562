"""A crowd of WebSocket clients that costs little, so that what is measured is the server."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

HANDSHAKE = (
    "GET /api/live HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, PING = 1, 9
PONG = b"\x8a\x84\x00\x00\x00\x00"  # masked with nothing, and as long as uvicorn's pings
PATIENCE = 60.0  # seconds for all to be there


class Crowd:
    """What the listeners of a server have heard, and when."""

    def __init__(self) -> None:
        self.welcomed = 0
        self.lost = 0
        self.messages = 0
        self.told_to_read_all = 0
        # By id: how many have heard that it changed, and when the last one did.
        self.heard: dict[int, int] = {}
        self.last: dict[int, float] = {}

    def hear(self, text: bytes) -> None:
        """Takes a message in."""
        self.messages += 1
        message = json.loads(text)
        if message["type"] == "welcome":
            self.welcomed += 1
        elif message["type"] == "changed":
            moment = time.perf_counter()
            self.told_to_read_all += message["ids"] is None
            for row_id in message["ids"] or ():
                self.heard[row_id] = self.heard.get(row_id, 0) + 1
                self.last[row_id] = moment


class Listener(asyncio.Protocol):
    """One client: it reads frames (RFC 6455, section 5.2) and answers pings."""

    def __init__(self, crowd: Crowd, host: str) -> None:
        self.crowd = crowd
        self.host = host
        self.buffer = b""
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE.format(host=self.host).encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.is_open, self.buffer = True, rest
        while len(self.buffer) >= 2:
            kind, length, start = self.buffer[0] & 15, self.buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self.buffer[2:4], "big"), 4
            if len(self.buffer) < start + length:
                return
            content = self.buffer[start : start + length]
            self.buffer = self.buffer[start + length :]
            if kind == TEXT:
                self.crowd.hear(content)
            elif kind == PING:
                self.transport.write(PONG + content)

    def connection_lost(self, error: Exception | None) -> None:
        self.crowd.lost += 1


@contextmanager
def listening(base_url: str, count: int) -> Iterator[Crowd]:
    """Lets so many clients listen to a server, in a thread of their own, until the block ends."""
    crowd = Crowd()
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    joined: Future[list[asyncio.Transport]] = asyncio.run_coroutine_threadsafe(
        join(crowd, base_url, count), loop
    )
    transports = joined.result(PATIENCE)
    try:
        yield crowd
    finally:
        for transport in transports:
            loop.call_soon_threadsafe(transport.abort)
        loop.call_soon_threadsafe(loop.call_later, 0.5, loop.stop)
        thread.join()
        loop.close()


async def join(crowd: Crowd, base_url: str, count: int) -> list[asyncio.Transport]:
    """Connects the clients, some at a time, and waits until all are welcome."""
    url = urlsplit(base_url)
    assert url.hostname
    assert url.port
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(count):
        made, _ = await loop.create_connection(
            lambda: Listener(crowd, url.netloc), url.hostname, url.port
        )
        transports.append(made)
    async with asyncio.timeout(PATIENCE):
        while crowd.welcomed < count:
            await asyncio.sleep(0.05)
    return transports
