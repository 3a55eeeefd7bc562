"""The OpenAPI document: complete, and true."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import httpx2
import pytest

from tests.resources import Resource, Row, Rows, having
from tests.users import newcomer, register, try_to_sign_in

METHODS = ["get", "post", "put", "patch", "delete"]

# What follows from what an operation takes; it may add what its own tests ask for.
WITH_BODY = {"408", "413", "415", "422"}
WITH_PARAMETER = {"path": {"404", "422"}, "query": {"422"}, "header": {"422"}, "cookie": {"422"}}
WITH_HEADER = {"If-Match": {"412"}, "If-None-Match": {"304"}}
ITS_OWN = {"401", "403", "409", "429"}

# These answer to any Host; all others refuse a foreign one.
ANY_HOST = {"/health", "/health/ready"}
# These do not ask the database; all others can find it away.
NO_DATABASE = {"/", "/health"}

PROBLEM_HEADERS = {"401": {"WWW-Authenticate"}, "429": {"Retry-After"}, "503": {"Retry-After"}}

Document = dict[str, Any]


class Operation(NamedTuple):
    """One entry of the document's paths."""

    path: str
    method: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.described["operationId"])

    @property
    def statuses(self) -> set[str]:
        return set(self.described["responses"])

    @property
    def success(self) -> str:
        """The one status of success."""
        (status,) = (status for status in self.statuses if status < "300")
        return status

    @property
    def parameters(self) -> dict[str, Any]:
        return {each["name"]: each for each in self.described.get("parameters", [])}

    @property
    def answer(self) -> Any:
        """The schema of what it answers with, unless it is an error."""
        return self.described["responses"][self.success]["content"]["application/json"]["schema"]

    @property
    def body(self) -> Any:
        """The schema of the body that it takes as JSON."""
        return self.described["requestBody"]["content"]["application/json"]["schema"]

    def headers(self, status: str) -> set[str]:
        """Returns the headers of its answer with a status."""
        return set(self.described["responses"][status].get("headers", {}))


@pytest.fixture
def document(client: httpx2.Client) -> Document:
    """The OpenAPI document."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    document: Document = response.json()
    return document


@pytest.fixture
def operations(document: Document) -> list[Operation]:
    """Every operation."""
    return list(operations_of(document))


@pytest.fixture
def by_route(operations: list[Operation]) -> dict[tuple[str, str], Operation]:
    """Every operation by its method and path."""
    return {(each.method, each.path): each for each in operations}


def operations_of(document: Document) -> Iterator[Operation]:
    """Yields every operation."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            assert method in METHODS
            yield Operation(path, method, described)


def name_of(schema: dict[str, Any]) -> str | list[str]:
    """Returns the name of the schema that is referred to, in a list for an array of it."""
    if schema.get("type") == "array":
        return [str(name_of(schema["items"]))]
    return str(schema["$ref"].removeprefix("#/components/schemas/"))


def schema_of(document: Document, schema: dict[str, Any]) -> Any:
    """Returns the schema that is referred to."""
    return document["components"]["schemas"][name_of(schema)]


def routes_of(resource: Resource) -> dict[tuple[str, str], str]:
    """Returns the routes that every resource has, each with its operation's name."""
    one, many = resource.id_parameter.removesuffix("_id"), resource.name
    path = resource.path
    routes = {
        ("get", path): f"list_{many}",
        ("post", path): f"create_{one}",
        ("get", one_of(resource)): f"read_{one}",
        ("put", one_of(resource)): f"update_{one}",
        ("patch", one_of(resource)): f"patch_{one}",
        ("delete", one_of(resource)): f"delete_{one}",
    }
    if resource.bulk:
        routes |= {
            ("post", f"{path}/bulk"): f"create_{many}",
            ("patch", path): f"update_{many}",
        }
    if resource.bulk and resource.clears:
        routes["delete", path] = f"delete_{many}"
    return routes


def one_of(resource: Resource) -> str:
    """Returns the path of one row, as the document has it."""
    return f"{resource.path}/{{{resource.id_parameter}}}"


