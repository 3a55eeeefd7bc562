"""Errors, all as RFC 9457 problems: the one place that decides what a client is told."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy import exc
from sqlmodel import SQLModel
from sqlmodel.main import default_registry
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.core.connections import DatabaseNotReady, is_outage, reason
from backend.core.requests import ANSWERS, CONNECTIONS, route_path

logger = logging.getLogger(__name__)

RETRY_LATER = {"Retry-After": "1"}  # seconds

# RFC 9110 renamed these two; Python 3.13 was the first to follow.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

NOT_UNIQUE = {"SQLITE_CONSTRAINT_UNIQUE", "23505"}

DETAILS = {
    400: "The Host or Origin of the request is not allowed here",
    404: "There is nothing at this path",
    405: "This path does not take this method; Allow names those it takes",
    408: "The body did not arrive in time",
    413: "The body is larger than this API takes",
    415: "Send the body as JSON, with the header Content-Type: application/json",
    500: "Something went wrong on our side",
    503: "The database does not answer at the moment; try again shortly",
}


class Problem(BaseModel):
    """What went wrong, as RFC 9457 writes it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is nothing at this path"])


class InvalidValue(BaseModel):
    """One thing that is invalid in a request."""

    loc: list[str | int] = Field(examples=[["body", "title"]])
    msg: str = Field(examples=["Field required"])
    type: str = Field(examples=["missing"])


class ValidationProblem(Problem):
    """A problem with the request itself, value by value."""

    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["body.title: Field required"])
    errors: list[InvalidValue]


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


class NotFound(HTTPException):
    """There is no row of this model with this id."""

    def __init__(self, model: type) -> None:
        super().__init__(404, f"{noun(model).capitalize()} not found")


class HasChanged(HTTPException):
    """`If-Match` does not name the row's current ETag."""

    def __init__(self, model: type) -> None:
        super().__init__(412, f"The {noun(model)} has changed since you read it")


class NotSignedIn(HTTPException):
    """Nobody has said who they are, or not so that it holds (RFC 6750, section 3)."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, {"WWW-Authenticate": "Bearer"})


class Forbidden(HTTPException):
    """Whoever asks may not do this."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, detail)


class AlreadyExists(HTTPException):
    """Another row of this model has these fields already."""

    def __init__(self, model: type, fields: list[str]) -> None:
        words = " and ".join(fields).replace("_", " ")
        super().__init__(409, f"{noun(model).capitalize()} with this {words} already exists")


class TooManyTries(HTTPException):
    """It was tried too often; `wait` seconds later it may be tried again."""

    def __init__(self, wait: float) -> None:
        seconds = max(1, ceil(wait))
        detail = f"Too many tries; try again in {seconds} seconds"
        super().__init__(429, detail, {"Retry-After": str(seconds)})


class DatabaseDefect(Exception):
    """The database refuses what we say, so what we say is wrong."""


class NotReady(HTTPException):
    """The process cannot serve at the moment."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, detail, RETRY_LATER)


def noun(model: type) -> str:
    """Returns what a person calls a row of the model: "shopping list" for `ShoppingList`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", model.__name__).lower()


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
    """Returns every method that the path takes; a route by itself knows only its own.

    A word that is a path of its own, such as `stats`, is no id.
    """
    path = route_path(request.scope)
    routes = [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path_regex.match(path)
    ]
    literal = [route for route in routes if route.path == path]
    methods = {method for route in literal or routes for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def answer_invalid_request(request: Request, error: Exception) -> ProblemResponse:
    """Answers a request that breaks the rules of its route's signature."""
    assert isinstance(error, RequestValidationError)
    if any(each["loc"][0] == "path" for each in error.errors()):
        methods = allowed_methods(request)
        if request.method not in methods:
            return ProblemResponse(405, headers={"Allow": ", ".join(methods)})
    if isinstance(error.body, bytes):  # FastAPI parses only what is sent as JSON
        return ProblemResponse(415)
    # Only these three members: the others repeat the input, and may be no JSON at all.
    errors = [{key: each[key] for key in ("loc", "msg", "type")} for each in error.errors()]
    if errors[0]["type"] == "json_invalid":
        # The parser says where, and what it expected there, not what it found.
        expected = error.errors()[0]["ctx"]["error"]
        errors[0] |= {"loc": ["body"], "msg": f"Input should be valid JSON: {expected}"}
    where = ".".join(str(step) for step in errors[0]["loc"])
    return ProblemResponse(422, f"{where}: {errors[0]['msg']}", errors=errors)


async def answer_database_error(request: Request, error: Exception) -> ProblemResponse:
    """Answers 409 for what is there already, 503 for an outage.

    Raises `DatabaseDefect` when the defect is ours.
    """
    assert isinstance(error, DatabaseNotReady | exc.TimeoutError | exc.DBAPIError)
    if isinstance(error, exc.IntegrityError) and (exists := find_duplicate(error.orig)):
        return await answer_http_exception(request, exists)
    if not is_outage(error):
        # The driver's own text may hold a row, which is not for the log.
        raise DatabaseDefect(reason(error)).with_traceback(error.__traceback__) from None
    logger.warning("%s database: %s", request.scope.get("request_id"), reason(error))
    return ProblemResponse(503, headers=RETRY_LATER)


def find_duplicate(said: Any) -> AlreadyExists | None:
    """Returns the error for the row that a unique index has refused, if the driver says so.

    psycopg2 names the index, SQLite its columns; only these are told, not their values.
    """
    if not NOT_UNIQUE & {getattr(said, "sqlite_errorname", ""), getattr(said, "pgcode", "")}:
        return None
    tables = SQLModel.metadata.tables
    if hasattr(said, "diag"):
        table = tables[said.diag.table_name]
        indexes = {str(index.name): index.columns for index in table.indexes}
        columns = list(indexes.get(said.diag.constraint_name, table.primary_key.columns))
    else:
        names = re.findall(r"(\w+)\.(\w+)", str(said))
        columns = [tables[table_name].c[name] for table_name, name in names]
        table = columns[0].table
    fields = [column.info.get("folds", column.name) for column in columns]
    (model,) = (each.class_ for each in default_registry.mappers if each.local_table is table)
    return AlreadyExists(model, fields)


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer every exception that it expects with a problem."""
    app.add_exception_handler(StarletteHTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_invalid_request)
    for kind in (DatabaseNotReady, exc.TimeoutError, exc.DBAPIError):
        app.add_exception_handler(kind, answer_database_error)


class ProblemsOnly:
    """ASGI middleware: what goes wrong inside it without our shape gets it here.

    That is an exception that nobody expected, whose trace goes to the log, and the
    plain-text errors of the libraries.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in CONNECTIONS:
            await self.app(scope, receive, send)
            return
        started = replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "websocket.close" and not started:
                # The router's word for: there is nothing at this path.
                started = replaced = True
                await ProblemResponse(404)(scope, receive, send)
            elif message["type"] in ANSWERS:
                started = True
                if message.get("status", 0) >= 400:
                    headers = MutableHeaders(scope=message)
                    if headers.get("content-type", "").startswith("text/plain"):
                        replaced = True
                        del headers["content-type"], headers["content-length"]
                        problem = ProblemResponse(message["status"], headers=headers)
                        await problem(scope, receive, send)
            if not replaced:
                await send(message)

        try:
            await self.app(scope, receive, send_problem)
        except Exception:  # the last one who can answer at all
            logger.exception("%s failed", scope.get("request_id", "a request"))
            if started:
                raise  # too late to say so
            await ProblemResponse(500)(scope, receive, send)
