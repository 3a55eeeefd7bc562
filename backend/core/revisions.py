"""Writes the next revision: what autogenerate finds, in a form that SQLite can apply too.

SQLite adds, renames and drops columns, and nothing else of a table that is there. Alembic's
batch mode makes the table anew instead, and then children are deleted by their ON DELETE
CASCADE, and AUTOINCREMENT begins again. So it is not used: what a new column brings along
goes into its ADD COLUMN, and the rest is refused.
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic.autogenerate import render_python_code
from alembic.operations import ops
from sqlalchemy import CheckConstraint, Column, Connection, MetaData, String, TypeDecorator

from backend.core.differences import context_of, describe, flat_operations, merge
from backend.core.migrations import read_revisions

LONGEST_NAME = 32  # what Alembic's table has room for
LONGEST_WORDS = 80

TEMPLATE = '''"""{words}."""

{imports}

revision = "{name}"
down_revision = {follows}


def upgrade() -> None:
    """Applies this revision."""
{body}
'''
CONCURRENTLY = "with op.get_context().autocommit_block():"
UNWRITTEN = 'raise NotImplementedError("write what this revision changes")'

VERBS = {"missing": "adds", "extra": "drops", "changed": "changes"}

CREATED_TABLE = re.compile(r"create_table\(\s*[\"'](\w+)[\"']")


class Refused(Exception):
    """A change that is not written as a revision; the message says why, and what to do."""


@dataclass
class Draft:
    """A revision to be written: its statements, and what they do in words."""

    statements: list[str] = field(default_factory=list)
    does: list[str] = field(default_factory=list)
    concurrently: bool = False


class Planner:
    """Turns what autogenerate finds into statements."""

    def __init__(self, connection: Connection, metadata: MetaData, *, drop: bool) -> None:
        self.dialect = connection.dialect.name
        self.metadata = metadata
        self.drop = drop
        self.changes = Draft()
        self.indexes = Draft(concurrently=True)

    def plan(self, found: list[Any]) -> list[Draft]:
        """Returns the drafts, in order. Raises `Refused`."""
        self.created = {each.table_name for each in found if isinstance(each, ops.CreateTableOp)}
        columns = [each for each in found if isinstance(each, ops.AddColumnOp)]
        self.added = {(each.table_name, each.column.name): each for each in columns}
        self.dropped = {
            (each.table_name, each.column_name)
            for each in found
            if isinstance(each, ops.DropColumnOp)
        }
        return []
