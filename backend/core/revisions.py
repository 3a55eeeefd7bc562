"""Writes the next revision: what autogenerate finds, in a form that SQLite can apply too.

SQLite adds, renames and drops columns, and changes nothing else of a table that is there.
Alembic's batch mode makes the table anew instead; then children are deleted by their ON
DELETE CASCADE, and AUTOINCREMENT begins again. So it is not used: what a new column brings
along goes into its ADD COLUMN, and the rest is refused.
"""

import ast
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from alembic.autogenerate import render_python_code
from alembic.operations import ops
from sqlalchemy import Connection, Dialect, MetaData, String, TypeDecorator

from backend.core.differences import Difference, context_of, describe, merge, operations
from backend.core.migrations import read_revisions

LONGEST_NAME = 32  # what Alembic's table has room for
LONGEST_WORDS = 80

TEMPLATE = '''"""{words}."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "{name}"
down_revision = {follows}


def upgrade() -> None:
    """Applies this revision."""
{body}
'''
# A revision that is pending is applied at the next start: this one fails until it is written.
UNWRITTEN = 'raise NotImplementedError("write what this revision does")'
CONCURRENTLY = "with op.get_context().autocommit_block():"

IMPORTS = {
    "sa": "import sqlalchemy as sa",
    "postgresql": "from sqlalchemy.dialects import postgresql",
}
CREATED_TABLE = re.compile(r"""create_table\(\s*["'](\w+)""")
FINAL_NAME = re.compile(r"op\.f\(('[^']*')\)")


class Refused(Exception):
    """A revision that is not written; the message says why, and what to do instead."""


@dataclass
class Draft:
    """A revision to be written: its statements, and what they do in words."""

    statements: list[str] = field(default_factory=list)
    does: list[Difference] = field(default_factory=list)
    concurrently: bool = False

    def add(self, operation: ops.MigrateOperation, statement: str) -> None:
        """Appends a statement."""
        self.statements.append(statement)
        self.does.append(describe(operation))

    @property
    def summary(self) -> list[str]:
        """What it does, a line for each thing."""
        verbs = {"missing": "adds", "extra": "drops", "changed": "changes"}
        return [f"{verbs[each.kind]} {each.subject}" for each in merge(self.does)]


def draft_revisions(
    connection: Connection, metadata: MetaData, folder: Path, *, drop: bool
) -> list[Draft]:
    """Returns what makes the database what the models say: no drafts where it is.

    New indexes of tables that have rows come in a draft of their own, because PostgreSQL
    makes them outside of transactions, while others write. Raises `Refused` for what would
    lose data, unless `drop` allows it, and for what the database cannot do.
    """
    made = {name for file in folder.glob("versions/*.py") for name in created_tables(file)}
    context = context_of(connection, metadata, made)
    found = operations(context, metadata)
    if not drop:
        refuse_drops(found, connection.dialect)
    planner = Planner(context, found)
    return planner.plan()


def created_tables(file: Path) -> list[str]:
    """Returns the names of the tables that a revision makes."""
    return CREATED_TABLE.findall(file.read_text(encoding="utf-8"))


def refuse_drops(found: list[Any], dialect: Dialect) -> None:
    """Raises `Refused` for what loses data."""
    lossy = [each for each in found if loses_data(each)]
    if not lossy:
        return
    subjects = ", ".join(describe(each).subject for each in lossy)
    hints = [
        f"If you renamed {old.table_name}.{old.column_name} to {new.column.name}, write that "
        f'yourself: ./run_dev.sh migrate "rename {old.column_name}" --empty, and in its '
        f'file op.alter_column("{old.table_name}", "{old.column_name}", '
        f'new_column_name="{new.column.name}").'
        for old in lossy
        if isinstance(old, ops.DropColumnOp)
        for new in found
        if isinstance(new, ops.AddColumnOp) and new.table_name == old.table_name
        if old.to_column().type.compile(dialect) == new.column.type.compile(dialect)
    ]
    raise Refused(
        " ".join([f"This loses what is in {subjects}. If that is meant, add --drop.", *hints])
    )


