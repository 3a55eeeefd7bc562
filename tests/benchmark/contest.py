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

MAKE_PEER_TABLE = (
    "import os; from sqlmodel import SQLModel, create_engine;"
    "import tests.benchmark.peers.models;"
    "SQLModel.metadata.create_all(create_engine(os.environ['DATABASE_URL']))"
)
SEED = """
INSERT INTO {table} (title, {folded} status, created_at, updated_at)
SELECT 'Buy milk, number ' || n, {folded_value}
       CASE n % 3 WHEN 0 THEN 'completed' ELSE 'active' END,
       now() + n * interval '1 millisecond', now() + n * interval '1 millisecond'
FROM generate_series(1, {count}) AS n
"""


@dataclass
class Contestant:
    """A server that takes part."""

    name: str
    server: Server

    def seed(self, count: int = 1000) -> None:
        """Replaces the todos of its table by `count` new ones."""
        table, folded, folded_value = "peer_todos", "", ""
        if self.name == US:
            table, folded, folded_value = "todos", "title_folded,", "'buy milk, number ' || n,"
        execute(
            self.server.database_url,
            f"TRUNCATE {table} RESTART IDENTITY",
            SEED.format(table=table, count=count, folded=folded, folded_value=folded_value),
            f"VACUUM ANALYZE {table}",
        )


@contextmanager
def contest(names: list[str], server_url: str) -> Iterator[list[Contestant]]:
    """Runs this API and the named peers on one new database, with 1,000 todos each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = create_postgres_database(server_url).replace(
            "postgresql://", "postgresql+psycopg2://"
        )
        name = make_url(database_url).database
        stack.callback(execute, server_url, f"DROP DATABASE {name} WITH (FORCE)")
        environment = {**os.environ, "DATABASE_URL": database_url}
        make_peer_table = [sys.executable, "-c", MAKE_PEER_TABLE]
        subprocess.run(make_peer_table, cwd=ROOT, env=environment, check=True)
        contestants = []
        for name in names:
            server = serve(
                database_url,
                folder / f"{name}.log",
                app=PEERS.get(name),
                wait_for="/api/todos" if name == US else "/openapi.json",
            )
            contestants.append(Contestant(name, stack.enter_context(server)))
        for each in contestants:
            each.seed()
        yield contestants
        for each in contestants:
            each.server.process.kill()  # one that hangs would not stop for less