def test_operations_of_a_resource_have_their_functions_names(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    for route, name in routes_of(resource).items():
        assert by_route[route].name == name


def test_every_operation_has_a_name_and_words(
    document: Document, operations: list[Operation]
) -> None:
    assert document["info"]["title"] == "Todo API"
    assert document["info"]["description"]
    names = [operation.name for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation.name)
        assert operation.described["summary"]
        assert operation.described["description"]
        assert operation.described["tags"]


def test_every_status_is_documented(operations: list[Operation]) -> None:
    for operation in operations:
        expected = {operation.success, "500"}
        if operation.path not in ANY_HOST:
            expected.add("400")
        if operation.path not in NO_DATABASE:
            expected.add("503")
        if "requestBody" in operation.described:
            expected |= WITH_BODY
        for name, parameter in operation.parameters.items():
            expected |= WITH_PARAMETER[parameter["in"]] | WITH_HEADER.get(name, set())
        assert expected <= operation.statuses, operation.name
        assert operation.statuses - expected <= ITS_OWN, operation.name


def test_success_is_200_but_for_what_is_made_or_gone(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    special = {
        ("post", resource.path): "201",
        ("post", f"{resource.path}/bulk"): "201",
        ("delete", one_of(resource)): "204",
    }
    for route in routes_of(resource):
        assert by_route[route].success == special.get(route, "200")


def test_every_answer_has_its_schema(operations: list[Operation]) -> None:
    for operation in operations:
        for status, response in operation.described["responses"].items():
            content = response.get("content", {})
            assert response["description"]
            if status in ("204", "304"):
                assert not content
            elif status < "400":
                assert list(content) == ["application/json"]
                assert name_of(content["application/json"]["schema"])
            else:
                assert list(content) == ["application/problem+json"], (operation.name, status)
                problem = "ValidationProblem" if status == "422" else "Problem"
                assert name_of(content["application/problem+json"]["schema"]) == problem
                example = content["application/problem+json"].get("example")
                assert status == "422" or str(example["status"]) == status


def test_every_answer_of_a_resource_is_its_row(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    row = name_of(by_route["get", one_of(resource)].answer)
    for method, path in routes_of(resource):
        operation = by_route[method, path]
        if operation.success == "204":
            continue
        if path == resource.path and method in ("patch", "delete"):
            assert name_of(operation.answer) == "Affected"
        elif path.endswith("/bulk") or (method, path) == ("get", resource.path):
            assert name_of(operation.answer) == [row]
        else:
            assert name_of(operation.answer) == row


def test_headers_of_answers_are_documented(operations: list[Operation]) -> None:
    for operation in operations:
        for status in operation.statuses:
            expected = PROBLEM_HEADERS.get(status, set())
            if status in ("200", "304") and {"If-Match", "If-None-Match"} & set(
                operation.parameters
            ):
                expected = {"ETag"}
            elif status == "201" and "$ref" in operation.answer:
                expected = {"ETag", "Location"}
            elif status == "200" and "cursor" in operation.parameters:
                expected = {"Link", "X-Total-Count"}
            assert operation.headers(status) == expected, (operation.name, status)


def test_bodies_are_required_and_have_their_schema(operations: list[Operation]) -> None:
    for operation in operations:
        if "requestBody" in operation.described:
            assert operation.method in ("post", "put", "patch")
            assert operation.described["requestBody"]["required"] is True
            (content,) = operation.described["requestBody"]["content"].values()
            assert name_of(content["schema"])


def test_writes_of_a_resource_take_one_shape_to_create_and_one_to_update(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    made = name_of(by_route["post", resource.path].body)
    updated = name_of(by_route["put", one_of(resource)].body)
    assert made != updated
    assert name_of(by_route["patch", one_of(resource)].body) == updated
    if resource.bulk:
        many = by_route["post", f"{resource.path}/bulk"].body
        assert name_of(many) == [made]
        assert (many["minItems"], many["maxItems"]) == (1, 1000)


def test_parameters_are_described_and_never_null(operations: list[Operation]) -> None:
    for operation in operations:
        for name, parameter in operation.parameters.items():
            assert parameter["description"]
            assert "null" not in str(parameter["schema"])
            assert parameter["schema"].keys() & {"type", "anyOf", "$ref"}
            if parameter["in"] == "path":
                assert parameter["required"] is True
            elif operation.method != "delete":
                assert parameter["required"] is False, (operation.name, name)


def test_parameters_of_a_resource_are_documented(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    listed = {"q", *resource.filters}
    one = resource.id_parameter
    expected = {
        ("get", resource.path): listed | {"sort", "skip", "limit", "total", "cursor"},
        ("post", resource.path): {"Idempotency-Key"} if resource.idempotent else set(),
        ("patch", resource.path): listed,
        ("delete", resource.path): listed,
        ("post", f"{resource.path}/bulk"): set(),
        ("get", one_of(resource)): {one, "If-None-Match"},
        ("put", one_of(resource)): {one, "If-Match"},
        ("patch", one_of(resource)): {one, "If-Match"},
        ("delete", one_of(resource)): {one, "If-Match"},
    }
    for route in routes_of(resource):
        assert set(by_route[route].parameters) == expected[route], route


@having("bulk", "clears")
def test_delete_of_many_takes_a_filter(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    parameters = by_route["delete", resource.path].parameters.values()
    assert any(parameter["required"] for parameter in parameters)


def test_bounds_of_the_list_are_documented(
    resource: Resource, by_route: dict[tuple[str, str], Operation]
) -> None:
    parameters = by_route["get", resource.path].parameters
    schemas = {name: parameter["schema"] for name, parameter in parameters.items()}
    assert (schemas["limit"]["minimum"], schemas["limit"]["maximum"]) == (1, 1000)
    assert schemas["limit"]["default"] == 100
    assert (schemas["skip"]["minimum"], schemas["skip"]["default"]) == (0, 0)
    assert schemas["sort"]["default"] == "created_at"
    assert sorted(schemas["sort"]["enum"]) == sorted(resource.orders)


def test_row_is_documented(
    resource: Resource, document: Document, by_route: dict[tuple[str, str], Operation]
) -> None:
    row = schema_of(document, by_route["get", one_of(resource)].answer)
    assert list(row["properties"]) == list(resource.fields)
    assert row["required"] == list(resource.fields)
    assert row["properties"]["id"]["minimum"] == 1
    assert row["properties"]["id"]["exclusiveMaximum"] == 2**63
    assert row["properties"][resource.text]["maxLength"] == resource.max_length
    for name in ("created_at", "updated_at"):
        assert row["properties"][name]["format"] == "date-time"
    for name, rule in row["properties"].items():
        assert ("null" in str(rule)) == (name in resource.nullable), name


def test_update_fields_are_optional_and_nullable_only_where_they_can_be_empty(
    resource: Resource, document: Document, by_route: dict[tuple[str, str], Operation]
) -> None:
    update = schema_of(document, by_route["put", one_of(resource)].body)
    assert {name for change in resource.changes for name in change} <= set(update["properties"])
    assert "required" not in update
    assert "default" not in str(update)
    for name, rule in update["properties"].items():
        assert ("null" in str(rule)) == (name in resource.nullable), name
        assert name in resource.nullable or "anyOf" not in rule


def test_create_requires_what_its_smallest_body_has(
    resource: Resource, document: Document, by_route: dict[tuple[str, str], Operation]
) -> None:
    create = schema_of(document, by_route["post", resource.path].body)
    assert create["required"] == list(resource.body("Buy milk"))
    for name, rule in create["properties"].items():
        assert ("null" in str(rule)) == (name in resource.nullable), name


def test_every_field_has_an_example_or_its_values(document: Document) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert "properties" in schema or "enum" in schema, name
        for field, rule in schema.get("properties", {}).items():
            if rule.get("format") == "password":  # a secret, which has neither
                assert not rule.keys() & {"examples", "default"}, (name, field)
                continue
            said = {word for kind in (rule, *rule.get("anyOf", [])) for word in kind}
            known = said & {"examples", "enum", "const", "default", "$ref"}
            assert known or name_of(rule) == ["InvalidValue"], (name, field)


def test_no_schema_goes_unused(document: Document) -> None:
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name


JSON = {"Content-Type": "application/json"}
TOO_LARGE = {"content": b" " * (1024 * 1024 + 1), "headers": JSON}
NOT_JSON = {"content": b"{}"}
MISSING = 2**63 - 1

# These take a defect or a fault.
RARE = {"408", "500", "503"}


def good_request(resource: Resource, operation: Operation) -> dict[str, Any]:
    """Returns what to send, so that an operation on a row or on the list succeeds."""
    for method, url, body in resource.requests(f"{{{resource.id_parameter}}}"):
        path, _, query = url.partition("?")
        if (method.lower(), path) == (operation.method, operation.path):
            params = {"params": dict(parse_qsl(query))} if query else {}
            return params | ({"json": body} if body is not None else {})
    raise LookupError(f"{operation.name} is not among the resource's requests")


def request_for(status: str, operation: Operation, good: dict[str, Any]) -> dict[str, Any]:
    """Returns what to send, so that an operation answers with this status."""
    if status == "422" and "requestBody" in operation.described:
        return good | {"json": None}
    if status == "422":
        return {"params": dict.fromkeys(operation.parameters, "")}
    changes: dict[str, dict[str, Any]] = {
        "304": {"headers": {"If-None-Match": "*"}},
        "400": {"headers": {"Host": "evil.example"}},
        "412": {"headers": {"If-Match": '"x"'}},
        "413": TOO_LARGE,
        "415": NOT_JSON,
    }
    change = changes.get(status, {})
    return change if "content" in change else good | change


def ids_for(status: str, operation: Operation, row: Row) -> list[object]:
    """Returns what to put in the place of the id, so that an operation answers with this status."""
    if status == "422":
        with_body = "requestBody" in operation.described
        return ["x", row["id"]] if with_body else ["x"]
    return [MISSING if status == "404" else row["id"]]


def test_every_documented_status_of_a_resource_is_given(
    rows: Rows, by_route: dict[tuple[str, str], Operation]
) -> None:
    asked = 0
    for route in routes_of(rows.resource):
        operation = by_route[route]
        good = good_request(rows.resource, operation)
        for status in operation.statuses - RARE - ITS_OWN:
            row = rows.create("Wash up")
            client = rows.resource.owner(rows.client, row)
            for number in ids_for(status, operation, row):
                sent = request_for(status, operation, good)
                path = operation.path.replace(f"{{{rows.resource.id_parameter}}}", str(number))
                response = client.request(operation.method, path, **sent)
                assert str(response.status_code) == status, (operation.name, number)
                content = operation.described["responses"][status].get("content", {})
                assert response.headers.get("Content-Type") == next(iter(content), None)
                for described in content.values():
                    assert described.get("example") in (None, response.json())
                always = operation.headers(status) & {"ETag", "Location"}
                assert always <= {name for name in always if name in response.headers}
                asked += 1
            if route == ("delete", one_of(rows.resource)) and status == operation.success:
                continue
            rows.change(row, "DELETE")
    assert asked > 4 * len(routes_of(rows.resource))


def test_refusals_of_users_are_answered_as_documented(
    client: httpx2.Client, by_route: dict[tuple[str, str], Operation]
) -> None:
    bob, ada = register(client, "bob"), newcomer(client, "ada")
    one, other = "/api/users/{user_id}", f"/api/users/{bob['id']}"
    change = {"current_password": "wrong", "new_password": "a better one, by far"}
    answers = [
        ("put", one, ada.put(other, json={})),
        ("patch", one, ada.patch(other, json={})),
        ("delete", one, ada.delete(other)),
        ("put", f"{one}/password", ada.put("/api/users/me/password", json=change)),
        ("post", "/api/auth/token", try_to_sign_in(client, "ada", "wrong")),
        ("post", "/api/auth/token", client.post("/api/auth/token", json={})),
    ]
    assert [response.status_code for *_, response in answers] == [403, 403, 403, 403, 401, 415]
    for method, path, response in answers:
        described = by_route[method, path].described["responses"][str(response.status_code)]
        assert described["content"]["application/problem+json"]["example"] == response.json()


def test_what_takes_nothing_answers_as_documented(
    client: httpx2.Client, operations: list[Operation]
) -> None:
    simple = [each for each in operations if each.method == "get" and not each.parameters]
    assert {"/", "/health", "/health/ready", "/api/todos/stats"} <= {each.path for each in simple}
    for operation in simple:
        response = client.get(operation.path)
        assert response.status_code == int(operation.success)
        assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/nothing"])
def test_foreign_host_is_the_documented_400(client: httpx2.Client, path: str) -> None:
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
