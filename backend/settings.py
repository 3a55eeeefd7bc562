"""The settings: read once from the environment and `.env`, checked, and typed."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

# uvicorn's own exit status for "cannot start": its supervisor of several workers
# then stops, instead of starting the worker again for ever.
STARTUP_FAILURE = 3


def parse_database_url(value: str) -> URL:
    """Returns the SQLAlchemy URL of a supported database, with its driver named.

    `postgres://` and `postgresql://` mean psycopg2 here. Raises `ValueError` for
    a malformed URL, another kind of database, or SQLite without a file.
    """
    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as error:
        raise ValueError("is not a database URL") from error
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg2"):
        return url.set(drivername="postgresql+psycopg2")
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(f"names {url.drivername!r}, which is neither sqlite nor postgresql")
    if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
        raise ValueError("names no file: an in-memory SQLite is another one on each connection")
    return url


def split_commas(value: str) -> list[str]:
    """Returns the items of a comma-separated list, without blanks."""
    return [item.strip() for item in value.split(",") if item.strip()]


CommaSeparated = Annotated[list[str], BeforeValidator(split_commas)]


class Settings(BaseModel):
    """Everything that can be set; `.env.example` explains each variable."""

    model_config = ConfigDict(alias_generator=str.upper, arbitrary_types_allowed=True, frozen=True)

    database_url: Annotated[URL, BeforeValidator(parse_database_url)] = Field(
        examples=["sqlite:///./todos.db", "postgresql://user:password@127.0.0.1:5432/todos"]
    )
    cors_origins: CommaSeparated = Field(
        default=["http://localhost:3000", "http://127.0.0.1:3000"],
        examples=["http://localhost:3000,https://todos.example.com"],
    )
    allowed_hosts: CommaSeparated = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        examples=["localhost,127.0.0.1,api.example.com"],
    )
    host: str = Field(default="127.0.0.1", examples=["127.0.0.1"])
    port: int = Field(default=8000, ge=1, le=65535, examples=["8000"])
    workers: int = Field(default=1, ge=1, le=64, examples=["4"])
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", examples=["info"]
    )
    sql_echo: bool = Field(default=False, examples=["false"])
    request_timeout: float = Field(default=10, ge=1, le=300, examples=["10"])
    max_body_size: int = Field(default=1024 * 1024, ge=1024, examples=["1048576"])
    db_pool_size: int = Field(default=20, ge=1, le=200, examples=["20"])
    db_connect_timeout: int = Field(default=3, ge=2, le=60, examples=["3"])


def load_settings() -> Settings:
    """Returns the settings; ends the process with one sentence when one is wrong.

    A variable of the real environment wins over `.env` in the project's root; an
    empty one counts as not set.
    """
    dotenv = Path(__file__).parent.parent / ".env"
    variables = {**dotenv_values(dotenv), **os.environ}
    try:
        return Settings.model_validate({name: value for name, value in variables.items() if value})
    except ValidationError as error:
        sys.stderr.write(explain(error) + "\n")
        raise SystemExit(STARTUP_FAILURE) from None


def explain(error: ValidationError) -> str:
    """Returns one sentence on the first wrong setting; never its value, which may be secret."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    example = " or ".join(
        f"{name}={value}" for value in Settings.model_fields[name.lower()].examples or []
    )
    problem = {
        "missing": "is not set",
        "value_error": str(first.get("ctx", {}).get("error")),
    }.get(first["type"], f"is wrong: {first['msg'][0].lower()}{first['msg'][1:]}")
    return f"{name} {problem}; set it in the environment or in .env, for example {example}"


settings = load_settings()
