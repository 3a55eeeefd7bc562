"""The OpenAPI document: complete, and true."""

from typing import Any

import httpx2
import pytest

from tests.helpers import create

# Any route could have a defect, and any but these refuses a foreign Host.
ALWAYS = {"500"}
HOST_REFUSED = {"400"}
ANY_HOST = {"/health", "/health/ready"}

# Every operation: where it is, its name and function, and what it answers.
OPERATIONS = {
    ("get", "/"): ("read_root", {"200"}),
    ("get", "/health"): ("read_health", {"200"}),
    ("get", "/health/ready"): ("read_readiness", {"200", "503"}),
    ("get", "/api/todos"): ("list_todos", {"200", "422", "503"}),
    ("post", "/api/todos"): ("create_todo", {"201", "408", "413", "415", "422", "503"}),
    ("patch", "/api/todos"): ("update_todos", {"200", "408", "413", "415", "422", "503"}),
    ("delete", "/api/todos"): ("delete_todos", {"200", "422", "503"}),
    ("get", "/api/todos/stats"): ("read_stats", {"200", "503"}),
    ("post", "/api/todos/bulk"): ("create_todos", {"201", "408", "413", "415", "422", "503"}),
    ("get", "/api/todos/{todo_id}"): ("read_todo", {"200", "304", "404", "422", "503"}),
    ("put", "/api/todos/{todo_id}"): (
        "update_todo",
        {"200", "404", "408", "412", "413", "415", "422", "503"},
    ),
    ("patch", "/api/todos/{todo_id}"): (
        "patch_todo",
        {"200", "404", "408", "412", "413", "415", "422", "503"},
    ),
    ("delete", "/api/todos/{todo_id}"): ("delete_todo", {"204", "404", "412", "422", "503"}),
}

# The schema of each answer that is not an error.
ANSWERS = {
    "read_root": "Message",
    "read_health": "Health",
    "read_readiness": "Readiness",
    "list_todos": ["TodoPublic"],
    "create_todo": "TodoPublic",
    "update_todos": "Affected",
    "delete_todos": "Affected",
    "read_stats": "TodoStats",
    "create_todos": ["TodoPublic"],
    "read_todo": "TodoPublic",
    "update_todo": "TodoPublic",
    "patch_todo": "TodoPublic",
    "delete_todo": None,
}

BODIES = {
    "create_todo": "TodoCreate",
    "update_todos": "StatusUpdate",
    "create_todos": ["TodoCreate"],
    "update_todo": "TodoUpdate",
    "patch_todo": "TodoUpdate",
}

PARAMETERS = {
    "list_todos": {"status", "q", "sort", "skip", "limit", "total", "cursor"},
    "create_todo": {"Idempotency-Key"},
    "update_todos": {"status", "q"},
    "delete_todos": {"status", "q"},
    "read_todo": {"todo_id", "If-None-Match"},
    "update_todo": {"todo_id", "If-Match"},
    "patch_todo": {"todo_id", "If-Match"},
    "delete_todo": {"todo_id", "If-Match"},
}

HEADERS = {
    ("list_todos", "200"): {"Link", "X-Total-Count"},
    ("create_todo", "201"): {"ETag", "Location"},
    ("read_todo", "200"): {"ETag"},
    ("read_todo", "304"): {"ETag"},
    ("update_todo", "200"): {"ETag"},
    ("patch_todo", "200"): {"ETag"},
}


@pytest.fixture
def document(client: httpx2.Client) -> dict[str, Any]:
    """The OpenAPI document."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document


@pytest.fixture
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its id."""
    return {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }


def name_of(schema: dict[str, Any]) -> str | list[str]:
    """Returns the name of the schema that is referred to, in a list for an array of it."""
    if schema.get("type") == "array":
        return [str(name_of(schema["items"]))]
    return str(schema["$ref"].removeprefix("#/components/schemas/"))


