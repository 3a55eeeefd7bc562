"""A todo as JSON, made by the database, and the ETag of that JSON."""

from hashlib import blake2b
from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class todo_json(FunctionElement[str]):  # noqa: N801 - stands in statements as a SQL function
    """The public JSON of a row of `todos`, as text, for a SELECT list or a RETURNING clause.

    Every answer with todos is made of it, so a todo reads the same, byte for byte,
    wherever it stands and whichever database it is from. It is also the cheap way:
    rows are not turned into objects and the objects back into JSON.
    """

    name = "todo_json"
    type = String()
    inherit_cache = True  # without this, every statement with it is compiled anew


@compiles(todo_json, "postgresql")
def _(element: todo_json, compiler: SQLCompiler, **kw: Any) -> str:
    time = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    members = {
        "id": "id",
        "title": "to_json(title)",
        "status": "to_json(status)",
        "created_at": f"to_json({time.format('created_at')})",
        "updated_at": f"to_json({time.format('updated_at')})",
    }
    # Not json_build_object, which puts white space between the members.
    text = ", ',', ".join(f"'\"{name}\":', {value}" for name, value in members.items())
    return f"concat('{{', {text}, '}}')"


@compiles(todo_json, "sqlite")
def _(element: todo_json, compiler: SQLCompiler, **kw: Any) -> str:
    return (
        "json_object('id', id, 'title', title, 'status', status,"
        " 'created_at', replace(created_at, ' ', 'T') || 'Z',"
        " 'updated_at', replace(updated_at, ' ', 'T') || 'Z')"
    )


def etag(todo: str) -> str:
    """Returns the strong ETag (RFC 9110, section 8.8.3) of a todo's JSON: a digest of it.

    `updated_at` moves with every change, to the microsecond, and so does the ETag.
    """
    return f'"{blake2b(todo.encode(), digest_size=12).hexdigest()}"'
