import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.servers import Server, serve

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="only Linux lets a program choose its CPU, and only where there are two",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(f"sqlite:///{tmp_path}/todos.db", tmp_path / "log", app=None) as server:
        yield server


def read_todos_at_once(server: Server) -> None:
    with server.client() as client, ThreadPoolExecutor(10) as pool:
        for answer in pool.map(lambda _: client.get("/api/todos"), range(100)):
            assert answer.status_code == 200


def threads_of(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]


def cpus_of(pid: int) -> set[int]:
    """Returns the CPUs on which any thread of a process may run."""
    return set().union(*(os.sched_getaffinity(thread) for thread in threads_of(pid)))


def test_all_threads_share_one_cpu(server: Server) -> None:
    read_todos_at_once(server)

    assert len(threads_of(server.process.pid)) > 2
    wait_until(lambda: len(cpus_of(server.process.pid)) == 1, within=5)


@pytest.mark.slow
def test_process_leaves_a_cpu_that_another_program_wants(server: Server) -> None:
    wait_until(lambda: len(cpus_of(server.process.pid)) == 1, within=5)
    (cpu,) = cpus_of(server.process.pid)
    greedy = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"

    with subprocess.Popen([sys.executable, "-c", greedy]) as program:
        try:

            def has_moved() -> bool:
                read_todos_at_once(server)
                return cpu not in cpus_of(server.process.pid)

            wait_until(has_moved, within=30)
        finally:
            program.kill()
