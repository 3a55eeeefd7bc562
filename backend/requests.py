"""How a request is read: trailing slashes, HEAD, and strict JSON."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.settings import settings


class UniformRequests:
    """ASGI middleware: a trailing slash makes no difference, and HEAD is GET without the body.

    The server in front leaves the body of an answer to HEAD out (RFC 9110, section 9.3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if scope["method"] == "HEAD" or (path.endswith("/") and path != "/"):
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                scope = {**scope, "method": method, "path": path.removesuffix("/") or "/"}
        await self.app(scope, receive, send)


class StrictJSONRequest(Request):
    """A request whose body is there in time, and is JSON as RFC 8259 has it."""

    async def body(self) -> bytes:
        """Returns the body. Raises a 408 when it is not there within the request's time."""
        try:
            async with asyncio.timeout(settings.request_timeout):
                return await super().body()
        except TimeoutError:
            raise HTTPException(408, "The body did not arrive in time") from None

    async def json(self) -> Any:
        """Returns the body's value. Raises `json.JSONDecodeError`, as FastAPI expects."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictJSONRoute(APIRoute):
    """A route that reads its body as strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, given a strict request."""
        handler = super().get_route_handler()

        async def strict_handler(request: Request) -> Response:
            return await handler(StrictJSONRequest(request.scope, request.receive))

        return strict_handler
