"""`updated_at` moves forward in the order of the commits, whoever has waited for whom."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx2
import pytest
from sqlalchemy import text

from tests.databases import connection
from tests.helpers import create
from tests.servers import Server

BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}


@pytest.mark.parametrize("path", ["/api/todos", "/api/todos/{id}"], ids=["many", "one"])
def test_change_that_waited_for_another_is_the_later_one(
    server: Server, client: httpx2.Client, path: str
) -> None:
    todo = create(client)
    kind = server.database_url.partition(":")[0]
    with connection(server.database_url) as other, ThreadPoolExecutor(1) as background:
        other.execute(text(BEGIN[kind]))
        other.execute(text("UPDATE todos SET title = 'first'"))
        change = background.submit(
            client.patch, path.format(id=todo["id"]), json={"status": "completed"}
        )
        time.sleep(0.5)  # in which it comes to the lock
        assert not change.done()
        first = datetime.now(UTC)
        stored = first.strftime("%Y-%m-%d %H:%M:%S.%f")
        other.execute(text(f"UPDATE todos SET updated_at = '{stored}'"))
        other.execute(text("COMMIT"))
        assert change.result().status_code == 200
    changed = client.get(f"/api/todos/{todo['id']}").json()
    assert changed["status"] == "completed"
    assert datetime.fromisoformat(changed["updated_at"]) > first
