"""One row: found or 404, changed only as it was read, created only once, answered with its ETag."""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b, sha256
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Header, Request, Response
from pydantic import BaseModel, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, bindparam, delete, update
from sqlmodel import Session, SQLModel, select
from sqlmodel.sql.expression import SelectOfScalar

from backend.core.connections import serialize
from backend.core.problems import HasChanged, NotFound, invalid
from backend.core.tables import OWNER, BigId, Owner, fold_all, id_of, next_time, owned_by, table_of

Row = TypeVar("Row", bound=SQLModel)

ANY = "*"
ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
ENTITY_TAGS = rf"{ENTITY_TAG}(?:[ \t]*,[ \t]*{ENTITY_TAG})*"


def parse_condition(lines: list[str]) -> list[str]:
    """Returns the entity tags that the header's lines name, or `*` alone.

    Raises for anything else. See RFC 9110, section 13.
    """
    condition = ", ".join(lines)
    if condition == ANY:
        return [ANY]
    if not re.fullmatch(ENTITY_TAGS, condition):
        message = "Input should be an ETag in its quotes, a list of them, or *"
        raise PydanticCustomError("condition_malformed", message)
    return re.findall(ENTITY_TAG, condition)


CONDITION = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "const": ANY},
            {"type": "string", "pattern": f"^{ENTITY_TAGS}$"},
        ]
    }
)
IfMatch = Annotated[
    list[str] | None,
    BeforeValidator(parse_condition),
    CONDITION,
    Header(
        alias="If-Match",
        description="Go ahead only if the current ETag is one of these; `*` means any",
    ),
]
IfNoneMatch = Annotated[
    list[str] | None,
    BeforeValidator(parse_condition),
    CONDITION,
    Header(
        alias="If-None-Match",
        description="Answer 304 without a body if the current ETag is one of these",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,255}$",
        description="A name for this request, so that sending it again makes nothing new",
        examples=["5f0c1a52-6c1d-4f52-9f0e-5d4b8f0f2c11"],
    ),
]


def matches_strongly(tags: list[str], etag: str) -> bool:
    """Returns whether `If-Match` holds: a weak tag equals none (RFC 9110, section 8.8.3.2)."""
    return tags == [ANY] or etag in tags


def matches_weakly(tags: list[str], etag: str) -> bool:
    """Returns whether `If-None-Match` names the tag: a weak tag equals the strong one."""
    return tags == [ANY] or etag in (tag.removeprefix("W/") for tag in tags)


@cache
def by_id(model: type[SQLModel], *, lock: bool, shared: bool) -> SelectOfScalar[Any]:
    """Returns the query for an owner's row with an `id`; built once, it need not be again."""
    owned = owned_by(model, None if shared else OWNER)
    statement = select(model).where(table_of(model).c.id == bindparam("id", type_=BigId), *owned)
    return statement.with_for_update() if lock else statement


def find(
    session: Session,
    model: type[Row],
    row_id: int,
    *,
    owner: Owner | None = None,
    lock: bool = False,
) -> Row:
    """Returns an owner's row with this id. Raises `NotFound`, a 404, also for another owner's.

    With `lock`, nobody else can change it until the transaction ends.
    """
    statement = by_id(model, lock=lock, shared=owner is None)
    row: Row | None = session.scalar(statement, {"id": row_id, OWNER.key: id_of(owner)})
    if row is None:
        raise NotFound(model)
    return row


def find_to_change(
    session: Session,
    model: type[Row],
    row_id: int,
    public: type[BaseModel],
    if_match: list[str] | None,
    *,
    owner: Owner | None = None,
) -> Row:
    """Returns an owner's row with this id, to be changed or deleted in this transaction.

    Without the lock, all writers that wait for the row would find the ETag they know.
    Raises `NotFound`, a 404, or `HasChanged`, a 412, where `if_match` does not name the
    ETag of its `public` JSON.
    """
    row = find(session, model, row_id, owner=owner, lock=True)
    if if_match and not matches_strongly(if_match, etag(to_json(row, public))):
        raise HasChanged(model)
    return row


