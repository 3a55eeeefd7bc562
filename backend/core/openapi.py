"""What the OpenAPI document says beyond what FastAPI finds out by itself.

What a route takes says what it can answer: one that takes a body can refuse it, one that
takes `If-Match` can answer 412. So no route has to list its errors and headers.
"""

import json
from http import HTTPStatus
from inspect import iscoroutinefunction, unwrap
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from backend.core.forms import AS_FORM, FORM, Form
from backend.core.problems import DETAILS, Problem, ProblemResponse, ValidationProblem
from backend.core.requests import HEALTH, security_of

Schema = dict[str, Any]

REF = "#/components/schemas/"

# What an error means, in the words of its `detail`.
MEANINGS = {str(status): detail for status, detail in DETAILS.items()} | {
    "401": "The token does not hold; sign in again",
    "403": "This is not yours to change",
    "404": "{noun} not found",
    "409": "{noun} already exists",
    "412": "The {noun} has changed since you read it",
    "422": "Something in the path, query, headers or body is invalid",
    "429": "Too many tries; try again in 60 seconds",
}
HOST_REFUSED, DEFECT, DATABASE_AWAY = {"400"}, {"500"}, {"503"}
# By what a route takes: a kind of parameter, or the name of a header.
WITH = {
    "body": ("408", "413", "415", "422"),
    "query": ("422",),
    "header": ("422",),
    "path": ("404", "422"),
    "If-Match": ("412",),
    "security": ("401",),
}
# What an error says besides.
ERROR_HEADERS = {
    "401": {"WWW-Authenticate": "Says that a token is wanted: `Bearer`"},
    "429": {"Retry-After": "Seconds to wait before trying again"},
    "503": {"Retry-After": "Seconds to wait before trying again"},
}


def operation_id(route: APIRoute) -> str:
    """Returns the route's name, its function's by default: it reads well in generated clients."""
    return route.name


def describe(app: FastAPI) -> None:
    """Completes the app's document: fastapi.tiangolo.com/how-to/extending-openapi."""
    generate = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema:
            return app.openapi_schema
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for problem in (Problem, ValidationProblem):
            own = problem.model_json_schema(ref_template=REF + "{model}")
            schemas |= own.pop("$defs", {})
            schemas[problem.__name__] = own
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422
            schemas.pop(unused, None)
        originals = (context.original_route for context in iter_route_contexts(app.routes))
        routes = [route for route in originals if isinstance(route, APIRoute)]
        # What runs on the event loop has no thread to use the database in.
        asynchronous = {
            route.name for route in routes if iscoroutinefunction(unwrap(route.endpoint))
        }
        open_to_all = {
            route.name
            for route in routes
            if any(getattr(guard, "auto_error", True) is False for guard in security_of(route))
        }
        forms = {
            route.name: dependency.call.model
            for route in routes
            for dependency in route.dependant.dependencies
            if isinstance(dependency.call, Form)
        }
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if form := forms.get(operation["operationId"]):
                    schemas[form.__name__] = form.model_json_schema(ref_template=REF + "{model}")
                    content = {FORM: {"schema": {"$ref": REF + form.__name__}}}
                    operation["requestBody"] = {"required": True, "content": content}
                    operation["responses"]["415"] = {"description": AS_FORM}
                always = set() if path.startswith(HEALTH) else HOST_REFUSED
                if operation["operationId"] not in asynchronous:
                    always = always | DATABASE_AWAY
                if operation["operationId"] in open_to_all:
                    operation["security"].append({})
                complete(operation, always | DEFECT)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # the documented way


def complete(operation: Schema, statuses: set[str]) -> None:
    """Adds every answer and header that an operation gives; `statuses` are some of them."""
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        drop_null(parameter["schema"])
        if parameter["in"] == "path":
            parameter.setdefault("description", f"The number of the {noun_of(operation)}")
    takes = {each["in"] for each in parameters} | {each["name"] for each in parameters}
    takes |= {each for each in ("security",) if each in operation}
    if "requestBody" in operation:
        takes.add("body")
    responses = operation["responses"]
    statuses = statuses.union(*(WITH[each] for each in takes if each in WITH))
    for status in statuses:
        responses.setdefault(status, {})
    if responses.get("422", {}).get("content", {}).get("application/json"):
        responses["422"] = {}  # FastAPI's own, of another shape
    for status, response in responses.items():
        if status >= "400":
            complete_problem(operation, status, response)
    add_headers(operation, takes)
    operation["responses"] = dict(sorted(responses.items()))


def complete_problem(operation: Schema, status: str, response: Schema) -> None:
    """Says what an error of an operation means, and that it is a problem (RFC 9457)."""
    meaning = MEANINGS.get(status, "").format(noun=noun_of(operation))
    if response.get("description") in (None, "Validation Error", HTTPStatus(int(status)).phrase):
        response["description"] = meaning[:1].upper() + meaning[1:]
    model = ValidationProblem if status == "422" else Problem
    content = response.pop("content", {})
    schema = content.get("application/json", {}).get("schema", {"$ref": REF + model.__name__})
    problem: Schema = {"schema": schema}
    if schema == {"$ref": REF + Problem.__name__}:
        answer = ProblemResponse(int(status), response["description"])
        problem["example"] = json.loads(bytes(answer.body))
    response["content"] = {ProblemResponse.media_type: problem}
    for name, meaning in ERROR_HEADERS.get(status, {}).items():
        kind = "integer" if name == "Retry-After" else "string"
        response.setdefault("headers", {}).setdefault(name, header(meaning, kind))


def add_headers(operation: Schema, takes: set[str]) -> None:
    """Adds the headers of an answer with one row, with a new one, and with a list of them."""
    noun = noun_of(operation)
    etag = {"ETag": header(f"Changes with every change of the {noun}")}
    location = {"Location": header(f"The path of the new {noun}")}
    page = {
        "Link": header("The way to the next page (RFC 8288), if there is one", required=False),
        "X-Total-Count": header(
            f"How many {noun} match; with `total=true`", "integer", required=False
        ),
    }
    responses = operation["responses"]
    if "If-None-Match" in takes:
        responses.setdefault("304", {"description": f"The {noun} has not changed"})
        responses["304"].setdefault("headers", {}).update(etag)
    if "200" in responses and takes & {"If-Match", "If-None-Match"}:
        responses["200"].setdefault("headers", {}).update(etag)
    if "201" in responses and "$ref" in answer_schema(responses["201"]):
        responses["201"].setdefault("headers", {}).update(etag | location)
    if "200" in responses and "cursor" in takes:
        responses["200"].setdefault("headers", {}).update(page)


def answer_schema(response: Schema) -> Schema:
    """Returns the schema of an answer in JSON; an empty one where there is none."""
    schema: Schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def header(description: str, kind: str = "string", *, required: bool = True) -> Schema:
    """Returns the description of a response header."""
    return {"description": description, "schema": {"type": kind}, "required": required}


def noun_of(operation: Schema) -> str:
    """Returns what an operation is about: "cart" for `cart_id` in its path, or `create_cart`."""
    names = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
    name = names[0].removesuffix("_id") if names else operation["operationId"].partition("_")[2]
    return str(name).replace("_", " ")


def drop_null(schema: Schema) -> None:
    """Takes null out of a parameter's schema: what may be left out is not therefore null."""
    if "anyOf" in schema:
        kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
        schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