def loses_data(operation: Any) -> bool:
    """Returns whether an operation can lose what is in the database."""
    if isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
        old, new = operation.existing_type, operation.modify_type
        widens = (
            isinstance(old, String)
            and isinstance(new, String)
            and (new.length is None or (old.length is not None and new.length >= old.length))
        )
        return not widens
    return isinstance(operation, ops.DropColumnOp | ops.DropTableOp)


class Planner:
    """Turns what autogenerate found into statements, in its order."""

    def __init__(self, context: Any, found: list[Any]) -> None:
        self.context = context
        self.found = found
        self.on_sqlite = context.dialect.name == "sqlite"
        self.changes = Draft()
        self.indexes = Draft(concurrently=True)

    def plan(self) -> list[Draft]:
        """Returns the drafts that have something to do. Raises `Refused`."""
        new_tables = {each.table_name for each in self._all(ops.CreateTableOp)}
        new_indexes = {each.index_name for each in self._all(ops.CreateIndexOp)}
        for each in self.found:
            match each:
                case ops.AddColumnOp():
                    self.changes.add(each, self._add_column(each))
                case ops.CreateIndexOp() if each.table_name not in new_tables:
                    each.kw["postgresql_concurrently"] = True
                    each.if_not_exists = True
                    self.indexes.add(each, self._render(each))
                case ops.DropIndexOp() if each.index_name in new_indexes:
                    each.kw["postgresql_concurrently"] = True
                    each.if_exists = True
                    self.indexes.add(each, self._render(each))
                case ops.AddConstraintOp() | ops.DropConstraintOp() if self._goes_along(each):
                    self.changes.does.append(describe(each))
                case ops.AddConstraintOp() | ops.DropConstraintOp() | ops.AlterColumnOp():
                    if self.on_sqlite:
                        raise Refused(cannot_change(describe(each)))
                    self.changes.add(each, self._render(each))
                case _:
                    self.changes.add(each, self._render(each))
        return [draft for draft in (self.changes, self.indexes) if draft.statements]

    def _all(self, kind: type[ops.MigrateOperation]) -> Iterator[Any]:
        return (each for each in self.found if isinstance(each, kind))

    def _goes_along(self, operation: Any) -> bool:
        """Returns whether a constraint comes, or goes, with a column."""
        return any(
            belongs_to(operation, each.table_name, each.column.name)
            for each in self._all(ops.AddColumnOp)
            if isinstance(operation, ops.AddConstraintOp)
        ) or any(
            belongs_to(operation.reverse(), each.table_name, each.column_name)
            for each in self._all(ops.DropColumnOp)
            if isinstance(operation, ops.DropConstraintOp)
        )

    def _add_column(self, operation: ops.AddColumnOp) -> str:
        """Returns the statement for a new column, its foreign key and its checks included."""
        table, column = operation.table_name, operation.column
        statement: Any = ast.parse(self._render(operation), mode="eval").body
        made: Any = statement.args[1]
        for each in self._all(ops.AddConstraintOp):
            if not belongs_to(each, table, column.name):
                continue
            if isinstance(each, ops.CreateForeignKeyOp):
                inline = ast.keyword("inline_references", ast.Constant(value=True))
                statement.keywords.append(inline)
            made.args.append(ast.parse(inline_constraint(each), mode="eval").body)
        if not column.nullable and column.server_default is None:
            value = ast.Constant(value=value_for_old_rows(table, column))
            made.keywords.append(ast.keyword("server_default", value))
        return ast.unparse(statement)

    def _render(self, operation: ops.MigrateOperation) -> str:
        """Returns an operation as Python, in plain SQLAlchemy types that no model changes."""
        if isinstance(operation, ops.AlterColumnOp):
            operation.existing_type = None  # only other databases need it
        code = render_python_code(
            ops.UpgradeOps([operation]),
            render_item=render_plain_type,
            migration_context=self.context,
        )
        lines = [line for line in code.splitlines() if not line.lstrip().startswith("#")]
        return FINAL_NAME.sub(r"\1", "\n".join(lines).strip())


def render_plain_type(kind: str, item: Any, context: Any) -> str | Literal[False]:
    """Returns what a type of ours is made of, as Alembic's `render_item`."""
    is_ours = isinstance(item, TypeDecorator) and not type(item).__module__.startswith("sqlalchemy")
    if kind == "type" and is_ours:
        return f"sa.{item.load_dialect_impl(context.dialect)!r}".replace("sa.VARCHAR", "sa.String")
    return False


