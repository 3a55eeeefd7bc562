"""The process: on which CPU its threads run, and how often it looks for garbage.

Nothing here is about todos. It makes any process of this shape faster, with many worker
threads that run Python one at a time; the README says how much (figures).
"""

import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio

CHOOSING = 0.05  # seconds in which the system may choose another CPU
STAYING = 1.0  # seconds until it may again

# New objects until the next look among them for garbage; Python's own is 700, or 2,000.
GARBAGE_THRESHOLD = 50_000


@asynccontextmanager
async def one_cpu() -> AsyncIterator[None]:
    """Keeps all threads together on one CPU, on Linux.

    Only one thread at a time runs Python, so more CPUs do not help, but each handover to
    a thread on another one has to wake that CPU first. That cost a quarter of a request's
    CPU time. Every second the main thread is free to be moved, and the others follow it:
    so the process evades a CPU that another program wants, and workers spread out.

    SQLite works inside this process, without Python's lock: its short reads gain half as
    much again, but several long searches at once share the one CPU.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if sys.platform != "linux" or not in_main_thread:
        yield  # a test client's thread, in a process that is not ours
        return
    everywhere = os.sched_getaffinity(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow_main_thread, everywhere)
        yield
        tasks.cancel_scope.cancel()
    with suppress(OSError):
        move_threads(everywhere)


async def follow_main_thread(everywhere: set[int]) -> None:
    """Moves all threads to the main one's CPU, again and again."""
    while True:
        with suppress(OSError):  # where this is forbidden, they stay apart
            os.sched_setaffinity(0, everywhere)
            await anyio.sleep(CHOOSING)
            move_threads({current_cpu()})
        await anyio.sleep(STAYING)


def current_cpu() -> int:
    """Returns the number of the CPU that this thread runs on (proc_pid_stat(5), field 39)."""
    return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])


def move_threads(cpus: set[int]) -> None:
    """Lets the threads of this process run on these CPUs only."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cpus)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Looks for garbage rarely, and never among what was there at the start.

    Python counts references, so only objects that refer to each other in a circle wait
    for a collection. A request leaves none, but all requests under way are looked through
    each time. That cost a tenth of a request's CPU time, and pauses: with 32 clients, one
    request in 100 took 100 ms and now takes half of that.
    """
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
