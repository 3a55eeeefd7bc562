"""What it costs to be followed, and how soon those who follow are told."""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from tests.benchmark.contest import BEFORE, US, Contestant, contest
from tests.benchmark.load import Load, Measure, cpu_seconds, run_wrk
from tests.databases import create_postgres_database
from tests.listeners import listening
from tests.servers import Server, serve

MANY = 1000  # connections
SILENT = 5000
WRITES_PER_SECOND = 10
SILENCE = 20.0  # seconds that are measured

Row = list[str]


def write_rates(
    server_url: str, options: argparse.Namespace, loads: list[Load]
) -> tuple[Row, list[Row]]:
    """Compares the rates with 0 and 100 clients that follow, and without live if it can."""
    rows: list[Row] = []
    names = [BEFORE, US] if options.before else [US]
    with contest(names, server_url, options.before) as contestants:
        sides: dict[str, tuple[Contestant, int]] = {
            f"{each.name}, {count} follow": (each, count)
            for each in contestants
            for count in ((0,) if each.name == BEFORE else (0, 100))
        }
        for load in loads:
            rounds: list[dict[str, Measure]] = []
            for _ in range(options.rounds):
                taken = {}
                for name, (each, count) in sides.items():
                    each.seed()
                    with listening(each.server.base_url, count) if count else nullcontext():
                        taken[name] = run_wrk(each.server, load, 32, options.seconds)
                rounds.append(taken)
            first = next(iter(sides))
            for name in sides:
                measures = sorted((each[name] for each in rounds), key=lambda each: each.rate)
                share = statistics.median(each[name].rate / each[first].rate for each in rounds)
                cells = measures[len(measures) // 2].cells()
                rows.append([load.name, name, *cells, f"{share:.2f}"])
    return ["load", "server", *Measure.HEAD, "of the first"], rows


def delays(server_url: str, options: argparse.Namespace) -> tuple[Row, list[Row]]:
    """Measures the time from the sending of a write to when the last client is told of it."""
    with (
        alone(server_url) as server,
        server.client() as client,
        listening(server.base_url, MANY) as crowd,
    ):
        time.sleep(3)  # until nobody comes or goes
        sent: dict[int, float] = {}
        cpu = cpu_seconds(server.process.pid)
        started = time.perf_counter()
        for number in range(10 * options.seconds * WRITES_PER_SECOND):
            time.sleep(max(0, started + number / WRITES_PER_SECOND - time.perf_counter()))
            moment = time.perf_counter()
            response = client.post("/api/todos", json={"title": "Buy milk"})
            sent[response.json()["id"]] = moment
        seconds = time.perf_counter() - started
        cpu = cpu_seconds(server.process.pid) - cpu
        time.sleep(2)
        missing = [each for each in sent if crowd.heard.get(each, 0) < MANY]
        times = sorted(1000 * (crowd.last[each] - sent[each]) for each in sent)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    return (
        ["connections", "writes", "not told to all", "p50 ms", "p99 ms", "longest ms", "CPU"],
        [
            [
                *(f"{MANY:,}", f"{len(sent)}", f"{len(missing)}"),
                *(f"{p50:.0f}", f"{p99:.0f}", f"{times[-1]:.0f}", f"{100 * cpu / seconds:.0f} %"),
            ]
        ],
    )


def connections(server_url: str, options: argparse.Namespace) -> tuple[Row, list[Row]]:
    """Measures the memory of a connection, and the CPU of those that say nothing."""
    rows = []
    for name, app in (("this API", None), ("uvicorn alone", "tests.benchmark.peers.silent:app")):
        with alone(server_url, app) as server:
            with listening(server.base_url, 100):
                pass
            time.sleep(1)
            before, idle = memory(server), busy(server)
            with listening(server.base_url, SILENT):
                time.sleep(8)  # until the counts are told
                kilobytes = (memory(server) - before) / SILENT
                rows.append(
                    [
                        name,
                        f"{SILENT:,}",
                        f"{kilobytes:.1f}",
                        f"{idle:.2f} %",
                        f"{busy(server):.2f} %",
                    ]
                )
    return ["server", "connections", "KiB each", "CPU without them", "CPU with them"], rows


@contextmanager
def alone(server_url: str, app: str | None = None) -> Iterator[Server]:
    """Runs a server on a new database."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = create_postgres_database(server_url).replace("postgresql", "postgresql+psycopg2", 1)
        wait_for = "/" if app else "/health/ready"
        options = ("--ws-per-message-deflate", "false") if app else ()
        yield stack.enter_context(
            serve(url, Path(folder) / "log", *options, app=app, wait_for=wait_for)
        )


def memory(server: Server) -> float:
    """Returns the kibibytes that a server's process takes."""
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def busy(server: Server) -> float:
    """Returns how much of a CPU a server takes, in percent."""
    before = cpu_seconds(server.process.pid)
    time.sleep(SILENCE)
    return 100 * (cpu_seconds(server.process.pid) - before) / SILENCE
