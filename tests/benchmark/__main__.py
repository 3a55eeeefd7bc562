"""Measures the API beside its peers, on one PostgreSQL, and prints tables of ratios.

Usage: python -m tests.benchmark [speed] [crowd] [growth] [start] [--seconds S] [--rounds N]

Every server is one process. They take turns in rounds, because a machine is never
quiet: only ratios within one run mean something. wrk makes the load (Debian: wrk).
Only answers of 2xx count; any other fails the run's row, which then shows the errors.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import make_url

from tests.benchmark.load import Load, Measure, run_wrk
from tests.databases import create_postgres_database, execute, query, run_postgres
from tests.servers import ROOT, Server, free_port, serve

PEERS = {
    "tutorial": "tests.benchmark.peers.tutorial:app",
    "async": "tests.benchmark.peers.asynchronous:app",
    "floor": "tests.benchmark.peers.floor:app",
}
US = "this API"

READ = Load("GET one", "/api/todos/{id}")
LIST = Load("list 100", "/api/todos")
CREATE = Load("POST", "/api/todos", "POST", '{"title":"Buy milk"}')
UPDATE = Load("PUT", "/api/todos/{id}", "PUT", '{"status":"completed"}')

SEED = """
INSERT INTO {table} (title, {folded} status, created_at, updated_at)
SELECT 'Buy milk, number ' || n, {folded_value}
       CASE n % 3 WHEN 0 THEN 'completed' ELSE 'active' END,
       now() + n * interval '1 millisecond', now() + n * interval '1 millisecond'