def test_operations_are_all_there_and_have_their_functions_names(document: dict[str, Any]) -> None:
    found = {
        (method, path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert found == {route: name for route, (name, _) in OPERATIONS.items()}


def test_every_status_is_documented(document: dict[str, Any]) -> None:
    for (method, path), (name, statuses) in OPERATIONS.items():
        always = ALWAYS if path in ANY_HOST else ALWAYS | HOST_REFUSED
        assert set(document["paths"][path][method]["responses"]) == statuses | always, name


def test_every_answer_has_its_schema(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status in ("204", "304"):
                assert not content
            elif status < "400":
                assert list(content) == ["application/json"]
                assert name_of(content["application/json"]["schema"]) == ANSWERS[name]
            else:
                assert list(content) == ["application/problem+json"], (name, status)
                problem = "ValidationProblem" if status == "422" else "Problem"
                assert name_of(content["application/problem+json"]["schema"]) == problem


def test_headers_of_answers_are_documented(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            expected = {"Retry-After"} if status == "503" else HEADERS.get((name, status), set())
            assert set(response.get("headers", {})) == expected, (name, status)


def test_bodies_are_required_and_have_their_schema(operations: dict[str, dict[str, Any]]) -> None:
    found = {}
    for name, operation in operations.items():
        if "requestBody" in operation:
            assert operation["requestBody"]["required"] is True
            assert list(operation["requestBody"]["content"]) == ["application/json"]
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            found[name] = name_of(schema)
            if name == "create_todos":
                assert (schema["minItems"], schema["maxItems"]) == (1, 1000)
    assert found == BODIES


def test_parameters_are_documented_and_never_null(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        parameters = {each["name"]: each for each in operation.get("parameters", [])}
        assert set(parameters) == PARAMETERS.get(name, set())
        for parameter in parameters.values():
            assert parameter["description"]
            assert "null" not in str(parameter["schema"])
            assert parameter["schema"].keys() & {"type", "anyOf", "$ref"}
            needed = parameter["in"] == "path" or (name, parameter["name"]) == (
                "delete_todos",
                "status",
            )
            assert parameter["required"] is needed


def test_bounds_of_the_list_are_documented(operations: dict[str, dict[str, Any]]) -> None:
    schemas = {each["name"]: each["schema"] for each in operations["list_todos"]["parameters"]}
    assert name_of(schemas["status"]) == "Status"
    assert (schemas["limit"]["minimum"], schemas["limit"]["maximum"]) == (1, 1000)
    assert schemas["limit"]["default"] == 100
    assert (schemas["skip"]["minimum"], schemas["skip"]["default"]) == (0, 0)
    assert schemas["sort"]["default"] == "created_at"
    assert sorted(schemas["sort"]["enum"]) == sorted(
        sign + name
        for sign in ("", "-")
        for name in ("created_at", "updated_at", "title", "status")
    )


def test_todo_is_documented(document: dict[str, Any]) -> None:
    todo = document["components"]["schemas"]["TodoPublic"]
    fields = ["id", "title", "status", "created_at", "updated_at"]
    assert list(todo["properties"]) == fields
    assert todo["required"] == fields
    assert todo["properties"]["id"]["minimum"] == 1
    assert todo["properties"]["id"]["exclusiveMaximum"] == 2**63
    assert todo["properties"]["title"]["maxLength"] == 200
    assert name_of(todo["properties"]["status"]) == "Status"
    assert document["components"]["schemas"]["Status"]["enum"] == ["active", "completed"]
    assert todo["properties"]["created_at"]["format"] == "date-time"


def test_update_fields_are_optional_and_not_nullable(document: dict[str, Any]) -> None:
    update = document["components"]["schemas"]["TodoUpdate"]
    assert set(update["properties"]) == {"title", "status"}
    assert "required" not in update
    assert "null" not in str(update)
    assert "anyOf" not in str(update)
    assert "default" not in str(update)


def test_only_the_title_is_required_to_create(document: dict[str, Any]) -> None:
    create = document["components"]["schemas"]["TodoCreate"]
    assert set(create["properties"]) == {"title", "status"}
    assert create["required"] == ["title"]
    assert "null" not in str(create)


def test_every_field_has_an_example_or_its_values(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert "properties" in schema or "enum" in schema, name
        for field, rule in schema.get("properties", {}).items():
            known = rule.keys() & {"examples", "enum", "const", "default", "$ref"}
            assert known or name_of(rule) == ["InvalidValue"], (name, field)


def test_no_schema_goes_unused(document: dict[str, Any]) -> None:
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert document["info"]["title"] == "Todo API"
    assert document["info"]["description"]
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]


JSON = {"Content-Type": "application/json"}
TOO_LARGE = {"content": b" " * (1024 * 1024 + 1), "headers": JSON}
NOT_JSON = {"content": b"{}"}
STALE = {"headers": {"If-Match": '"x"'}}

# One request for every documented status but these, which take a defect or a fault.
RARE = {"408", "503"}
REQUESTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("get", "/", {}, "200"),
    ("get", "/health", {}, "200"),
    ("get", "/health/ready", {}, "200"),
    ("get", "/api/todos", {}, "200"),
    ("get", "/api/todos", {"params": {"limit": 0}}, "422"),
    ("post", "/api/todos", {"json": {"title": "x"}}, "201"),
    ("post", "/api/todos", TOO_LARGE, "413"),
    ("post", "/api/todos", NOT_JSON, "415"),
    ("post", "/api/todos", {"json": {}}, "422"),
    ("patch", "/api/todos", {"json": {"status": "active"}}, "200"),
    ("patch", "/api/todos", TOO_LARGE, "413"),
    ("patch", "/api/todos", NOT_JSON, "415"),
    ("patch", "/api/todos", {"json": {}}, "422"),
    ("delete", "/api/todos", {"params": {"status": "active"}}, "200"),
    ("delete", "/api/todos", {}, "422"),
    ("get", "/api/todos/stats", {}, "200"),
    ("post", "/api/todos/bulk", {"json": [{"title": "x"}]}, "201"),
    ("post", "/api/todos/bulk", TOO_LARGE, "413"),
    ("post", "/api/todos/bulk", NOT_JSON, "415"),
    ("post", "/api/todos/bulk", {"json": []}, "422"),
    ("get", "/api/todos/{todo_id}", {}, "200"),
    ("get", "/api/todos/{todo_id}", {"headers": {"If-None-Match": "*"}}, "304"),
    ("get", "/api/todos/4711", {}, "404"),
    ("get", "/api/todos/x", {}, "422"),
    ("put", "/api/todos/{todo_id}", {"json": {}}, "200"),
    ("put", "/api/todos/4711", {"json": {}}, "404"),
    ("put", "/api/todos/{todo_id}", {"json": {}, **STALE}, "412"),
    ("put", "/api/todos/{todo_id}", TOO_LARGE, "413"),
    ("put", "/api/todos/{todo_id}", NOT_JSON, "415"),
    ("put", "/api/todos/x", {"json": {}}, "422"),
    ("patch", "/api/todos/{todo_id}", {"json": {}}, "200"),
    ("patch", "/api/todos/4711", {"json": {}}, "404"),
    ("patch", "/api/todos/{todo_id}", {"json": {}, **STALE}, "412"),
    ("patch", "/api/todos/{todo_id}", TOO_LARGE, "413"),
    ("patch", "/api/todos/{todo_id}", NOT_JSON, "415"),
    ("patch", "/api/todos/x", {"json": {}}, "422"),
    ("delete", "/api/todos/{todo_id}", {}, "204"),
    ("delete", "/api/todos/4711", {}, "404"),
    ("delete", "/api/todos/{todo_id}", STALE, "412"),
    ("delete", "/api/todos/x", {}, "422"),
]


def template(path: str) -> str:
    """Returns the documented path of a request's path."""
    return path.replace("/4711", "/{todo_id}").replace("/x", "/{todo_id}")


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"), REQUESTS, ids=[f"{r[0]} {r[1]} {r[3]}" for r in REQUESTS]
)
def test_documented_status_is_given(
    client: httpx2.Client, method: str, path: str, sent: dict[str, Any], status: str
) -> None:
    response = client.request(method, path.format(todo_id=create(client)["id"]), **sent)
    assert str(response.status_code) == status
    described = client.get("/openapi.json").json()["paths"][template(path)][method]
    content = described["responses"][status].get("content", {})
    assert response.headers.get("Content-Type") == next(iter(content), None)
    assert set(described["responses"][status].get("headers", {})) & {"ETag", "Location"} <= {
        name for name in ("ETag", "Location") if name in response.headers
    }


def test_every_documented_status_is_asked_for() -> None:
    asked: dict[tuple[str, str], set[str]] = {}
    for method, path, _, status in REQUESTS:
        asked.setdefault((method, template(path)), set()).add(status)
    assert asked == {route: statuses - RARE for route, (_, statuses) in OPERATIONS.items()}


@pytest.mark.parametrize("path", ["/", "/docs", "/api/todos", "/api/todos/1"])
def test_foreign_host_is_the_documented_400(client: httpx2.Client, path: str) -> None:
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
