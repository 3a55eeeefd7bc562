"""What a transaction changes, noted while it runs, to be told when it is committed.

A table is followed when its `info` says so: `{"info": {"live": True}}` among its table
arguments. Where it has a column `owner_id`, a change is told to the followers of that owner's
rows (nobody's are shared), else to everybody. Rows are noted when a session writes them,
statements for many rows when a session executes them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    MetaData,
    Result,
    event,
)
from sqlalchemy.orm import Mapper, ORMExecuteState, object_session
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Null
from sqlmodel import Session

OWNER = "owner_id"
MOST_IDS = 100  # reading a page of the list costs a client less than so many rows, one by one

# Whose list: an owner's, by id; None for the shared one; or all lists there are.
Whose: TypeAlias = int | Literal["all"] | None

# By resource and list: the ids of the rows, or None for many of them.
Changes: TypeAlias = dict[tuple[str, Whose], set[int] | None]


class Observer(Protocol):
    """Who wants to know what is committed; each is called in the thread of the transaction."""

    def before_commit(self, session: Session, changes: Changes) -> None:
        """Is called as the last thing in a transaction."""

    def committed(self, changes: Changes) -> None:
        """Is called when COMMIT has returned."""

    def in_doubt(self, changes: Changes) -> None:
        """Is called when the connection was lost during COMMIT: nobody knows, now or ever."""


def note(changes: Changes, resource: str, whose: Whose, ids: Iterable[int] | None) -> None:
    """Adds rows of a list to what has changed; None stands for many."""
    known = changes.setdefault((resource, whose), set())
    if known is None or ids is None:
        changes[resource, whose] = None
        return
    known.update(ids)
    if len(known) > MOST_IDS:
        changes[resource, whose] = None


def add_changes(changes: Changes, more: Changes) -> None:
    """Adds other changes to what has changed."""
    for (resource, whose), ids in more.items():
        note(changes, resource, whose, ids)


def followed_tables(metadata: MetaData) -> list[str]:
    """Returns the names of the tables whose changes are told."""
    return [table.name for table in metadata.sorted_tables if table.info.get("live")]


class NotingSession(Session):
    """A session that notes what it changes, for as long as it lives."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.changes: Changes = {}


@event.listens_for(Mapper, "after_insert")
@event.listens_for(Mapper, "after_update")
@event.listens_for(Mapper, "after_delete")
def note_row(mapper: Mapper[Any], connection: Connection, row: Any) -> None:
    """Notes a row that a session has written."""
    session = object_session(row)
    if isinstance(session, NotingSession) and row.__table__.info.get("live"):
        for whose in owners_of(row):
            note(session.changes, row.__table__.name, whose, [row.id])


def owners_of(row: Any) -> Iterable[Whose]:
    """Returns in whose lists a written row is: two where it has changed hands."""
    if OWNER not in row.__table__.c:
        return ("all",)
    return get_history(row, OWNER).sum() or (getattr(row, OWNER),)


@event.listens_for(NotingSession, "do_orm_execute")
def note_statement(state: ORMExecuteState) -> Result[Any] | None:
    """Executes a statement that inserts, updates or deletes, and notes it if it did."""
    if not (state.is_insert or state.is_update or state.is_delete):
        return None
    statement: Any = state.statement
    if not statement.table.info.get("live"):
        return None
    assert isinstance(state.session, NotingSession)
    result = state.invoke_statement()
    if not isinstance(result, CursorResult) or result.rowcount != 0:
        note(state.session.changes, statement.table.name, owner_in(statement), None)
    return result


def owner_in(statement: Any) -> Whose:
    """Returns whose rows alone the conditions of a statement can choose."""
    if OWNER not in statement.table.c:
        return "all"
    for condition in conditions_of(getattr(statement, "whereclause", None)):
        if not isinstance(condition, BinaryExpression):
            continue
        if getattr(condition.left, "name", None) != OWNER:
            continue
        if condition.operator is operators.is_ and isinstance(condition.right, Null):
            return None
        if condition.operator is operators.eq and isinstance(condition.right, BindParameter):
            owner: int | None = condition.right.effective_value
            return owner
    return "all"


def conditions_of(where: ColumnElement[bool] | None) -> Iterator[ColumnElement[bool]]:
    """Yields the conditions that must all hold."""
    if isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for each in where.clauses:
            yield from conditions_of(each)
    elif where is not None:
        yield where
