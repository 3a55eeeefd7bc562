"""What tables are made of, and what each row keeps true by itself: its times, its folded texts.

A table with `created_at` and `updated_at` has them kept, and so has one with a `folded`
column: before a row is written, whoever changed it and however.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Protocol, Self
from unicodedata import normalize

from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    case,
    event,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Field, SQLModel, UTCDateTime

MAX_ID = 2**63 - 1

# SQLite numbers rows only in a column of its type INTEGER, which is 64 bits wide.
BigId = BigInteger().with_variant(Integer, "sqlite")

# The parameter of a statement that is made once for all owners; see `owned_by`.
OWNER = bindparam("owner", type_=BigId)

MOMENT = timedelta(microseconds=1)

# What has no name of its own gets the one that PostgreSQL would give it: on SQLite nothing
# has a name by itself, and what has none cannot be compared or changed.
SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s",
    "ix": "%(table_name)s_by_%(column_0_N_name)s",
}


def now() -> datetime:
    """Returns the time, in UTC."""
    return datetime.now(UTC)


def fold(text: str) -> str:
    """Returns a text as search and sorting see it: without upper and lower case."""
    return text.casefold()


def fold_name(text: str) -> str:
    """Returns a name as it is compared: in no case, and in one form (NFKC), wide, thin or raised.

    Of these names there can be only one: "Zoë", "ZOË" with an accent of its own, "Ｚｏë".
    """
    # Again, because letters can come apart: "Ϊ́" has no small one in one piece.
    return normalize("NFKC", normalize("NFKC", text).casefold())


# How many characters one can become: three, as "ΐ" does, or eighteen, as "ﷺ" does.
LONGEST_FOLD: dict[Callable[[str], str], int] = {fold: 3, fold_name: 18}


def folded(name: str, length: int, by: Callable[[str], str] = fold) -> Any:
    """Returns the column that holds another one, of up to `length` characters, folded.

    Both databases compare it by code point, which SQLite does by itself. It is kept by
    itself too: no code has to set it.
    """
    size = LONGEST_FOLD[by] * length
    return Field(
        default="",
        sa_type=String(size).with_variant(String(size, collation="C"), "postgresql"),
        # Without a default of the column's own, which would stand where there is no text to fold.
        sa_column_kwargs={"default": None, "info": {"folds": name, "by": by}},
    )


class TableModel(SQLModel):
    """The base class of a table: what is none of its fields is an error, and not dropped.

    SQLModel by itself leaves a misspelled name out without a word, and the value is lost.
    """

    def __init__(self, **values: Any) -> None:
        refuse_unknown(type(self), values)
        super().__init__(**values)

    # pydantic validates as if there were no constructor of our own.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(
        cls, obj: Any, *, update: dict[str, Any] | None = None, **options: Any
    ) -> Self:
        """Returns a row with the fields of a schema or a dict, and those of `update`.

        A field of the schema that is declared with `exclude=True` is not meant for the
        table. Raises `TypeError` for any other that the table does not have.
        """
        refuse_unknown(cls, names_in(obj), update or ())
        return super().model_validate(obj, update=update, **options)

    def sqlmodel_update(
        self, obj: dict[str, Any] | BaseModel, *, update: dict[str, Any] | None = None
    ) -> Self:
        """Changes the fields that are named. Raises `TypeError` for one that is not there."""
        refuse_unknown(type(self), names_in(obj), update or ())
        return super().sqlmodel_update(obj, update=update)


def names_in(source: Any) -> list[str]:
    """Returns the names of the values that a dict or a schema has for a row."""
    if isinstance(source, BaseModel):
        return [name for name, field in type(source).model_fields.items() if not field.exclude]
    return list(source) if isinstance(source, dict) else []


def refuse_unknown(model: type[SQLModel], *sources: Iterable[str]) -> None:
    """Raises `TypeError` for the first name that is no field of the model."""
    known = {*model.model_fields, *model.__sqlmodel_relationships__}
    for name in chain(*sources):
        if name not in known:
            meant = get_close_matches(name, known, n=1)
            hint = f"; did you mean {meant[0]!r}?" if meant else ""
            raise TypeError(f"{model.__name__} has no field {name!r}{hint}")


def table_of(model: type[SQLModel]) -> Table:
    """Returns the table of a model."""
    table: Table = model.__table__  # type: ignore[attr-defined] # SQLModel makes it
    return table


@cache
def folded_columns(table: Table) -> dict[str, str]:
    """Returns the names of the columns that are kept folded, each with its folded one's name."""
    return {column.info["folds"]: column.name for column in table.c if "folds" in column.info}


