"""A process of our own: how it is tuned, and how it starts again while one develops.

Tuning makes any process of this shape faster, with many worker threads that run Python one
at a time; the benchmark says how much. A program that only imports the app is left alone.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.importer import import_from_string
from uvicorn.supervisors.statreload import StatReload

if sys.platform != "win32":
    import resource

CHOOSING = 0.05  # seconds in which the system may choose another CPU
STAYING = 1.0  # seconds until it may again

# New objects until the next look among them for garbage; Python's own is 700, or 2,000.
GARBAGE_THRESHOLD = 50_000


def tune_process() -> None:
    """Makes this process serve faster; call it once, when everything is imported.

    Only the limit of files moves without Python's lock, where threads do run at the same time.
    """
    allow_many_files()
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return
    collect_rarely()
    if sys.platform == "linux":
        threading.Thread(target=share_one_cpu, name="one-cpu", daemon=True).start()


def allow_many_files() -> None:
    """Lets the process have as many files and connections open as the system allows it.

    The usual 1,024 are for programs that use select(), which takes no more.
    """
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # macOS has a limit below this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_rarely() -> None:
    """Looks for garbage rarely, and never among what was there at the start.

    Python counts references, so only objects that refer to each other in a circle wait
    for a collection. A request leaves none, but all requests under way are looked through
    each time. That cost a tenth of a request's CPU time, and pauses: with 32 clients, one
    request in 100 took 100 ms and now takes half of that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def share_one_cpu() -> None:
    """Keeps all threads together on one CPU, for ever.

    Only one thread at a time runs Python, so more CPUs do not help, but each handover to
    a thread on another one has to wake that CPU first. That cost a quarter of a request's
    CPU time. Every second the main thread is free to be moved, and the others follow it:
    so the process evades a CPU that another program wants, and workers spread out.

    SQLite works inside this process, without Python's lock: its short reads gain half as
    much again, but several long searches at once share the one CPU.
    """
    everywhere = os.sched_getaffinity(0)
    main = os.getpid()
    while True:
        with suppress(OSError):  # where this is forbidden, they stay apart
            os.sched_setaffinity(main, everywhere)
            time.sleep(CHOOSING)
            move_threads({current_cpu(main)})
        time.sleep(STAYING)


def current_cpu(thread: int) -> int:
    """Returns the number of the CPU that a thread runs on (proc_pid_stat(5), field 39)."""
    stat = Path(f"/proc/self/task/{thread}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[36])


def move_threads(cpus: set[int]) -> None:
    """Lets the threads of this process run on these CPUs only."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cpus)


def serve_again(config: uvicorn.Config, serve: str, *files: Path) -> None:
    """Serves in a new process, and in another one when the code or one of the files changes.

    `serve` names the function that does so, as "module:function".
    """
    supervisor = Reload(config, target=partial(call, serve), sockets=[])
    supervisor.files = files
    supervisor.run()


def call(name: str, sockets: Any) -> None:
    """Calls a function that is found by its name, as in a process that has imported nothing."""
    import_from_string(name)()


class Reload(StatReload):
    """uvicorn's supervisor, which also watches files that are no code."""

    files: tuple[Path, ...] = ()

    def iter_py_files(self) -> Iterator[Path]:
        """Yields the files to watch."""
        yield from super().iter_py_files()
        yield from self.files
