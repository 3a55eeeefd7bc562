"""Rows 9, 11, 12 and 18: many clients at once get what each would get alone."""

import asyncio
import json
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.databases import query, stored_titles
from tests.faults.clients import Answer, report, timed, worst
from tests.helpers import at_once
from tests.servers import Server, serve

THREADS = 16
ROUNDS = 10


@pytest.mark.slow
def test_two_processes_write_one_sqlite_file(own_sqlite_url: str, tmp_path: Path) -> None:
    with (
        serve(own_sqlite_url, tmp_path / "first.log") as first,
        serve(own_sqlite_url, tmp_path / "second.log") as second,
        first.client() as client,
        second.client() as other_client,
    ):
        path = client.post("/api/todos", json={"title": "changed by all"}).headers["Location"]
        unconditional = {"If-Match": "*"}

        def read_then_write(number: int) -> list[Answer]:
            mine = (client, other_client)[number % 2]
            answers = []
            for turn in range(ROUNDS):
                # Both read before they write, in one transaction.
                once = {"Idempotency-Key": f"{number}-{turn}"}
                body = {"title": f"todo {number}-{turn}"}
                answers += [
                    timed(mine, "GET", "/api/todos"),
                    timed(mine, "POST", "/api/todos", json=body, headers=once),
                    timed(mine, "PUT", path, json={"status": "completed"}, headers=unconditional),
                ]
            return answers

        answers = list(chain.from_iterable(at_once(2 * THREADS, read_then_write)))
        locked = (first.log + second.log).count("locked")
    statuses = Counter(answer.status for answer in answers)
    count = len(stored_titles(own_sqlite_url)) - 1
    report("9", statuses=dict(statuses), count=count, locked=locked, worst_answer=worst(answers))
    each = 2 * THREADS * ROUNDS
    assert statuses == {200: 2 * each, 201: each}
    assert count == each
    assert not locked


def test_of_many_writers_with_one_etag_one_wins(client: httpx2.Client) -> None:
    created = client.post("/api/todos", json={"title": "original"})
    path, tag = created.headers["Location"], created.headers["ETag"]
    answers = at_once(
        20,
        lambda number: client.put(
            path, json={"title": f"writer {number}"}, headers={"If-Match": tag}
        ),
    )
    statuses = Counter(answer.status_code for answer in answers)
    report("11", statuses=dict(statuses))
    assert statuses == {200: 1, 412: 19}
    (winner,) = [answer for answer in answers if answer.status_code == 200]
    assert client.get(path).json() == winner.json()
    assert client.get(path).headers["ETag"] == winner.headers["ETag"]


def test_repeats_of_one_create_at_once_make_one_todo(client: httpx2.Client, server: Server) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    answers = at_once(20, lambda _: client.post("/api/todos", json={"title": "once"}, headers=key))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    other = client.post("/api/todos", json={"title": "another"}, headers=key)
    report("12", rows=len(stored_titles(server.database_url)), other_body=other.status_code)
    assert other.status_code == 422
    assert stored_titles(server.database_url) == ["once"]


def test_crowd_gets_its_answers(server: Server, client: httpx2.Client) -> None:
    crowd = asyncio.run(load(server.port, clients=300, seconds=1))
    report("18, for a second", statuses=dict(crowd.statuses), worst_answer=crowd.worst)
    assert set(crowd.statuses) == {200, 201}
    assert min(crowd.answers) > 0
    assert crowd.worst < 10
    created = query(server.database_url, "SELECT count(*) FROM todos")
    assert created == [(crowd.statuses[201],)]


@pytest.mark.slow
@pytest.mark.parametrize("clients", [500, 1000])
def test_many_clients_are_served_as_fast_as_few(
    client: httpx2.Client, server: Server, clients: int
) -> None:
    few = asyncio.run(load(server.port, clients=32, seconds=5))
    many = asyncio.run(load(server.port, clients=clients, seconds=10))
    rate, rate_of_few = sum(many.answers) / many.seconds, sum(few.answers) / few.seconds
    report(
        f"18, {clients} clients",
        rate=round(rate),
        rate_of_32=round(rate_of_few),
        ratio=f"{rate / rate_of_few:.2f}",
        statuses=dict(many.statuses),
        least_answers=min(many.answers),
        worst_answer=many.worst,
    )
    assert set(few.statuses) == set(many.statuses) == {200, 201}
    assert min(many.answers) > 0
    assert many.worst < 10
    assert rate > rate_of_few / 2
    created = many.statuses[201] + few.statuses[201]
    assert query(server.database_url, "SELECT count(*) FROM todos") == [(created,)]


class Load:
    """What the clients of a load saw."""

    def __init__(self, clients: int) -> None:
        self.answers = [0] * clients
        self.statuses: Counter[int] = Counter()
        self.worst = 0.0
        self.seconds = 0.0


async def load(port: int, clients: int, seconds: float) -> Load:
    """Sends requests for some seconds, each client one after the other; httpx2 is too slow."""
    result = Load(clients)
    opening = (asyncio.open_connection("127.0.0.1", port) for _ in range(clients))
    connections = await asyncio.wait_for(asyncio.gather(*opening), 60)
    started = time.monotonic()

    async def run(number: int) -> None:
        reader, writer = connections[number]
        while time.monotonic() < started + seconds:
            sent = time.monotonic()
            body = json.dumps({"title": f"todo {number}"}).encode()
            writing = (number + result.answers[number]) % 10 == 0
            writer.write(request("POST", body) if writing else request("GET"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            result.statuses[int(head.split()[1])] += 1
            result.answers[number] += 1
            result.worst = max(result.worst, time.monotonic() - sent)
        writer.close()
        await writer.wait_closed()

    await asyncio.wait_for(asyncio.gather(*(run(number) for number in range(clients))), 60)
    result.seconds = time.monotonic() - started
    return result


def request(method: str, body: bytes = b"") -> bytes:
    """Returns a request to create a todo, or to list ten."""
    path = "/api/todos" if method == "POST" else "/api/todos?limit=10"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
