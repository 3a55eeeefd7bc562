"""What the OpenAPI document says beyond what FastAPI finds out by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from backend.schemas import Problem, ValidationProblem

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """
A small backend for todos.

Every GET route answers HEAD too, and a trailing slash makes no difference on any route.
Every error is an RFC 9457 problem, `application/problem+json`, whose `detail` is one
sentence a person can read; a 422 lists what is invalid under `errors`. Every answer has an
`X-Request-ID`, which the log has too, and an `X-Process-Time` in seconds.
"""


# What each error of a route means.
MEANINGS = {
    400: "The Host of the request is not allowed here",
    404: "There is no such todo",
    408: "The body did not arrive in time",
    412: "The todo has changed: `If-Match` does not hold",
    413: "The body is too large",
    415: "The body is not sent as JSON",
    422: "Something in the path, query, headers or body is invalid",
    500: "A defect of ours",
    503: "The database is away, hangs or is full",
}


def header(description: str, kind: str = "string", *, required: bool = True) -> dict[str, Any]:
    """Returns the description of a response header."""
    return {"description": description, "schema": {"type": kind}, "required": required}


TODO_HEADERS = {"ETag": header("Changes with every change of the todo")}
LOCATION = {"Location": header("The path of the new todo")}
LIST_HEADERS = {
    "headers": {
        "Link": header("The way to the next page (RFC 8288), if there is one", required=False),
        "X-Total-Count": header(
            "How many todos match; with `total=true`", "integer", required=False
        ),
    }
}
NOT_MODIFIED = {"description": "The todo has not changed", "headers": TODO_HEADERS}
RETRY_AFTER = {"Retry-After": header("Seconds to wait before trying again", "integer")}


def problems(*statuses: int) -> Responses:
    """Returns the errors that a route can give, besides those that any route can."""
    return {
        status: {
            "description": MEANINGS[status],
            "model": ValidationProblem if status == 422 else Problem,
            "headers": RETRY_AFTER if status == 503 else {},
        }
        for status in sorted({400, 500, *statuses})
    }


def operation_id(route: APIRoute) -> str:
    """Returns the route's name, its function's by default: it reads well in generated clients."""
    return route.name


def describe(app: FastAPI) -> None:
    """Makes the app's document say that errors are problems and that parameters are never null."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = generate()
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if status >= "400" and "application/json" in response["content"]:
                        content = response["content"].pop("application/json")
                        response["content"]["application/problem+json"] = content
                for parameter in operation.get("parameters", ()):
                    drop_null(parameter["schema"])
        return document

    # FastAPI's documented way: fastapi.tiangolo.com/how-to/extending-openapi
    app.openapi = openapi  # type: ignore[method-assign]


def drop_null(schema: dict[str, Any]) -> None:
    """Takes null out of a parameter's schema: what may be left out is not therefore null."""
    if "anyOf" in schema:
        kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
        schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
