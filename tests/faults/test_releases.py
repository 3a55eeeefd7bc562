"""A request that is sent again after a new release has started finds what it made before."""

import shutil
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest

from tests.databases import execute, query
from tests.helpers import assert_problem
from tests.servers import ROOT, serve

KEY = {"Idempotency-Key": "sent-again"}
BODY = {"title": "Buy milk", "status": "active"}

# What release 1.0 stored for that body: the digest of all its fields.
DIGEST_OF_1_0 = sha256(b'{"title":"Buy milk","status":"active"}').hexdigest()

# What the new field stands before, in a todo's model and in the schema that creates one.
STATUS = {"models.py": "    status: str = Field(", "schemas.py": "    status: Status = Field("}
NEW_FIELD = "    priority: int | None = 3\n"


@pytest.fixture
def new_release(tmp_path: Path) -> Path:
    """A project whose todos have one field more, with a default."""
    folder = tmp_path / "new"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=ignored)
    for name, status in STATUS.items():
        file = folder / "backend" / name
        before, found, after = file.read_text().partition(status)
        assert found
        file.write_text(before + NEW_FIELD + found + after)
    return folder


@pytest.mark.slow
def test_key_holds_after_a_field_was_added(
    own_sqlite_url: str, log_path: Path, new_release: Path
) -> None:
    with serve(own_sqlite_url, log_path) as server, server.client() as client:
        made = client.post("/api/todos", json=BODY, headers=KEY)
    execute(own_sqlite_url, "ALTER TABLE todos ADD COLUMN priority INTEGER")
    with serve(own_sqlite_url, log_path, root=new_release) as server, server.client() as client:
        again = client.post("/api/todos", json=BODY, headers=KEY)
        assert (again.status_code, again.json()) == (201, made.json())
        for other in ({"title": "Buy oat milk"}, {**BODY, "priority": 1}):
            assert_problem(client.post("/api/todos", json=other, headers=KEY), 422)
        assert query(own_sqlite_url, "SELECT count(*) FROM todos") == [(1,)]


def test_key_of_release_1_0_holds(client: httpx2.Client, database_url: str) -> None:
    made = client.post("/api/todos", json=BODY, headers=KEY)
    assert made.status_code == 201
    execute(database_url, f"UPDATE todos SET idempotency_digest = '{DIGEST_OF_1_0}'")
    assert client.post("/api/todos", json=BODY, headers=KEY).json() == made.json()
    other = client.post("/api/todos", json={"title": "Buy oat milk"}, headers=KEY)
    assert_problem(other, 422)
