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
from sqlalchemy import Connection, MetaData, text

from backend.core.tables import search_indexes

NO_ACTION = "NO ACTION"
FOREIGN_KEYS = text(
    'SELECT "from" AS source, "table" AS target, "to" AS referred, on_update, on_delete '
    "FROM pragma_foreign_key_list(:name)"
)

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
    found = list(flat(script.upgrade_ops.ops))
    if context.dialect.name == "sqlite":
        assert context.connection is not None
        return without_kept_actions(context.connection, found)
    return found


def flat(found: list[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    """Yields the operations, those of a table one by one."""
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from operation.ops
        else:
            yield operation


def without_kept_actions(connection: Connection, found: list[Any]) -> list[Any]:
    """Returns the operations without those on foreign keys that are right as they are.

    SQLAlchemy does not see the ON DELETE and ON UPDATE of one that came with its column.
    """
    there = {
        (table, row.source, row.target, row.referred): (row.on_update, row.on_delete)
        for table in {each.source_table for each in found if is_foreign_key(each)}
        for row in connection.execute(FOREIGN_KEYS, {"name": table})
    }
    kept = {
        key
        for each in found
        if is_foreign_key(each)
        and (key := key_of(each)) is not None
        and there.get(key)
        == (each.kw.get("onupdate") or NO_ACTION, each.kw.get("ondelete") or NO_ACTION)
    }
    return [each for each in found if key_of(each) not in kept]


def is_foreign_key(operation: Any) -> bool:
    """Returns whether an operation adds a foreign key."""
    return isinstance(operation, ops.CreateForeignKeyOp)


def key_of(operation: Any) -> tuple[str, str, str, str] | None:
    """Returns what a foreign key of one column that is added or dropped joins."""
    if isinstance(operation, ops.DropConstraintOp):
        operation = operation.reverse()
    if not is_foreign_key(operation) or len(operation.local_cols) > 1:
        return None
    [column], [referred] = operation.local_cols, operation.remote_cols
    return operation.source_table, column, operation.referent_table, referred


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
    foreign = isinstance(operation, ops.CreateForeignKeyOp)
    table = str(operation.source_table if foreign else operation.table_name)
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


def words_for(found: list[Difference]) -> str:
    """Returns words that describe the change, such as `add due_date`."""
    first = found[0]
    name = first.subject.removeprefix(f"{first.table}.").removeprefix("the ")
    verbs = {"missing": "add", "extra": "remove", "changed": "change"}
    return f"{verbs[first.kind]} {name}"
