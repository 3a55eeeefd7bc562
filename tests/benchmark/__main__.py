"""Measures the API beside its peers, on one PostgreSQL, and prints tables of ratios.

Usage: python -m tests.benchmark [speed] [crowd] [growth] [depth] [start] [live]
           [--seconds S] [--rounds N] [--before CHECKOUT]
       python -m tests.benchmark instructions [--before CHECKOUT]

Every server is one process. They take turns in rounds, because a machine is never
quiet: only ratios within one run mean something. wrk makes the load (Debian: wrk),
and valgrind counts instructions.
Only answers of 2xx count; any other fails the run's row, which then shows the errors.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from tests.benchmark import live as live_measures
from tests.benchmark.contest import BEFORE, PEERS, US, Contestant, contest
from tests.benchmark.instructions import instructions as count_instructions
from tests.benchmark.load import Load, Measure, run_wrk
from tests.databases import execute, query, run_postgres
from tests.servers import ROOT, serve

READ = Load("GET one", "/api/todos/{id}")
LIST = Load("list 100", "/api/todos")
CREATE = Load("POST", "/api/todos", "POST", '{"title":"Buy milk"}')
UPDATE = Load("PUT", "/api/todos/{id}", "PUT", '{"status":"completed"}')

CROWDS = (32, 128, 512, 1000)  # clients
SIZES = (1_000, 100_000, 1_000_000)  # todos
GROWTH_ROUNDS = 10


def measure(
    contestants: list[Contestant], load: Load, clients: int, seconds: int
) -> dict[str, Measure]:
    """Returns each contestant's measure under a load, one after the other."""
    taken = {}
    for each in contestants:
        if load.method != "GET":
            each.seed()
        taken[each.name] = run_wrk(each.server, load, clients, seconds)
    return taken


