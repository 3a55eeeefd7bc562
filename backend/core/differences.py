"""Where a database and the models differ, as Alembic's autogenerate sees it.

What it does not see: the text of a CHECK (only its name), the WHERE, the expressions and the
operator classes of an index, collations, AUTOINCREMENT, extensions, and server defaults, which
are not compared because rows that were there before a column need one that new rows do not.
Write a revision for these by hand; `tests/test_migrations.py` finds what was forgotten, by
comparing a database made by the revisions with one made from the models.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from backend.core.tables import search_indexes

PLUGINS = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]

Kind = Literal["missing", "extra", "changed"]


@dataclass
class Difference:
    """One thing that the database lacks, has besides, or has in another form.

    A harmless one refuses no row: what the models know works without it.
    """

    table: str
    subject: str
    kind: Kind
    harmless: bool


def context_of(
    connection: Connection, metadata: MetaData, own: Collection[str] = ()
) -> MigrationContext:
    """Returns Alembic's context for comparing.

    Tables that are neither in the models nor `own` are another program's, and left alone.
    """
    tables = {*metadata.tables, *own}
    by_hand = search_indexes(metadata)

    def include_name(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "table":
            return name in tables
        return not (kind == "index" and name in by_hand)

    options = {"include_name": include_name, "autogenerate_plugins": PLUGINS}
    return MigrationContext.configure(connection, opts=options)


def operations(context: MigrationContext, metadata: MetaData) -> list[ops.MigrateOperation]:
    """Returns the operations that would make the database what the models say."""
    script = produce_migrations(context, metadata)
    assert script.upgrade_ops is not None
    return list(flat(script.upgrade_ops.ops))


def flat(found: list[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    """Yields the operations, those of a table one by one."""
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from operation.ops
        else:
            yield operation


def differences(connection: Connection, metadata: MetaData) -> list[Difference]:
    """Returns where a database and the models differ."""
    found = [describe(each) for each in operations(context_of(connection, metadata), metadata)]
    return merge(found)


def merge(found: list[Difference]) -> list[Difference]:
    """Returns the differences, where what is dropped and made anew is one that changed."""
    merged: dict[str, Difference] = {}
    for each in found:
        before = merged.get(each.subject)
        if before and before.kind != each.kind:
            each.kind, each.harmless = "changed", False
        merged[each.subject] = each
    return list(merged.values())


def describe(operation: Any) -> Difference:
    """Returns the difference that an operation would remove."""
    table = str(operation.table_name)
    kind: Kind = "missing"
    harmless = False
    match operation:
        case ops.CreateTableOp():
            subject = f"the table {table}"
        case ops.DropTableOp():
            subject, kind = f"the table {table}", "extra"
        case ops.AddColumnOp():
            subject = f"{table}.{operation.column.name}"
        case ops.DropColumnOp():
            subject, kind = f"{table}.{operation.column_name}", "extra"
            column = operation.to_column()
            harmless = bool(column.nullable or column.server_default is not None)
        case ops.AlterColumnOp():
            subject, kind = f"{table}.{operation.column_name}", "changed"
        case ops.CreateIndexOp():
            subject = f"the index {operation.index_name}"
        case ops.DropIndexOp():
            subject, kind = f"the index {operation.index_name}", "extra"
            harmless = not operation.to_index().unique
        case ops.DropConstraintOp():
            subject, kind = f"the constraint {operation.constraint_name} of {table}", "extra"
        case ops.AddConstraintOp():
            subject = f"the constraint {operation.to_constraint().name} of {table}"
        case _:
            subject, kind = f"the table {table}", "changed"
    return Difference(table, subject, kind, harmless)


def sentence(found: list[Difference]) -> str:
    """Returns what differs, in one sentence."""
    kinds = {
        "missing": "in models.py but not in the database",
        "extra": "in the database but not in models.py",
        "changed": "not the same in models.py and in the database",
    }
    parts = []
    for kind, words in kinds.items():
        subjects = [each.subject for each in found if each.kind == kind]
        if subjects:
            parts.append(f"{', '.join(subjects)} {'is' if len(subjects) == 1 else 'are'} {words}")
    return "; ".join(parts)


def words(found: list[Difference]) -> str:
    """Returns words that describe the change, such as `add due_date`."""
    first = found[0]
    name = first.subject.removeprefix(f"{first.table}.").removeprefix("the ")
    return f"{ {'missing': 'add', 'extra': 'remove', 'changed': 'change'}[first.kind] } {name}"
