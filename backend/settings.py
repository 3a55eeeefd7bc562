"""The settings: read once from the environment and `.env`, checked, and typed."""

import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Literal, NoReturn

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

# uvicorn's own exit status for "cannot start": its supervisor of several workers
# then stops, instead of starting the worker again for ever.
STARTUP_FAILURE = 3

ROOT = Path(__file__).parent.parent

# An origin as browsers send it, and a name as the Host header carries it.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+")
HOST_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")

SECRET_LENGTH = 32  # bytes, as many as HS256 makes of it (RFC 7518, section 3.2)
KEY_OF_ANOTHER_KIND = re.compile(r"-----BEGIN |ssh-|ecdsa-")

TRIPLET = re.compile(r"[a-z0-9_]+-[a-z0-9_]+-(linux-[a-z]+|darwin[0-9.]*|mingw32)")


def parse_database_url(value: str) -> URL:
    """Returns the SQLAlchemy URL of a supported database, with its driver named.

    `postgres://` and `postgresql://` mean psycopg2 here, and a relative SQLite file is
    one in the project's root. Raises `ValueError` for a malformed URL, another kind of
    database, or SQLite without a file.
    """
    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as error:
        raise ValueError("is not a database URL") from error
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg2"):
        return url.set(drivername="postgresql+psycopg2")
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(f"begins with {url.drivername}://, not sqlite:// or postgresql://")
    if url.host:
        raise ValueError("names a host, where a file takes three slashes: sqlite:///")
    if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
        raise ValueError("names no file: an in-memory SQLite is another one on each connection")
    file = ROOT / url.database
    if not file.parent.is_dir() or file.is_dir():
        raise ValueError("names no file in an existing folder")
    return url.set(database=str(file))


def split_commas(value: str) -> list[str]:
    """Returns the items of a comma-separated list, without blanks and in lower case."""
    return [item.strip().lower() for item in value.split(",") if item.strip()]


def check_origin(value: str) -> str:
    """Returns an origin of CORS. Raises `ValueError` for what no browser sends."""
    if not ORIGIN.fullmatch(value):
        raise ValueError(
            "holds more than origins: scheme://host or scheme://host:port, no path and no *"
        )
    return value


def check_host_name(value: str) -> str:
    """Returns a host name or a pattern of them. Raises `ValueError` for what matches none."""
    if not HOST_NAME.fullmatch(value):
        raise ValueError("holds more than host names: no scheme, no port, and * only in front")
    return value


def ignore_triplet(value: str) -> str:
    """Returns where to listen; the default where a compiler's name of the machine stands.

    conda's compilers export one as `HOST`, to whoever has them installed.
    """
    if not TRIPLET.fullmatch(value):
        return value
    sys.stderr.write(
        f"HOST={value} is no address, but a compiler's name of this machine: ignored\n"
    )
    return "127.0.0.1"


def check_secret(value: SecretStr) -> SecretStr:
    """Returns what tokens are signed with. Raises `ValueError` when it is short, or no secret."""
    secret = value.get_secret_value()
    if len(secret.encode(errors="surrogateescape")) < SECRET_LENGTH:
        raise ValueError(f"is too short: it takes {SECRET_LENGTH} random characters or more")
    if KEY_OF_ANOTHER_KIND.match(secret):
        raise ValueError("is a key of another kind: it takes random characters alone")
    return value


CommaSeparated = BeforeValidator(split_commas)
Origin = Annotated[str, AfterValidator(check_origin)]
HostName = Annotated[str, AfterValidator(check_host_name)]


class Settings(BaseModel):
    """Everything that can be set; `.env.example` explains each variable."""

    model_config = ConfigDict(alias_generator=str.upper, arbitrary_types_allowed=True, frozen=True)

    database_url: Annotated[URL, BeforeValidator(parse_database_url)] = Field(
        examples=["sqlite:///./todos.db", "postgresql://user:password@127.0.0.1:5432/todos"]
    )
    secret_key: Annotated[SecretStr, AfterValidator(check_secret)] = Field(
        examples=[token_urlsafe(SECRET_LENGTH)]
    )
    token_lifetime: int = Field(default=7 * 24 * 3600, ge=1, le=10**9, examples=["604800"])
    auth_required: bool = Field(default=False, examples=["false"])
    sign_in_tries: int = Field(default=10, ge=1, le=10**6, examples=["10"])
    cors_origins: Annotated[list[Origin], CommaSeparated] = Field(
        default=["http://localhost:3000", "http://127.0.0.1:3000"],
        examples=["http://localhost:3000,https://todos.example.com"],
    )
    allowed_hosts: Annotated[list[HostName], CommaSeparated] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        examples=["localhost,127.0.0.1,api.example.com"],
    )
    host: Annotated[str, BeforeValidator(ignore_triplet)] = Field(
        default="127.0.0.1", examples=["127.0.0.1"]
    )
    port: int = Field(default=8000, ge=1, le=65535, examples=["8000"])
    workers: int = Field(default=1, ge=1, le=64, examples=["4"])
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field(default="info", examples=["info"])
    sql_echo: bool = Field(default=False, examples=["false"])
    request_timeout: float = Field(default=10, ge=2, le=300, examples=["10"])
    shutdown_delay: float = Field(default=0, ge=0, le=60, examples=["5"])
    max_body_size: int = Field(default=1024 * 1024, ge=1024, examples=["1048576"])
    db_pool_size: int = Field(default=20, ge=1, le=200, examples=["20"])
    db_connect_timeout: int = Field(default=3, ge=1, le=60, examples=["3"])


def load_settings() -> Settings:
    """Returns the settings; ends the process with one sentence when one is wrong.

    A variable of the real environment wins over `.env` in the project's root; an
    empty one counts as not set.
    """
    try:
        dotenv = dotenv_values(ROOT / ".env", encoding="utf-8-sig")
    except (OSError, UnicodeError):
        stop(".env cannot be read; save it as a text file in UTF-8, as .env.example is")
    point_out_misspellings(dotenv)
    variables = {**dotenv, **os.environ}
    try:
        return Settings.model_validate({name: value for name, value in variables.items() if value})
    except ValidationError as error:
        stop(explain(error))


def point_out_misspellings(names: Iterable[str]) -> None:
    """Says which names in `.env` are nearly those of a setting, and so have no effect."""
    known = [field.upper() for field in Settings.model_fields]
    for name in names:
        meant = get_close_matches(name.upper(), known, n=1, cutoff=0.75)
        if meant and name not in known:
            sys.stderr.write(f"{name} in .env is not a setting; did you mean {meant[0]}?\n")


def stop(sentence: str) -> NoReturn:
    """Ends the process before it serves, with a sentence for the person who started it."""
    sys.stderr.write(sentence + "\n")
    raise SystemExit(STARTUP_FAILURE)


def explain(error: ValidationError) -> str:
    """Returns one sentence on the first wrong setting; never its value, which may be secret."""
    first = error.errors()[0]
    name = str(first["loc"][0]).upper()
    example = " or ".join(
        f"{name}={value}" for value in Settings.model_fields[name.lower()].examples or []
    )
    problem = {
        "missing": "is not set",
        "value_error": str(first.get("ctx", {}).get("error")),
    }.get(first["type"], f"is wrong: {first['msg'][0].lower()}{first['msg'][1:]}")
    return f"{name} {problem}; set it in the environment or in .env, for example {example}"


settings = load_settings()
