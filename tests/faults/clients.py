"""Clients that work at once, and the ledger of what they were told."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import httpx2

from tests.helpers import wait_until
from tests.servers import VERIFY


def report(row: str, **figures: object) -> None:
    """Prints a row's figures; `pytest -rP` shows them."""
    shown = (
        f"{name.replace('_', ' ')} {value:.2f} s" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    )
    sys.stdout.write(f"row {row}: {', '.join(shown)}\n")


@dataclass
class Answer:
    """A response and how long it took."""

    response: httpx2.Response
    seconds: float

    @property
    def status(self) -> int:
        return self.response.status_code


def timed(client: httpx2.Client, method: str, path: str, **request: Any) -> Answer:
    """Sends a request and takes the time."""
    started = time.monotonic()
    response = client.request(method, path, **request)
    return Answer(response, time.monotonic() - started)


def read_or_write(client: httpx2.Client, number: int) -> Answer:
    """Sends a request: even numbers read, odd ones write."""
    if number % 2:
        return timed(client, "POST", "/api/todos", json={"title": f"todo {number}"})
    return timed(client, "GET", "/api/todos")


def worst(answers: Iterable[Answer]) -> float:
    """Returns the longest time that an answer took."""
    return max(answer.seconds for answer in answers)


@dataclass
class Ledger:
    """What writers attempted, what was acknowledged, and every status they saw.

    What was attempted and not acknowledged is unknown: it may be there or not.
    """

    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    disconnects: int = 0
    worst: float = 0.0
    lock: Lock = field(default_factory=Lock)

    def write(self, client: httpx2.Client, title: str) -> bool:
        """Creates a todo and notes what came of it; returns whether it was acknowledged."""
        with self.lock:
            self.attempted.add(title)
        started = time.monotonic()
        try:
            status = client.post("/api/todos", json={"title": title}).status_code
        except httpx2.TransportError:
            status = 0
        with self.lock:
            self.worst = max(self.worst, time.monotonic() - started)
            if status:
                self.statuses[status] += 1
            else:
                self.disconnects += 1
            if status == 201:
                self.acknowledged.add(title)
        return status == 201

    def wait_for_more(self, count: int, within: float) -> float:
        """Waits until so many more writes are acknowledged; returns the seconds it took."""
        before = len(self.acknowledged)
        return wait_until(lambda: len(self.acknowledged) >= before + count, within)

    def wait_for_status(self, status: int, count: int, within: float) -> None:
        """Waits until so many more answers have this status."""
        before = self.statuses[status]
        wait_until(lambda: self.statuses[status] >= before + count, within)

    def compare(self, row: str, stored: list[str], **figures: object) -> None:
        """Checks that nothing was lost, nothing appeared that nobody asked for, nothing twice."""
        lost = self.acknowledged - set(stored)
        phantom = set(stored) - self.attempted
        duplicate = len(stored) - len(set(stored))
        report(
            row,
            attempted=len(self.attempted),
            acknowledged=len(self.acknowledged),
            stored=len(stored),
            lost=len(lost),
            phantom=len(phantom),
            duplicate=duplicate,
            statuses=dict(self.statuses),
            disconnects=self.disconnects,
            worst_answer=self.worst,
            **figures,
        )
        assert not lost
        assert not phantom
        assert not duplicate


@contextmanager
def writers(base_url: str, count: int) -> Iterator[Ledger]:
    """Runs writers until the block ends; they go on whatever they are told."""
    ledger = Ledger()
    stop = Event()

    def write(number: int) -> None:
        written = 0
        while not stop.is_set():
            if not ledger.write(client, f"todo {written} of writer {number}"):
                stop.wait(0.05)
            written += 1

    with (
        httpx2.Client(base_url=base_url, timeout=15, verify=VERIFY) as client,
        ThreadPoolExecutor(count) as pool,
    ):
        runs = [pool.submit(write, number) for number in range(count)]
        try:
            yield ledger
        finally:
            stop.set()
        for run in runs:
            run.result()