def search_indexes(metadata: MetaData) -> dict[str, str]:
    """Returns the names of the indexes for searching, each with what makes it on PostgreSQL."""
    return {
        name: f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} "
        f"ON {table.name} USING gin ({copy} gin_trgm_ops)"
        for table in metadata.sorted_tables
        for column, copy in folded_columns(table).items()
        if (name := f"{table.name}_by_{column}_part")
    }


def fold_all(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the folded columns that belong to values of a table's columns."""
    return {
        copy: None if values[name] is None else table.c[copy].info["by"](values[name])
        for name, copy in folded_columns(table).items()
        if name in values
    }


class Owner(Protocol):
    """Whoever can own rows: a row with an id itself."""

    @property
    def id(self) -> int | None: ...


def id_of(owner: Owner | None) -> int | None:
    """Returns the id of an owner, `None` for nobody."""
    return None if owner is None else owner.id


@lru_cache(maxsize=1000)
def owned_by(model: type[SQLModel], owner_id: Any) -> list[ColumnElement[bool]]:
    """Returns the condition that rows are an owner's, or for `None` that nobody owns them.

    Rows have owners where their table has an `owner_id`; elsewhere there is no condition.
    """
    columns = table_of(model).c
    return [columns.owner_id == owner_id] if "owner_id" in columns else []


@event.listens_for(Mapper, "before_insert")
@event.listens_for(Mapper, "before_update")
def keep_folds(mapper: Mapper[Any], connection: Any, row: Any) -> None:
    """Folds what is kept folded."""
    table: Any = mapper.local_table
    values = {name: getattr(row, name) for name in folded_columns(table)}
    for name, value in fold_all(table, values).items():
        setattr(row, name, value)


@event.listens_for(Mapper, "before_insert")
def start_times(mapper: Mapper[Any], connection: Any, row: Any) -> None:
    """Lets a new row be as old as its last change."""
    if "updated_at" in mapper.columns and "created_at" in mapper.columns:
        row.updated_at = row.created_at


@event.listens_for(Mapper, "before_update")
def move_time(mapper: Mapper[Any], connection: Any, row: Any) -> None:
    """Moves the time of the last change forward, even where the clock went back."""
    if "updated_at" in mapper.columns:
        row.updated_at = max(now(), row.updated_at + MOMENT)


class moment_after(FunctionElement[datetime]):  # noqa: N801 - stands in statements as a SQL function
    """The time a microsecond after that of a column."""

    name = "moment_after"
    type = UTCDateTime()
    inherit_cache = True


@compiles(moment_after, "postgresql")
def _(element: moment_after, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({compiler.process(element.clauses, **kw)} + interval '1 microsecond')"


@compiles(moment_after, "sqlite")
def _(element: moment_after, compiler: SQLCompiler, **kw: Any) -> str:
    return f"moment_after({compiler.process(element.clauses, **kw)})"


def moment_after_on_sqlite(stored: str) -> str:
    """Returns the time a microsecond after one, both as SQLite's column has them."""
    return (datetime.fromisoformat(stored) + MOMENT).isoformat(" ", "microseconds")


def next_time(column: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Returns the time of a change of many rows, later for each than its last one.

    The database compares when it holds the row's lock, not when the change was asked for.
    """
    moment = now()
    return case((column < moment, moment), else_=moment_after(column))
