"""What one WebSocket may take: bytes of a message, memory for what is sent, time to take it.

ASGI has no word for these, so they are set on uvicorn's own protocol, however uvicorn was
started. Behind another server a connection has that server's limits.
"""

import logging
from functools import partial
from socket import SO_SNDBUF, SOL_SOCKET

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_MESSAGE = 4096  # bytes that a client may send at once; more is closed with 1009
SEND_BUFFER = 32 * 1024  # bytes on the way to a client; then what is new waits, as one set
PING_INTERVAL = 10.0  # seconds
TAKING_TIMEOUT = 30.0  # seconds until a client must have taken what came before a ping
LINGER = 1.0  # seconds for a last word to be taken, when the end is decided

TRY_AGAIN_LATER = 1013

# What uvicorn and websockets say of each connection, with its query; `RequestLog` has its own.
NOISE = frozenset(
    {
        '%s - "WebSocket %s" [accepted]',
        '%s - "WebSocket %s" 403',
        '%s - "WebSocket %s" %d',
        "connection open",
        "connection closed",
        "connection rejected (%d %s)",
        "Invalid UTF-8 sequence received from client.",
    }
)


class WithoutNoise(logging.Filter):
    """Keeps what is said of single connections out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is logged."""
        return record.msg not in NOISE


class BoundedSockets:
    """ASGI middleware that bounds what a WebSocket takes; it stands outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol = getattr(receive, "__self__", None)
        if scope["type"] != "websocket" or not isinstance(protocol, WebSocketsSansIOProtocol):
            await self.app(scope, receive, send)
            return
        bound(protocol)
        try:
            await self.app(scope, receive, send)
        finally:
            del protocol.keepalive_timeout  # it refers to the protocol
            # A client that takes nothing would keep what is closed open.
            if protocol.transport.get_write_buffer_size():
                protocol.loop.call_later(LINGER, protocol.transport.abort)


def bound(protocol: WebSocketsSansIOProtocol) -> None:
    """Sets the limits of a connection."""
    protocol.conn.max_message_size = MAX_MESSAGE
    protocol.ping_interval, protocol.ping_timeout = PING_INTERVAL, TAKING_TIMEOUT
    protocol.transport.set_write_buffer_limits(high=0)
    own_socket = protocol.transport.get_extra_info("socket")
    if own_socket is not None:
        own_socket.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
    # uvicorn would close with 1011, and wait for ever for a client that takes nothing.
    protocol.keepalive_timeout = partial(give_up, protocol)  # type: ignore[method-assign]


def give_up(protocol: WebSocketsSansIOProtocol) -> None:
    """Closes a connection whose client has not answered a ping, so has not read up to it."""
    protocol.pong_timer = None
    if protocol.close_sent or protocol.transport.is_closing():
        return
    protocol.conn.fail(TRY_AGAIN_LATER, "nothing was taken for too long")
    protocol.transport.write(b"".join(protocol.conn.data_to_send()))
    protocol.close_sent = True
    protocol.queue.put_nowait({"type": "websocket.disconnect", "code": TRY_AGAIN_LATER})
    protocol.transport.close()
    protocol.loop.call_later(LINGER, protocol.transport.abort)
