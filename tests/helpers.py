"""What tests say and do all the time: make rows, expect a problem, act at once, wait."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx2

WAIT_TIMEOUT = 10.0  # seconds
PAUSE = 0.02

T = TypeVar("T")


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


def wait_until(holds: Callable[[], object], within: float = WAIT_TIMEOUT) -> float:
    """Waits until the condition holds; returns the seconds that it took.

    Raises `TimeoutError` when it does not hold within so many seconds.
    """
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > within:
            raise TimeoutError(f"It did not happen within {within} s")
        time.sleep(PAUSE)
    return time.monotonic() - started
