"""Errors, all as RFC 9457 problems: the one place that decides what a client is told."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.database import DatabaseNotReady, reason
from backend.settings import settings

logger = logging.getLogger(__name__)

RETRY_LATER = {"Retry-After": "1"}  # seconds

# RFC 9110 renamed these two; Python 3.13 was the first to follow.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

# Where the drivers' classes of errors do not tell an outage from a defect.
WRONG_SQLITE_STATEMENT = "SQLITE_ERROR"
READ_ONLY_POSTGRES = "25006"  # as a standby is, after a failover

DETAILS = {
    400: "The Host or Origin of the request is not allowed here",
    404: "There is nothing at this path",
    405: "This path does not take this method; Allow names those it takes",
    413: f"The body is larger than {settings.max_body_size} bytes",
    415: "Send the body as JSON, with the header Content-Type: application/json",
    500: "Something went wrong on our side",
    503: "The database does not answer at the moment; try again shortly",
}


class ProblemResponse(JSONResponse):
    """The answer to a request that failed; see RFC 9457."""

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        title = TITLES.get(status) or HTTPStatus(status).phrase
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail or DETAILS.get(status, title),
        }
        super().__init__({**problem, **members}, status, headers)


class TodoNotFound(HTTPException):
    """There is no todo with this id."""

    def __init__(self) -> None:
        super().__init__(404, "Todo not found")


class TodoHasChanged(HTTPException):
    """`If-Match` does not name the todo's current ETag."""

    def __init__(self) -> None:
        super().__init__(412, "The todo has changed since you read it")


class DatabaseDefect(Exception):
    """The database refuses what we say, so what we say is wrong."""


class NotReady(HTTPException):
    """The process cannot serve at the moment."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, detail, RETRY_LATER)


def invalid(loc: tuple[str | int, ...], message: str, kind: str) -> RequestValidationError:
    """Returns the error for a value that only the endpoint can find invalid."""
    return RequestValidationError([{"loc": loc, "msg": message, "type": kind}])


async def answer_http_exception(request: Request, error: Exception) -> ProblemResponse:
    """Answers what a route or the router refuses."""
    assert isinstance(error, StarletteHTTPException)
    detail = error.detail if isinstance(error, HTTPException) else None
    headers = error.headers
    if error.status_code == 405:
        headers = {"Allow": ", ".join(allowed_methods(request))}
    return ProblemResponse(error.status_code, detail, headers)


def allowed_methods(request: Request) -> list[str]:
    """Returns every method that the path takes; a route by itself knows only its own."""
    methods = [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    if "GET" in methods:
        methods.insert(methods.index("GET") + 1, "HEAD")
    return methods


async def answer_invalid_request(request: Request, error: Exception) -> ProblemResponse:
    """Answers a request that breaks the rules of its route's signature."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # FastAPI parses only what is sent as JSON
        return ProblemResponse(415)
    # Only these three members: the others repeat the input, and may be no JSON at all.
    errors = [{key: each[key] for key in ("loc", "msg", "type")} for each in error.errors()]
    if errors[0]["type"] == "json_invalid":
        errors[0] |= {"loc": ["body"], "msg": "Input should be valid JSON"}
    where = ".".join(str(step) for step in errors[0]["loc"])
    return ProblemResponse(422, f"{where}: {errors[0]['msg']}", errors=errors)


async def answer_database_error(request: Request, error: Exception) -> ProblemResponse:
    """Answers 503 for an outage; raises `DatabaseDefect` when the defect is ours."""
    assert isinstance(error, DatabaseNotReady | exc.TimeoutError | exc.DBAPIError)
    if not is_outage(error):
        # The driver's own text may hold a row, which is not for the log.
        raise DatabaseDefect(reason(error)).with_traceback(error.__traceback__) from None
    logger.warning("%s database: %s", request.scope["request_id"], reason(error))
    return ProblemResponse(503, headers=RETRY_LATER)


def is_outage(error: DatabaseNotReady | exc.TimeoutError | exc.DBAPIError) -> bool:
    """Returns whether the database is away, hangs, is locked or full; else the defect is ours."""
    if not isinstance(error, exc.DBAPIError):
        return True
    if getattr(error.orig, "sqlite_errorname", "") == WRONG_SQLITE_STATEMENT:
        return False
    if getattr(error.orig, "pgcode", "") == READ_ONLY_POSTGRES:
        return True
    return error.connection_invalidated or isinstance(
        error, exc.OperationalError | exc.InterfaceError
    )


async def answer_defect(request: Request, error: Exception) -> ProblemResponse:
    """Answers what nobody expected; `RequestLog` writes the trace."""
    return ProblemResponse(500)


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer every exception with a problem."""
    app.add_exception_handler(StarletteHTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_invalid_request)
    for kind in (DatabaseNotReady, exc.TimeoutError, exc.DBAPIError):
        app.add_exception_handler(kind, answer_database_error)
    app.add_exception_handler(Exception, answer_defect)


class PlainErrors:
    """ASGI middleware that gives the plain-text errors of the libraries inside it our shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/plain"):
                    replaced = True
                    del headers["content-type"], headers["content-length"]
                    await ProblemResponse(message["status"], headers=headers)(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_problem if scope["type"] == "http" else send)
