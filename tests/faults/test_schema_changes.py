"""Migrations that many processes begin at once, that are killed, and that others work beside."""

import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from tests.databases import execute, holding, query
from tests.faults.clients import read_or_write, report
from tests.helpers import wait_until
from tests.projects import copy_project, restore
from tests.servers import serve

pytestmark = pytest.mark.slow

ROWS = 20_000
MANY_ROWS = 1_000_000
DUE_DATE = "due_date: datetime | None = Field(default=None, index=True)"

VERSION = "SELECT version_num FROM alembic_version"

# Rows that look as if they had been made one by one.
FILL = {
    "sqlite": """
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {rows})
        INSERT INTO todos (title, title_folded, status, created_at, updated_at)
        SELECT 'Todo ' || n, 'todo ' || n, 'active',
               '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000'
        FROM numbers
    """,
    "postgresql": """
        INSERT INTO todos (title, title_folded, status, created_at, updated_at)
        SELECT 'Todo ' || n, 'todo ' || n, 'active', now(), now()
        FROM generate_series(1, {rows}) AS n
    """,
}

COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info('todos')",
    "postgresql": "SELECT attname FROM pg_attribute WHERE attrelid = 'todos'::regclass "
    "AND attnum > 0 AND NOT attisdropped",
}


def kind(database_url: str) -> str:
    """Returns which kind of database it is."""
    return database_url.partition(":")[0]


def fill(database_url: str, rows: int) -> None:
    """Makes so many todos."""
    execute(database_url, FILL[kind(database_url)].format(rows=rows))


def test_four_workers_start_on_a_database_three_revisions_behind(
    own_database_url: str, tmp_path: Path
) -> None:
    project = copy_project(tmp_path, own_database_url)
    restore(own_database_url)
    slowest = 0.0
    for turn in range(3):
        for step in range(3):
            project.add_revision(
                "more",
                [
                    f'op.add_column("todos", sa.Column("more_{turn}", sa.String()))',
                    f'op.create_table("more_{turn}", sa.Column("id", sa.Integer()))',
                    f"with op.get_context().autocommit_block():\n        op.create_index("
                    f'"more_index_{turn}", "todos", ["more_{turn}"], '
                    "postgresql_concurrently=True, if_not_exists=True)",
                ][step],
            )
        log_path = tmp_path / f"{turn}.log"
        started = time.monotonic()
        with serve(own_database_url, log_path, "--workers", "4", root=project.root) as server:
            wait_until(partial(all_started, log_path), 30)
            slowest = max(slowest, time.monotonic() - started)
            with server.client() as client:
                for _ in range(20):
                    assert client.get("/health/ready").status_code == 200
        for name in project.revisions[-3:]:
            assert server.log.count(f"applied the revision {name}") == 1
        for trouble in ("Traceback", "died", "failed", "cannot be"):
            assert trouble not in server.log
    [(version,)] = query(own_database_url, VERSION)
    assert version == project.revisions[-1]
    report("four workers", kind=kind(own_database_url), slowest=slowest)


def all_started(log_path: Path) -> bool:
    """Returns whether four workers have started."""
    return log_path.read_text().count("startup complete") >= 4


