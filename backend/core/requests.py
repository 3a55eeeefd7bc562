"""How a request is read: slashes, HEAD, hosts, strict JSON; and what the log says of it."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from logging.config import dictConfig
from secrets import token_hex
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from pydantic_core import from_json
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.core.sockets import WithoutNoise
from backend.core.threads import prepare

logger = logging.getLogger(__name__)

# What may stand in a log line and a header as it is.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[a-zA-Z0-9._:\[\]-]{1,260}")
MOST_ORIGINS = 100  # that are pointed out

HEALTH = "/health"

CONNECTIONS = ("http", "websocket")  # the kinds of ASGI scope that a client causes
ANSWERS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
SWITCHED = 101


def route_path(scope: Scope) -> str:
    """Returns the path of a request without the prefix that a proxy puts before it."""
    root, path = scope.get("root_path", ""), str(scope["path"])
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


class UniformRequests:
    """ASGI middleware: a trailing slash makes no difference, and HEAD is GET without the body.

    The server in front leaves the body of an answer to HEAD out (RFC 9110, section 9.3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in CONNECTIONS:
            path, within = scope["path"], route_path(scope)
            if within == "":
                path += "/"
            elif within.endswith("/") and within != "/":
                path = path[:-1]
            if path != scope["path"]:
                scope = {**scope, "path": path}
            if scope.get("method") == "HEAD":
                scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class AllowedHosts(TrustedHostMiddleware):
    """ASGI middleware that refuses a foreign Host, but to the health routes.

    Who asks for these, a supervisor or a load balancer, knows the machine by its address.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{route_path(scope)}/".startswith(f"{HEALTH}/"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def address_of(request: Request) -> str:
    """Returns where a client is: an address of IPv4, or a network of IPv6, of which it has many.

    Behind a proxy, uvicorn's `--forwarded-allow-ips` decides who the client is.
    """
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host  # a socket's
    if isinstance(address, IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))


class StrictJSONRequest(Request):
    """A request whose body is there in time, and is JSON as RFC 8259 has it."""

    async def body(self) -> bytes:
        """Returns the body. Raises a 408 when it is not there within the request's time."""
        try:
            async with asyncio.timeout(self.app.state.request_timeout):
                return await super().body()
        except TimeoutError:
            raise HTTPException(408) from None

    async def json(self) -> Any:
        """Returns the body's value. Raises `json.JSONDecodeError`, as FastAPI expects."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictJSONRoute(APIRoute):
    """A route that asks who is there, then reads its body as strict JSON.

    FastAPI by itself reads the body first: it would tell a stranger what is wrong with it.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, prepare(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, behind the route's security, given a strict request."""
        handler = super().get_route_handler()
        # Without a body, FastAPI asks first by itself.
        guards: list[Any] = security_of(self) if self.body_field else []

        async def strict_handler(request: Request) -> Response:
            strict = StrictJSONRequest(request.scope, request.receive)
            for guard in guards:
                await guard(strict)
            return await handler(strict)

        return strict_handler


def security_of(route: APIRoute) -> list[SecurityBase]:
    """Returns the security schemes in the signature of a route's endpoint."""
    calls: list[Any] = [dependency.call for dependency in route.dependant.dependencies]
    return [call for call in calls if isinstance(call, SecurityBase)]


def configure_logging(level: str) -> None:
    """Sends our lines, from `level` on, to standard error; `RequestLog` replaces uvicorn's."""
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "filters": {"without_noise": {"()": WithoutNoise}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {
                "backend": {"handlers": ["stderr"], "level": level.upper(), "propagate": False},
                "uvicorn.access": {"handlers": [], "propagate": False},
                "uvicorn.error": {"filters": ["without_noise"]},
            },
        }
    )


class RequestLog:
    """ASGI middleware: a line for each request, its id and its time.

    A WebSocket has two: `GET` with 101 when it opens, `WEBSOCKET` with its code when it closes.

    A client's own `X-Request-ID` is kept where it is a short plain word. Queries and
    bodies are not logged: they are the users' own. A page that CORS keeps out is pointed
    out once, because the browser does not say why.
    """

    def __init__(self, app: ASGIApp, cors_origins: Sequence[str]) -> None:
        self.app = app
        self.cors_origins = cors_origins
        self.pointed_out: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in CONNECTIONS:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = self.find_request_id(scope)
        method = scope.get("method", "GET")
        status = 0

        def log() -> None:
            logger.info(
                "%s %s %d %.1fms %s",
                method,
                scope["raw_path"].decode("ascii", "backslashreplace"),
                status,
                1000 * (time.perf_counter() - started),
                request_id,
            )

        async def receive_code() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "websocket.disconnect" and method == "WEBSOCKET":
                status = message["code"]
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status, method
            if message["type"] in ANSWERS:
                status = message.get("status", SWITCHED)
                seconds = time.perf_counter() - started
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"x-process-time", b"%.6f" % seconds),
                ]
            elif message["type"] == "websocket.close":
                status = message["code"]
            await send(message)
            if message["type"] == "websocket.accept":
                log()
                method = "WEBSOCKET"

        receiving = receive if scope["type"] == "http" else receive_code
        try:
            await self.app(scope, receiving, send_with_id)
        finally:
            log()

    def find_request_id(self, scope: Scope) -> str:
        """Returns the client's request id, or a new one; looks at the origin on the way."""
        request_id = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                request_id = str(value, "ascii")
            elif name == b"origin":
                self.point_out(str(value, "latin-1"), scope)
        return request_id or token_hex(8)

    def point_out(self, origin: str, scope: Scope) -> None:
        """Says how to let in a page of an origin that is kept out, once for each origin."""
        if (
            origin in self.cors_origins
            or origin in self.pointed_out
            or len(self.pointed_out) >= MOST_ORIGINS
            or not ORIGIN.fullmatch(origin)
            or origin.partition("://")[2].encode() == dict(scope["headers"]).get(b"host")
        ):
            return
        self.pointed_out.add(origin)
        logger.warning(
            "the page on %s may not call this API; if it is yours, set CORS_ORIGINS=%s",
            origin,
            ",".join([*self.cors_origins, origin]),
        )
