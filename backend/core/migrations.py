"""Schema changes: a database is brought to the newest revision, then compared with the models.

A revision is a file that makes one step. Each follows the one before it, so they form a line,
and the table `alembic_version` says how far along it a database is. Each is applied in a
transaction of its own, by one process at a time, or it fails and changes nothing. One with an
`autocommit_block`, for what PostgreSQL does only outside of transactions, can be interrupted:
let it do nothing else, and nothing that may not be done twice.

Alembic takes 90 ms to load, so it is loaded only when something is pending, or when a
database and the models were never found to agree as they are.
"""

import ast
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, event, exc, func, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from backend.core.connections import (
    Database,
    DatabaseNotReady,
    begin_on_postgres,
    begin_on_sqlite,
    is_outage,
    reason,
    require_transaction,
    stay_in_transaction_on_sqlite,
)
from backend.core.deadlines import start_deadline
from backend.core.tables import search_indexes

if TYPE_CHECKING:
    from backend.core.differences import Difference

logger = logging.getLogger(__name__)

LOOKING_BUDGET = 5.0  # seconds
REVISION_BUDGET = 3600.0
LOCK_TIMEOUT = 1.0  # others may queue behind us for as long
FAILURE_PAUSE = 60.0  # until a revision that failed is tried again, which may be much work

# Any constant will do, as long as all processes take the same.
TRY_LOCK = select(func.pg_try_advisory_lock(7_060_451))

# All that the comparison looks at, and more, as text; this takes 1 ms.
CATALOGUE = {
    "sqlite": "SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name",
    "postgresql": """
        SELECT concat_ws(' ', attrelid::regclass, attname, attnotnull, attidentity, collname,
                         format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid)) AS line
        FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_collation ON pg_collation.oid = attcollation
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = current_schema()::regnamespace
          AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid))
        FROM pg_constraint
        WHERE connamespace = current_schema()::regnamespace
        ORDER BY line
    """,
}

VERSIONS = "SELECT version_num FROM alembic_version"

# What a kill leaves of an index that was being made while others wrote.
INVALID_INDEXES = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace
      AND indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index)
"""

VALID_INDEXES = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indisvalid AND relnamespace = current_schema()::regnamespace
"""


class NotMigrated(DatabaseNotReady):
    """The database cannot be used with the models as they are; the message says why."""


class AnotherMigrates(NotMigrated):
    """Another process changes the schema now; look again in a moment."""


@dataclass
class Revision:
    """One step: its name, the one before it, and how it is applied."""

    name: str
    follows: str | None
    in_transaction: bool


def read_revisions(folder: Path) -> list[Revision]:
    """Returns the revisions of a folder, the oldest first.

    Reads the files without running them. Raises `NotMigrated` for a file that is no
    revision, and for revisions that do not form one line.
    """
    found = [read_revision(file) for file in sorted(folder.glob("versions/*.py"))]
    for first, second in pairwise(sorted(each.name for each in found)):
        if first == second:
            raise NotMigrated(f"several revisions are called {first}")
    after: dict[str | None, Revision] = {}
    for each in found:
        other = after.setdefault(each.follows, each)
        if other is not each:
            raise NotMigrated(
                f"the revisions {other.name} and {each.name} both follow {each.follows}; let one "
                f"of them follow the other: down_revision = {other.name!r} in {each.name}"
            )
    line: list[Revision] = []
    while following := after.pop(line[-1].name if line else None, None):
        line.append(following)
    for lost in after.values():
        raise NotMigrated(f"the revision {lost.name} follows {lost.follows}, which is not there")
    return line


def read_revision(file: Path) -> Revision:
    """Returns the revision of a file. Raises `NotMigrated` where there is none."""
    try:
        source = file.read_text(encoding="utf-8")
        assigned = {
            target.id: ast.literal_eval(statement.value)
            for statement in ast.parse(source).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision")
        }
        name, follows = assigned["revision"], assigned["down_revision"]
    except SyntaxError as error:
        raise NotMigrated(f"{file.name} is no Python: line {error.lineno}, {error.msg}") from error
    except (KeyError, ValueError, OSError) as error:
        raise NotMigrated(f"{file.name} does not say revision and down_revision") from error
    if not isinstance(name, str) or not isinstance(follows, str | None):
        raise NotMigrated(f"{file.name} does not follow one revision, as each has to")
    return Revision(name, follows, in_transaction="autocommit_block" not in source)