def belongs_to(constraint: Any, table: str, column: str) -> bool:
    """Returns whether a foreign key or a check is that of one column alone."""
    if isinstance(constraint, ops.CreateForeignKeyOp):
        return constraint.source_table == table and constraint.local_cols == [column]
    if isinstance(constraint, ops.CreateCheckConstraintOp):
        mentioned = re.search(rf"\b{column}\b", str(constraint.condition))
        return constraint.table_name == table and mentioned is not None
    return False


def inline_constraint(constraint: Any) -> str:
    """Returns a constraint of one column as Python."""
    if isinstance(constraint, ops.CreateCheckConstraintOp):
        condition = str(constraint.condition)
        return f"sa.CheckConstraint({condition!r}, name={constraint.constraint_name!r})"
    target = f"{constraint.referent_table}.{constraint.remote_cols[0]}"
    options = "".join(
        f", {name}={constraint.kw[name]!r}"
        for name in ("onupdate", "ondelete")
        if constraint.kw.get(name)
    )
    return f"sa.ForeignKey({target!r}, name={constraint.constraint_name!r}{options})"


def value_for_old_rows(table: str, column: Any) -> str:
    """Returns the value that rows get which were there before a column that must not be empty.

    It is the default of the model. Raises `Refused` where there is none.
    """
    value = getattr(column.default, "arg", None)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float | str | Decimal):
        return str(value)
    raise Refused(
        f"{table}.{column.name} must not be empty, but rows that are there have nothing in it: "
        "give it a default in models.py, or allow None"
    )


def cannot_change(difference: Difference) -> str:
    """Returns what to do about a change that SQLite cannot make."""
    return (
        f"SQLite cannot change a table that is there in this: {difference.subject}. Add a new "
        "column that is as you want it, fill it in a revision of your own (--empty), and "
        "remove the old one later; a unique column is one with Index(..., unique=True). If "
        "the data may go, delete the database's file"
    )


def write_revisions(folder: Path, words: str, drafts: Iterable[Draft]) -> list[Path]:
    """Writes a file for each draft and returns them. Raises `Refused` for words that do not fit."""
    words = " ".join(words.split())
    if not re.search(r"\w", words) or len(words) > LONGEST_WORDS or set(words) & set('"\\'):
        raise Refused(
            f"Say what changes in 1 to {LONGEST_WORDS} characters, without quotes or backslashes"
        )
    files: list[Path] = []
    for draft in drafts:
        line = read_revisions(folder)
        ending = "_indexes" if draft.concurrently and files else ""
        name = f"{len(line) + 1:04d}_{slug(words)}"[: LONGEST_NAME - len(ending)] + ending
        body = "\n".join(draft.statements or [UNWRITTEN])
        if draft.concurrently:
            body = f"{CONCURRENTLY}\n{indented(body)}"
        source = TEMPLATE.format(
            words=words[0].upper() + words[1:],
            name=name,
            follows=f'"{line[-1].name}"' if line else None,
            body=indented(body),
        )
        source = without_unused_imports(source, body)
        files.append(folder / "versions" / f"{name}.py")
        files[-1].write_text(source, encoding="utf-8")
    tidy(files)
    return files


def without_unused_imports(source: str, body: str) -> str:
    """Returns a revision without the imports that its statements do not use."""
    for name, line in IMPORTS.items():
        if not re.search(rf"\b{name}\.", body):
            source = source.replace(line + "\n", "")
    return source


def slug(words: str) -> str:
    """Returns words as a part of a name: in lower-case ASCII."""
    plain = unicodedata.normalize("NFKD", words.casefold()).encode("ascii", "ignore").decode()
    return "_".join(re.findall("[a-z0-9]+", plain)) or "change"


def indented(lines: str) -> str:
    """Returns lines a step further to the right."""
    return "\n".join(f"    {line}" for line in lines.splitlines())


def tidy(files: list[Path]) -> None:
    """Formats files as the project has it, where ruff is installed."""
    if files and find_spec("ruff"):
        command = [sys.executable, "-m", "ruff", "format", "--quiet", *map(str, files)]
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own files