def add_once(session: Session, row: Row, sent: BaseModel, key: str | None) -> Row:
    """Adds a row, or returns the one that its owner made under the key before.

    `row` is made of what was `sent`. Its table has the columns `idempotency_key` and
    `idempotency_digest`. Raises a 422 when the key was used with another body.
    """
    if key is None:
        session.add(row)
        return row
    model, columns = type(row), table_of(type(row)).c
    owner_id = getattr(row, "owner_id", None)
    serialize(session, f"{model.__name__} {owner_id} {key}")
    owned = owned_by(model, owner_id)
    made: Any = session.scalar(select(model).where(columns.idempotency_key == key, *owned))
    if made is None:
        row.sqlmodel_update({"idempotency_key": key, "idempotency_digest": digest(sent)})
        session.add(row)
        return row
    if made.idempotency_digest not in (digest(sent), digest_with_defaults(sent)):
        message = "The key was used before, with another body"
        raise invalid(("header", "Idempotency-Key"), message, "idempotency_key_reused")
    found: Row = made
    return found


def digest(sent: BaseModel) -> str:
    """Returns a digest of what a body says; a default says nothing.

    So a field with a default, added to the schema later, leaves it as it is.
    """
    return sha256(sent.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def digest_with_defaults(sent: BaseModel) -> str:
    """Returns the digest as release 1.0 stored it."""
    return sha256(sent.model_dump_json().encode()).hexdigest()


def change_all(
    session: Session,
    model: type[SQLModel],
    where: Sequence[ColumnElement[bool]] = (),
    *,
    owner: Owner | None = None,
    **values: Any,
) -> int:
    """Gives an owner's rows under the conditions these values; returns how many there were."""
    table, owner_id = table_of(model), id_of(owner)
    values |= fold_all(table, values)
    if "updated_at" in table.c:
        values["updated_at"] = next_time(table.c.updated_at)
    serialize(session, f"{table.name} {owner_id}")
    changes = update(table).where(*owned_by(model, owner_id), *where).values(values)
    return session.exec(changes).rowcount


def delete_all(
    session: Session,
    model: type[SQLModel],
    where: Sequence[ColumnElement[bool]] = (),
    *,
    owner: Owner | None = None,
) -> int:
    """Deletes an owner's rows under the conditions; returns how many there were."""
    table, owner_id = table_of(model), id_of(owner)
    serialize(session, f"{table.name} {owner_id}")
    return session.exec(delete(table).where(*owned_by(model, owner_id), *where)).rowcount


def to_json(row: Any, public: type[BaseModel]) -> bytes:
    """Returns a row as its `public` schema has it. A row is not judged by the rules of input."""
    values = {name: getattr(row, name) for name in public.model_fields}
    shown = public.model_construct(**values)
    return public.__pydantic_serializer__.to_json(shown, by_alias=True, warnings=False)


def etag(content: bytes) -> str:
    """Returns the strong ETag (RFC 9110, section 8.8.3) of a row's JSON: a digest of it.

    `updated_at` moves with every change, to the microsecond, and so does the ETag.
    """
    return f'"{blake2b(content, digest_size=12).hexdigest()}"'


def row_response(
    row: SQLModel, public: type[BaseModel], *, if_none_match: list[str] | None = None
) -> Response:
    """Returns the answer with one row and its ETag; 304 where `if_none_match` names the ETag."""
    content = to_json(row, public)
    headers = {"ETag": etag(content)}
    if if_none_match and matches_weakly(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def created_response(request: Request, row: Any, public: type[BaseModel]) -> Response:
    """Returns the answer with a new row, its ETag, and its `Location` below the request's path."""
    response = row_response(row, public)
    response.status_code = 201
    response.headers["Location"] = f"{path_of(request)}/{row.id}"
    return response


def rows_response(rows: Sequence[SQLModel], public: type[BaseModel], status: int = 200) -> Response:
    """Returns the answer with an array of rows."""
    content = b"[%b]" % b",".join(to_json(row, public) for row in rows)
    return Response(content, status, media_type="application/json")


def path_of(request: Request) -> str:
    """Returns the path of a request as its client sees it, the prefix of a proxy included."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(path if path.startswith(root) else root + path)