def test_a_kill_leaves_the_old_schema_or_the_new_and_every_row(
    own_database_url: str, tmp_path: Path
) -> None:
    project = copy_project(tmp_path, own_database_url)
    assert project.migrate().returncode == 0
    fill(own_database_url, ROWS)
    left: Counter[str] = Counter()
    whole = 0.0
    for turn in range(11):
        column, index = f"more_{turn}", f"more_index_{turn}"
        before = project.revisions[-1]
        first = project.add_revision(
            "column",
            f'op.add_column("todos", sa.Column("{column}", sa.String()))\n'
            f'    op.execute("UPDATE todos SET {column} = title")',
        )
        second = project.add_revision(
            "index",
            "with op.get_context().autocommit_block():\n        op.create_index("
            f'"{index}", "todos", ["{column}"], postgresql_concurrently=True, if_not_exists=True)',
        )

        started = time.monotonic()
        process = project.migrating()
        if turn:  # the first one is left alone, to see how long it takes
            time.sleep(whole * (0.3 + secrets.randbelow(70) / 100))
            process.kill()
        process.communicate(timeout=60)
        whole = whole or time.monotonic() - started

        [(version,)] = query(own_database_url, VERSION)
        has_column = (column,) in [
            tuple(row) for row in query(own_database_url, COLUMNS[kind(own_database_url)])
        ]
        left[version.partition("_")[2] if version != before else "nothing new"] += 1
        assert version in (before, first, second)
        assert has_column == (version != before)
        assert query(own_database_url, "SELECT count(*) FROM todos")[0][0] == ROWS

        again = project.migrate()
        assert again.stderr.count("cannot be") == 0, again.stderr
        assert project.revisions[-1] == second
        [(version,)] = query(own_database_url, VERSION)
        assert version == second
        wrong = f"SELECT count(*) FROM todos WHERE {column} IS NULL OR {column} <> title"
        assert query(own_database_url, wrong)[0][0] == 0
        if kind(own_database_url) == "postgresql":
            assert query(own_database_url, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []
            there = f"SELECT 1 FROM pg_indexes WHERE indexname = '{index}'"
            assert len(query(own_database_url, there)) == 1
        else:
            assert query(own_database_url, "PRAGMA integrity_check")[0][0] == "ok"
    report("killed migrations", kind=kind(own_database_url), left=dict(left))


def test_an_index_goes_on_when_its_process_is_killed_and_nobody_disturbs_it(
    own_postgres_url: str, tmp_path: Path
) -> None:
    project = copy_project(tmp_path, own_postgres_url)
    assert project.migrate().returncode == 0
    fill(own_postgres_url, 1000)
    newest = project.add_revision(
        "index",
        "with op.get_context().autocommit_block():\n        op.create_index("
        '"more_index", "todos", ["title"], postgresql_concurrently=True, if_not_exists=True)',
    )
    under_way = "SELECT 1 FROM pg_stat_progress_create_index"
    is_valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'more_index'::regclass"
    with ExitStack() as stack:
        with holding(own_postgres_url, "BEGIN", "UPDATE todos SET status = 'completed'"):
            first = stack.enter_context(project.migrating())
            wait_until(lambda: query(own_postgres_url, under_way))
            first.kill()
            first.wait()
            second = stack.enter_context(project.migrating())
            time.sleep(2)  # it sees what PostgreSQL still does for the first one, and waits
            assert second.poll() is None
            assert [tuple(row) for row in query(own_postgres_url, is_valid)] == [(False,)]
        second.wait(30)
    assert [tuple(row) for row in query(own_postgres_url, is_valid)] == [(True,)]
    assert query(own_postgres_url, VERSION) == [(newest,)]


def test_a_million_rows_get_a_column_and_an_index_while_others_read_and_write(
    own_postgres_url: str, tmp_path: Path
) -> None:
    project = copy_project(tmp_path, own_postgres_url)
    assert project.migrate().returncode == 0
    fill(own_postgres_url, MANY_ROWS)
    execute(own_postgres_url, "ANALYZE todos")
    project.add_field(DUE_DATE)
    stop = Event()

    with (
        serve(own_postgres_url, tmp_path / "log", app=None) as server,
        ThreadPoolExecutor(16) as threads,
    ):

        def work(number: int) -> list[tuple[int, float]]:
            with server.client() as client:
                done = []
                while not stop.is_set():
                    answer = read_or_write(client, number)
                    done.append((answer.status, answer.seconds))
                return done

        workers = [threads.submit(work, number) for number in range(16)]
        time.sleep(3)
        started = time.monotonic()
        done = project.migrate("add due_date")
        took = time.monotonic() - started
        time.sleep(1)
        stop.set()
        answers = [answer for each in workers for answer in each.result()]

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        *(f"Applied {name}." for name in project.revisions[-2:]),
        "The database has what models.py says.",
    ]
    assert {status for status, _ in answers} == {200, 201}
    slowest = max(seconds for _, seconds in answers)
    report("a million rows", requests=len(answers), slowest=slowest, migration=took)
    assert slowest < 5
