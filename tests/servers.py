"""Runs the real API as a process of its own, the way a person would."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from dotenv import dotenv_values

from tests.helpers import wait_until

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 20.0  # seconds
STOP_TIMEOUT = 15.0
VERIFY = False  # nothing here speaks TLS, whose certificates take 30 ms to read
SECRET_KEY = "a secret of the tests, which is known to everybody who reads them, and guards"  # noqa: S105 - it guards nothing


# The logs of the servers that run or have run in the current test, and where each one stood
# when that began.
logs: dict[Path, int] = {}


@dataclass
class Server:
    """A running API: where it is, its process, its database and what it has logged."""

    base_url: str
    port: int
    process: subprocess.Popen[bytes]
    database_url: str
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def client(self, timeout: float = 15.0) -> httpx2.Client:
        """Returns a client of this server, with its own connections."""
        return httpx2.Client(base_url=self.base_url, timeout=timeout, verify=VERIFY)


def free_port() -> int:
    """Returns a port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serve(
    database_url: str,
    log_path: Path,
    *options: str,
    app: str | None = "backend.main:app",
    wait_for: str = "/health/ready",
    port: int | None = None,
    root: Path = ROOT,
    under: Sequence[str] = (),
    start_timeout: float = START_TIMEOUT,
    **variables: str,
) -> Iterator[Server]:
    """Runs `uvicorn` with an app until the block ends; `variables` are its settings.

    Without an app, it runs `python -m backend`. `root` is the checkout that it runs in, `under`
    a command that runs Python.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "backend", *options]
    if app:
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]
    # A variable that is set, if only to nothing, wins over the developer's own .env.
    defaults = dict.fromkeys(dotenv_values(ROOT / ".env"), "")
    environment = {**os.environ, **defaults, "DATABASE_URL": database_url, "PORT": str(port)}
    environment |= {"SECRET_KEY": SECRET_KEY, **variables}
    logs[log_path] = 0
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*under, *command], cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    server = Server(f"http://127.0.0.1:{port}", port, process, database_url, log_path)
    try:
        wait_until_up(server, wait_for, start_timeout)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait()


def begin_logs() -> None:
    """Notes where all logs stand now, and forgets those of servers that have ended."""
    for path in list(logs):
        if path.exists():
            logs[path] = path.stat().st_size
        else:
            del logs[path]


def new_logs() -> dict[str, str]:
    """Returns what each server has logged since `begin_logs`, by the name of its log."""
    added = {}
    for path, start in logs.items():
        with suppress(OSError), path.open("rb") as log:
            log.seek(start)
            added[str(path)] = log.read().decode(errors="replace")
    return {name: text for name, text in added.items() if text}


def wait_until_up(server: Server, path: str, timeout: float) -> None:
    """Waits for a 200 at the path. Raises `RuntimeError` with the log when there is none."""
    url = server.base_url + path
    with suppress(TimeoutError):
        wait_until(lambda: server.process.poll() is not None or is_up(url), timeout)
    if not is_up(url):
        raise RuntimeError(f"The server did not start:\n{server.log}")


def is_up(url: str) -> bool:
    """Returns whether the URL answers 200."""
    try:
        return httpx2.get(url, verify=VERIFY).status_code == 200
    except httpx2.TransportError:
        return False