FROM generate_series(1, {count}) AS n
"""


@dataclass
class Contestant:
    """A server that takes part, and the measures it has got so far."""

    name: str
    server: Server


def seed(database_url: str, table: str, count: int) -> None:
    """Replaces the todos of a table by `count` new ones."""
    ours = table == "todos"
    execute(
        database_url,
        f"TRUNCATE {table} RESTART IDENTITY",
        SEED.format(
            table=table,
            count=count,
            folded="title_folded," if ours else "",
            folded_value="'buy milk, number ' || n," if ours else "",
        ),
        f"VACUUM ANALYZE {table}",
    )


@contextmanager
def contest(names: list[str], folder: Path, database_url: str) -> Iterator[list[Contestant]]:
    """Runs this API and the named peers on one database, with 1,000 todos each."""
    psycopg2_url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    make_peer_table = (
        "import os; from sqlmodel import SQLModel, create_engine;"
        "import tests.benchmark.peers.models;"
        "SQLModel.metadata.create_all(create_engine(os.environ['DATABASE_URL']))"
    )
    environment = {**os.environ, "DATABASE_URL": psycopg2_url}
    subprocess.run([sys.executable, "-c", make_peer_table], cwd=ROOT, env=environment, check=True)
    with ExitStack() as stack:
        contestants = []
        for name in names:
            contestants.append(
                Contestant(
                    name,
                    stack.enter_context(
                        serve(
                            psycopg2_url,
                            folder / f"{name}.log",
                            app=PEERS.get(name, "backend.main:app"),
                            wait_for="/api/todos" if name == US else "/openapi.json",
                        )
                    ),
                )
            )
        for table in {"todos" if name == US else "peer_todos" for name in names}:
            seed(database_url, table, 1000)
        yield contestants
        for each in contestants:
            each.server.process.kill()  # one that hangs would not stop for less


def measure_all(
    contestants: list[Contestant],
    load: Load,
    database_url: str,
    *,
    clients: int,
    seconds: int,
    rounds: int,
) -> dict[str, Measure]:
    """Returns each contestant's measure under a load, the median of its rounds."""
    taken: dict[str, list[Measure]] = {each.name: [] for each in contestants}
    for _ in range(rounds):
        for each in contestants:
            if load.method != "GET":
                seed(database_url, "todos" if each.name == US else "peer_todos", 1000)
            taken[each.name].append(run_wrk(each.server, load, clients, seconds))
    return {
        name: sorted(measures, key=lambda each: each.rate)[len(measures) // 2]
        for name, measures in taken.items()
    }


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def speed(folder: Path, database_url: str, options: argparse.Namespace) -> None:
    """Compares all servers at 32 clients."""
    rows = []
    with contest([US, *PEERS], folder, database_url) as contestants:
        for load in (READ, LIST, CREATE, UPDATE):
            measures = measure_all(
                contestants,
                load,
                database_url,
                clients=32,
                seconds=options.seconds,
                rounds=options.rounds,
            )
            base = measures["tutorial"].rate
            rows += [
                [load.name, name, *measure.cells(), f"{measure.rate / base:.2f}"]
                for name, measure in measures.items()
            ]
    print_table("Speed, 32 clients", ["load", "server", *Measure.HEAD, "x tutorial"], rows)


def crowd(folder: Path, database_url: str, options: argparse.Namespace) -> None:
    """Compares the servers when more and more clients come at once."""
    rows = []
    with contest([US, "tutorial", "async"], folder, database_url) as contestants:
        for load in (READ, LIST):
            first: dict[str, float] = {}
            for clients in (32, 128, 512, 1000):
                measures = measure_all(
                    contestants,
                    load,
                    database_url,
                    clients=clients,
                    seconds=options.seconds,
                    rounds=1,
                )
                for name, measure in measures.items():
                    first.setdefault(name, measure.rate)
                    share = f"{100 * measure.rate / (first[name] or 1):.0f} %"
                    rows.append([load.name, str(clients), name, *measure.cells(), share])
    print_table("Crowd", ["load", "clients", "server", *Measure.HEAD, "of 32 clients"], rows)


def growth(folder: Path, database_url: str, options: argparse.Namespace) -> None:
    """Measures this API with more and more todos, one client, medians in milliseconds."""
    counts = (1_000, 100_000, 1_000_000)
    medians: dict[str, list[float]] = {}
    with contest([US], folder, database_url) as (us,):
        process = us.server.process
        for count in counts:
            seed(database_url, "todos", count)
            with us.server.client() as client:
                for name, milliseconds in time_requests(client, count).items():
                    medians.setdefault(name, []).append(milliseconds)
            rss = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4 / 1024
            medians.setdefault("memory of the process, MB", []).append(rss)
        has_trigrams = query(database_url, "SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
    rows = [
        [name, *(f"{value:.2f}" for value in values), f"{values[-1] / values[0]:.2f}"]
        for name, values in medians.items()
    ]
    note = "with pg_trgm" if has_trigrams else "without pg_trgm, so search reads the table"
    print_table(
        f"Growth, one client, median ms ({note})",
        ["request", *(f"{count:,} todos" for count in counts), "last : first"],
        rows,
    )


def time_requests(client: httpx2.Client, count: int) -> dict[str, float]:
    """Returns the median milliseconds of each kind of request, from 200 of each."""

    def median(send: Any, times: int = 200) -> float:
        for n in range(10):
            send(n)
        taken = []
        for n in range(times):
            started = time.perf_counter()
            response = send(n)
            taken.append(1000 * (time.perf_counter() - started))
            response.raise_for_status()
        return statistics.median(taken)

    middle = client.get("/api/todos", params={"skip": count // 2, "limit": 1})
    deep = middle.links["next"]["url"].replace("limit=1", "limit=100")
    result = {
        "GET one": median(lambda n: client.get(f"/api/todos/{1 + n * count // 211}")),
        "first page": median(lambda n: client.get("/api/todos")),
        "page from the middle by Link": median(lambda n: client.get(deep)),
        "POST": median(lambda n: client.post("/api/todos", json={"title": f"New {n}"})),
        "PUT": median(
            lambda n: client.put(f"/api/todos/{1 + n * count // 211}", json={"title": f"Old {n}"})
        ),
        "q, few matches": median(lambda n: client.get("/api/todos", params={"q": "OLD 19"}), 50),
        "q, no match": median(lambda n: client.get("/api/todos", params={"q": "cheese"}), 50),
        "bulk create of 1,000": median(
            lambda n: client.post("/api/todos/bulk", json=[{"title": "Many"}] * 1000), 10
        ),
    }
    result["POST : bulk, time of one todo"] = result["POST"] / (
        result["bulk create of 1,000"] / 1000
    )
    return result


def start(folder: Path, database_url: str, options: argparse.Namespace) -> None:
    """Compares the time from the start of the process to the first answer."""
    taken: dict[str, list[float]] = {US: [], "tutorial": []}
    with contest([US, "tutorial"], folder, database_url):
        pass  # makes the tables
    for _ in range(max(5, options.rounds)):
        for name, times in taken.items():
            started = time.perf_counter()
            with serve(
                database_url.replace("postgresql://", "postgresql+psycopg2://"),
                folder / "start.log",
                app=PEERS.get(name, "backend.main:app"),
                wait_for="/api/todos",
            ):
                times.append(time.perf_counter() - started)
    base = statistics.median(taken["tutorial"])
    rows = [
        [name, f"{statistics.median(times):.2f} s", f"{statistics.median(times) / base:.2f}"]
        for name, times in taken.items()
    ]
    print_table("Start to the first answer", ["server", "median", "x tutorial"], rows)


def main() -> None:
    """Runs the measurements that the command line names, or all."""
    measurements = {"speed": speed, "crowd": crowd, "growth": growth, "start": start}
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join(measurements))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", help="the URL of a server to use, instead of pip's")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("The benchmark needs wrk: install it first, on Debian with apt install wrk")
    packages = ("fastapi", "sqlmodel", "sqlalchemy", "uvicorn", "psycopg2-binary")
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in packages))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.postgres:
            name = f"todos_benchmark_{free_port()}"
            execute(options.postgres, f"CREATE DATABASE {name}")
            url = make_url(options.postgres).set(database=name)
            database_url = url.render_as_string(hide_password=False)
            stack.callback(execute, options.postgres, f"DROP DATABASE {name}")
        else:
            database_url = create_postgres_database(stack.enter_context(run_postgres()))
        ((release,),) = query(database_url, "SHOW server_version")
        print(f"PostgreSQL {release}, one server process each, all on one machine")
        for name in options.names or measurements:
            measurements[name](folder, database_url, options)


if __name__ == "__main__":
    main()