def median(measures: list[Measure]) -> Measure:
    """Returns the measure with the middle rate."""
    return sorted(measures, key=lambda each: each.rate)[len(measures) // 2]


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def speed(server_url: str, options: argparse.Namespace) -> None:
    """Compares all servers at 32 clients."""
    rows = []
    ours = [US, BEFORE] if options.before else [US]
    with contest([*ours, *PEERS], server_url, options.before) as contestants:
        for load in (READ, LIST, CREATE, UPDATE):
            rounds = [
                measure(contestants, load, 32, options.seconds) for _ in range(options.rounds)
            ]
            medians = {name: median([each[name] for each in rounds]) for name in rounds[0]}
            rows += [
                [load.name, name, *each.cells(), f"{each.rate / medians['tutorial'].rate:.2f}"]
                for name, each in medians.items()
            ]
    print_table("Speed, 32 clients", ["load", "server", *Measure.HEAD, "x tutorial"], rows)


def crowd(server_url: str, options: argparse.Namespace) -> None:
    """Compares the servers when more and more clients come at once."""
    rows = []
    for load in (READ, LIST):
        taken: dict[tuple[int, str], list[Measure]] = {}
        for _ in range((options.rounds + 1) // 2):
            # Started anew each time: one that hangs would stay so.
            with contest([US, "tutorial", "async"], server_url) as contestants:
                for clients in CROWDS:
                    measures = measure(contestants, load, clients, options.seconds)
                    for name, each in measures.items():
                        taken.setdefault((clients, name), []).append(each)
        medians = {key: median(measures) for key, measures in taken.items()}
        rows += [
            [load.name, str(clients), name, *each.cells(), share(each, medians[CROWDS[0], name])]
            for (clients, name), each in medians.items()
        ]
    print_table("Crowd", ["load", "clients", "server", *Measure.HEAD, "of 32 clients"], rows)


def share(part: Measure, whole: Measure) -> str:
    """Returns the rate of one measure in percent of the other's."""
    return f"{100 * part.rate / (whole.rate or 1):.0f} %"


def growth(server_url: str, options: argparse.Namespace) -> None:
    """Compares this API with more and more todos, one client, medians in milliseconds."""
    taken: dict[str, dict[int, list[float]]] = {}
    with ExitStack() as stack:
        contestants: dict[int, Contestant] = {}
        for size in SIZES:
            (contestants[size],) = stack.enter_context(contest([US], server_url))
            contestants[size].seed(size)
        for _ in range(GROWTH_ROUNDS):
            for size, each in contestants.items():
                execute(each.server.database_url, f"DELETE FROM todos WHERE id > {size}")
            time.sleep(1)  # until PostgreSQL is done with that
            for size, each in contestants.items():
                with each.server.client() as client:
                    for name, milliseconds in time_requests(client, size).items():
                        taken.setdefault(name, {}).setdefault(size, []).append(milliseconds)
                statm = Path(f"/proc/{each.server.process.pid}/statm").read_text()
                megabytes = int(statm.split()[1]) * 4 / 1024
                memory = taken.setdefault("memory of the process, MB", {})
                memory.setdefault(size, []).append(megabytes)
        url = contestants[SIZES[0]].server.database_url
        has_trigrams = query(url, "SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
    rows = []
    for name, times in taken.items():
        medians = [statistics.median(times[size]) for size in SIZES]
        rows.append([name, *(f"{each:.2f}" for each in medians), f"{medians[-1] / medians[0]:.2f}"])
    note = "with pg_trgm" if has_trigrams else "without pg_trgm, so search reads the table"
    print_table(
        f"Growth, one client, median ms ({note})",
        ["request", *(f"{size:,} todos" for size in SIZES), "last : first"],
        rows,
    )


def depth(server_url: str, options: argparse.Namespace) -> None:
    """Compares how long a page takes far into a million todos, by its number and by `Link`."""
    count, rows = SIZES[-1], []
    for kind, url in (("PostgreSQL", server_url), ("SQLite", None)):
        with contest([US, "tutorial"], url) as contestants:
            taken = {}
            for each in contestants:
                each.seed(count)
                with each.server.client() as client:
                    taken[each.name] = time_skips(client, count)
        for position, milliseconds in taken["tutorial"].items():
            ours = taken[US][position]
            cells = [f"{ours:.1f}", f"{milliseconds:.1f}", f"{ours / milliseconds:.2f}"]
            rows.append([kind, f"{position:,}", *cells])
    head = ["database", "skip", US, "tutorial", "this : tutorial"]
    print_table(f"Skipping in {count:,} todos, one client, median ms", head, rows)


def time_skips(client: httpx2.Client, count: int) -> dict[int, float]:
    """Returns the median milliseconds of pages after skipping more and more."""
    positions = [0, count // 2, 9 * count // 10]
    taken: dict[int, list[float]] = {position: [] for position in positions}
    for _ in range(GROWTH_ROUNDS):
        for position, times in taken.items():
            parameters = {"skip": position, "offset": position}  # the tutorial's name for it
            started = time.perf_counter()
            client.get("/api/todos", params=parameters).raise_for_status()
            times.append(1000 * (time.perf_counter() - started))
    return {position: statistics.median(times) for position, times in taken.items()}


def time_requests(client: httpx2.Client, count: int) -> dict[str, float]:
    """Returns the median milliseconds of each kind of request."""

    def median_time(send: Any, times: int = 60) -> float:
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
        "GET one": median_time(lambda n: client.get(f"/api/todos/{1 + n * count // 61}")),
        "first page": median_time(lambda n: client.get("/api/todos")),
        "page from the middle by Link": median_time(lambda n: client.get(deep)),
        "POST": median_time(lambda n: client.post("/api/todos", json={"title": f"New {n}"})),
        "PUT": median_time(
            lambda n: client.put(f"/api/todos/{1 + n * count // 61}", json={"title": f"Old {n}"})
        ),
        "q, few matches": median_time(
            lambda n: client.get("/api/todos", params={"q": "OLD 19"}), 15
        ),
        "q, no match": median_time(lambda n: client.get("/api/todos", params={"q": "cheese"}), 15),
        "bulk create of 1,000": median_time(
            lambda n: client.post("/api/todos/bulk", json=[{"title": "Many"}] * 1000), 4
        ),
    }
    result["POST : bulk, time of one todo"] = result["POST"] / (
        result["bulk create of 1,000"] / 1000
    )
    return result


def start(server_url: str, options: argparse.Namespace) -> None:
    """Compares the time from the start of the process to the first answer."""
    taken: dict[str, list[float]] = {US: [], "tutorial": []}
    with contest([*taken], server_url) as contestants:
        for _ in range(options.rounds):
            for each in contestants:
                started = time.perf_counter()
                with serve(
                    each.server.database_url,
                    each.server.log_path,
                    app=PEERS.get(each.name),
                    wait_for="/api/todos",
                ):
                    taken[each.name].append(time.perf_counter() - started)
    base = statistics.median(taken["tutorial"])
    rows = [
        [name, f"{statistics.median(times):.2f} s", f"{statistics.median(times) / base:.2f}"]
        for name, times in taken.items()
    ]
    print_table("Start to the first answer", ["server", "median", "x tutorial"], rows)


def live(server_url: str, options: argparse.Namespace) -> None:
    """Measures what it costs to be followed, and how soon those who follow are told."""
    head, rows = live_measures.write_rates(server_url, options, [CREATE, UPDATE, READ, LIST])
    print_table("Live: rates with clients that follow", head, rows)
    print_table("Live: until the last one is told", *live_measures.delays(server_url, options))
    print_table("Live: connections", *live_measures.connections(server_url, options))


def instructions(server_url: str, options: argparse.Namespace) -> None:
    """Counts the instructions of a request, in this checkout and in another one."""
    checkouts = {US: ROOT} | ({BEFORE: options.before} if options.before else {})
    rows = []
    for load in (READ, LIST, CREATE, UPDATE):
        with ThreadPoolExecutor(len(checkouts)) as threads:
            count = partial(count_instructions, server_url, load=load)
            counted = list(threads.map(count, checkouts.values()))
        rows += [
            [load.name, name, f"{each / 1000:,.0f}", f"{each / counted[-1]:.3f}"]
            for name, each in zip(checkouts, counted, strict=True)
        ]
    print_table("Instructions of a request", ["load", "server", "thousands", "of the last"], rows)


def main() -> None:
    """Runs the measurements that the command line names, or all but `instructions`."""
    measurements = {
        "speed": speed,
        "crowd": crowd,
        "growth": growth,
        "depth": depth,
        "start": start,
        "live": live,
    }
    others = {"instructions": instructions}  # valgrind's, and slow
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join([*measurements, *others]))
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", help="the URL of a server to use, instead of pip's")
    parser.add_argument("--before", type=Path, help="another checkout, to take part")
    options = parser.parse_args()
    names = options.names or list(measurements)
    if unknown := set(names) - {*measurements, *others}:
        parser.error(f"there is no {' or '.join(sorted(unknown))}")
    for tool in sorted({"valgrind" if name in others else "wrk" for name in names}):
        if shutil.which(tool) is None:
            sys.exit(f"The benchmark needs {tool}: install it, on Debian with apt install {tool}")
    packages = ("fastapi", "sqlmodel", "sqlalchemy", "uvicorn", "psycopg2-binary")
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in packages))
    with ExitStack() as stack:
        server_url = options.postgres or stack.enter_context(run_postgres()).get_uri()
        ((release,),) = query(server_url, "SHOW server_version")
        print(f"PostgreSQL {release}, one server process each, all on one machine")
        for name in names:
            (measurements | others)[name](server_url, options)


if __name__ == "__main__":
    main()