class Migrations:
    """The revisions of one folder, and how far along them one database is."""

    def __init__(self, database: Database, metadata: MetaData, folder: Path) -> None:
        self.database = database
        self.metadata = metadata
        self.folder = folder
        self._failure = ""
        self._failed_at = 0.0
        self._fingerprint = ""
        self._found: list[Difference] = []

    def run(self) -> None:
        """Applies what is pending, then requires that the database and the models agree.

        Raises `NotMigrated` with the reason, or what the database raises. Call it again
        until it does not: while nothing changes that costs a look.
        """
        self.apply_pending()
        self.require_agreement()

    def pending(self) -> list[Revision]:
        """Returns the revisions that the database does not have yet, the oldest first.

        There are none for a database that is further than this code knows.
        """
        line = read_revisions(self.folder)
        names = [revision.name for revision in line]
        current = self.current()
        if current is None:
            return line
        return line[names.index(current) + 1 :] if current in names else []

    def current(self) -> str | None:
        """Returns the name of the revision that the database is at; None for an untouched one."""
        start_deadline(LOOKING_BUDGET)
        with self.database.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            names = connection.exec_driver_sql(VERSIONS).scalars().all()
        if len(names) > 1:
            raise NotMigrated(f"it is at several revisions at once: {', '.join(sorted(names))}")
        return str(names[0]) if names else None

    def is_ahead(self, current: str | None) -> bool:
        """Returns whether a database's revision is none of ours, but that of another release."""
        ours = [revision.name for revision in read_revisions(self.folder)]
        return current is not None and current not in ours

    def apply_pending(self) -> list[str]:
        """Applies what is pending, whichever process comes first; returns what this one did.

        Raises `AnotherMigrates`, `NotMigrated` when a revision fails, and what the database
        raises when a lock cannot be had in time.
        """
        applied = []
        while pending := self.pending():
            if self._failure and time.monotonic() < self._failed_at + FAILURE_PAUSE:
                raise NotMigrated(self._failure)
            if self._apply(pending[0]):
                applied.append(pending[0].name)
        return applied

    def _apply(self, revision: Revision) -> bool:
        """Applies one revision; returns False when the database has it by now."""
        start_deadline(REVISION_BUDGET)
        try:
            with self._migrating() as connection:
                if not upgrade(connection, self.folder, revision):
                    return False
        except Exception as error:  # a revision is anybody's code
            if is_outage(error):
                raise
            self._failed_at = time.monotonic()
            self._failure = (
                f"the revision {revision.name} cannot be applied: {self._explain(error)}"
            )
            raise NotMigrated(self._failure) from error
        logger.info("applied the revision %s", revision.name)
        return True

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """Yields a connection that may change the schema. Raises `AnotherMigrates`.

        The lock is that of the connection which makes the changes: should its process die,
        the next one waits until PostgreSQL has ended what was begun. On SQLite the
        transaction is the lock.
        """
        with self.database.engine.connect() as connection:
            # Asked for, not waited for: who waits in a statement holds up CREATE INDEX
            # CONCURRENTLY.
            if not (self.database.on_sqlite or connection.scalar(TRY_LOCK)):
                raise AnotherMigrates("another process is migrating it")
            try:
                if self.database.on_sqlite:
                    connection.exec_driver_sql(
                        f"PRAGMA busy_timeout = {round(1000 * LOCK_TIMEOUT)}"
                    )
                else:
                    connection.exec_driver_sql("SET statement_timeout = 0")
                    drop_invalid_indexes(connection)
                connection.commit()
                yield connection
            finally:
                connection.invalidate()  # and with it its lock and its timeouts

    def _explain(self, error: Exception) -> str:
        """Returns why a revision failed, in one line, and where in its file."""
        if isinstance(error, exc.SQLAlchemyError):
            return reason(error)
        said = " ".join(str(error).split())
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).parent.parent == self.folder
        ]
        return f"{type(error).__name__}: {said}" + (f" (line {lines[-1]})" if lines else "")

    def require_agreement(self) -> None:
        """Raises `NotMigrated` when the models cannot be used with the database as it is.

        What the database has besides, and what refuses no row, is only pointed out: so a
        release goes on when a newer one has added something, and before something old is
        removed.
        """
        current = self.current()
        ahead = self.is_ahead(current)
        with self.database.engine.connect() as connection:
            found = self._compare(connection)
        if not (found or ahead):
            return
        from backend.core.differences import sentence, words_for

        harmful = [each for each in found if not each.harmless]
        if harmful and ahead:
            raise NotMigrated(
                f"it is at the revision {current}, which this release does not know, and "
                f"{sentence(harmful)}; start the release that made it so"
            )
        if harmful:
            raise NotMigrated(
                f'{sentence(harmful)}; run: ./run_dev.sh migrate "{words_for(harmful)}"'
            )
        if ahead:
            logger.warning(
                "the database is at the revision %s of another release, and has all that "
                "this one needs",
                current,
            )
        else:
            logger.warning("%s; it does no harm", sentence(found))

    def _compare(self, connection: Connection) -> list["Difference"]:
        """Returns where the database and the models differ.

        That the two agree is a fact about their texts, so it is kept in a file named by
        their digest, beside the compiled revisions, and need not be found out again.
        """
        fingerprint = self.fingerprint(connection)
        if fingerprint == self._fingerprint:
            return self._found
        agreed = self.folder / "__pycache__" / f"agreed-{fingerprint}"
        if agreed.exists():
            return []
        from backend.core.differences import differences

        self._fingerprint = fingerprint
        self._found = differences(connection, self.metadata)
        if not self._found:
            with suppress(OSError):  # then each start compares
                agreed.parent.mkdir(exist_ok=True)
                agreed.touch()
        return self._found

    def fingerprint(self, connection: Connection) -> str:
        """Returns a digest of what is compared: the models and the database, and by what."""
        dialect = connection.dialect
        makers: list[ExecutableDDLElement] = []
        for table in self.metadata.sorted_tables:
            makers += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=str))]
        statements = [str(maker.compile(dialect=dialect)) for maker in makers]
        lines = connection.exec_driver_sql(CATALOGUE[dialect.name]).scalars()
        both = "\n".join([version("alembic"), *statements, *lines])
        return sha256(both.encode()).hexdigest()[:32]

    def make_search_indexes(self) -> None:
        """Makes an index for searching each folded column, where the server has what it needs.

        With it, searching costs the same in a million rows. Its extension comes with most
        PostgreSQL servers; without it, searching reads the whole table. So no revision
        asks for it, and requests are served meanwhile.
        """
        if self.database.on_sqlite:
            return
        start_deadline(REVISION_BUDGET)
        with self.database.engine.connect() as connection:
            there = connection.exec_driver_sql(VALID_INDEXES).scalars().all()
        wanted = search_indexes(self.metadata)
        missing = [definition for name, definition in wanted.items() if name not in there]
        if not missing:
            return
        try:
            with self._migrating() as connection:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
                for definition in missing:
                    connection.exec_driver_sql(definition)
        except AnotherMigrates:
            return  # it makes them too
        except exc.SQLAlchemyError as error:
            logger.warning("search will read the whole table: %s", reason(error))


def upgrade(connection: Connection, folder: Path, revision: Revision) -> bool:
    """Lets Alembic apply a revision; returns False when the database has it by now."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "sqlite":
        event.listen(connection, "begin", begin_on_sqlite)
        event.listen(connection, "before_cursor_execute", stay_in_transaction_on_sqlite)
        event.listen(connection, "commit", require_transaction)
    elif revision.in_transaction:
        event.listen(connection, "begin", begin_with_short_locks)
    applied: list[object] = []

    def note(step: object, **more: object) -> None:
        applied.append(step)

    config = Config(attributes={"connection": connection, "on_version_apply": note})
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    command.upgrade(config, revision.name)
    return bool(applied)


def drop_invalid_indexes(connection: Connection) -> None:
    """Drops what is left of indexes on PostgreSQL whose making was broken off."""
    for index in connection.exec_driver_sql(INVALID_INDEXES).scalars().all():
        connection.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS "{index}"')


def begin_with_short_locks(connection: Connection) -> None:
    """Begins a transaction on PostgreSQL in which no lock is waited for for long."""
    begin_on_postgres(connection)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
