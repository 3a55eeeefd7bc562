"""Whether the process lives, and whether it can serve."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import make_url

from tests.databases import execute
from tests.helpers import assert_problem, create, wait_until
from tests.resources import RESOURCES, Request, same_client
from tests.servers import serve

ORIGIN = {"Origin": "http://localhost:3000"}

ROUTES_TO_THE_DATABASE: list[Request] = [
    ("GET", "/health/ready", None),
    ("GET", "/api/todos/stats", None),
    ("GET", "/api/todos?total=true", None),
    *(
        request
        for resource in RESOURCES
        if resource.sign_in is same_client  # nobody signs in while the database is away
        for request in resource.requests(1)
    ),
]


def test_process_is_healthy(client: httpx2.Client) -> None:
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "healthy"})


def test_process_is_ready_while_the_database_answers(client: httpx2.Client) -> None:
    response = client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


@pytest.mark.slow
def test_missing_database_is_503_until_it_is_there(own_database_url: str, log_path: Path) -> None:
    remove, bring_back = ways_to_hide(own_database_url)
    remove()
    with (
        serve(own_database_url, log_path, wait_for="/health") as server,
        server.client() as client,
    ):
        for method, path, body in ROUTES_TO_THE_DATABASE:
            response = client.request(method, path, json=body, headers=ORIGIN)
            problem = assert_problem(response, 503)
            assert problem["detail"].startswith("The database does not answer")
            assert int(response.headers["Retry-After"]) >= 1
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert client.get("/health").json() == {"status": "healthy"}
        assert client.get("/openapi.json").status_code == 200
        bring_back()
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert create(client)["id"] == 1


def ways_to_hide(database_url: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns how to make a database unusable, and how to bring it back."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        return lambda: write(file, "not a database"), lambda: write(file, "")
    server = url.set(database="postgres").render_as_string(hide_password=False)
    return (
        lambda: execute(server, f"DROP DATABASE {url.database}"),
        lambda: execute(server, f"CREATE DATABASE {url.database}"),
    )


def write(file: Path, text: str) -> None:
    """Replaces what is in a file."""
    file.write_text(text)
