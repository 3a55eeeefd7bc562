"""The servers that take part, each one process, and the databases they run on."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from tests.databases import create_postgres_database, execute
from tests.servers import ROOT, Server, serve

PEERS = {
    "tutorial": "tests.benchmark.peers.tutorial:app",
    "async": "tests.benchmark.peers.asynchronous:app",
    "floor": "tests.benchmark.peers.floor:app",
}
US = "this API"
BEFORE = "before"  # another checkout of this API

MAKE_PEER_TABLE = (
    "import os; from sqlmodel import SQLModel, create_engine;"
    "import tests.benchmark.peers.models;"
    "SQLModel.metadata.create_all(create_engine(os.environ['DATABASE_URL']))"
)
NUMBERS = (
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
)
TIMES = {
    "postgresql": "now() + n * interval '1 millisecond'",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', (n / 1000.0) || ' seconds')",
}
SEED = """
INSERT INTO {table} (title, {folded} status, created_at, updated_at)
{numbers}
SELECT 'Buy milk, number ' || n, {folded_value}
       CASE n % 3 WHEN 0 THEN 'completed' ELSE 'active' END, {time}, {time}
FROM numbers
"""


@dataclass
class Contestant:
    """A server that takes part."""

    name: str
    server: Server

    def seed(self, count: int = 1000) -> None:
        """Replaces the todos of its table by `count` new ones."""
        url = self.server.database_url
        kind = make_url(url).get_backend_name()
        table, folded, folded_value = "peer_todos", "", ""
        if self.name not in PEERS:
            table, folded, folded_value = "todos", "title_folded,", "'buy milk, number ' || n,"
        clear = [f"TRUNCATE {table} RESTART IDENTITY CASCADE"]
        if kind == "sqlite":
            clear = [f"DELETE FROM {table}"]
            if self.name not in PEERS:  # theirs begins anew by itself
                clear.append("DELETE FROM sqlite_sequence")
        fill = SEED.format(
            table=table,
            folded=folded,
            folded_value=folded_value,
            numbers=NUMBERS.format(count=count),
            time=TIMES[kind],
        )
        settle = ["ANALYZE"] if kind == "sqlite" else [f"VACUUM ANALYZE {table}"]
        execute(url, *clear, fill, *settle)


@contextmanager
def contest(
    names: list[str], server_url: str | None, before: Path = ROOT
) -> Iterator[list[Contestant]]:
    """Runs this API and the named peers, each on a new database with 1,000 todos.

    The databases are of the PostgreSQL server, or SQLite's files without one. `before` is
    the checkout that takes part as `BEFORE`.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contestants: list[Contestant] = []
        for name in names:
            url = f"sqlite:///{folder}/{len(contestants)}.db"
            if server_url:
                url = create_postgres_database(server_url)
                drop = f"DROP DATABASE {make_url(url).database} WITH (FORCE)"
                stack.callback(execute, server_url, drop)
            url = url.replace("postgresql://", "postgresql+psycopg2://")
            if name in PEERS:
                environment = {**os.environ, "DATABASE_URL": url}
                command = [sys.executable, "-c", MAKE_PEER_TABLE]
                subprocess.run(command, cwd=ROOT, env=environment, check=True)
            server = serve(
                url,
                folder / f"{len(contestants)}.log",
                app=PEERS.get(name),
                wait_for="/openapi.json" if name in PEERS else "/health/ready",
                root=before if name == BEFORE else ROOT,
            )
            contestants.append(Contestant(name, stack.enter_context(server)))
        for each in contestants:
            each.seed()
        yield contestants
        for each in contestants:
            each.server.process.kill()  # one that hangs would not stop for less
