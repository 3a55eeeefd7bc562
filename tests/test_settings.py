"""Settings: what is read from where, and one sentence for each that is wrong."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, free_port

STARTUP_FAILURE = 3
HIDDEN = "kept-to-itself"
SECRET_KEY = "x" * 32

Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the settings of a project in `tmp_path`, from its `.env` and these variables alone."""
    (tmp_path / "backend").mkdir()
    copy = tmp_path / "backend" / "settings.py"
    shutil.copy(ROOT / "backend" / "settings.py", copy)

    def load_with(**variables: str) -> Any:
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in {"SECRET_KEY": SECRET_KEY, **variables}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(copy))["settings"]

    return load_with


def failure(load: Load, capsys: pytest.CaptureFixture[str], **variables: str) -> str:
    """Returns the one line that a start with these variables ends with."""
    with pytest.raises(SystemExit) as stopped:
        load(**variables)
    assert stopped.value.code == STARTUP_FAILURE
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("todos.db", id="only a path"),
        pytest.param(f'"postgresql://user:{HIDDEN}@127.0.0.1/todos"', id="in quotes"),
        pytest.param(f"postgresql:/user:{HIDDEN}@127.0.0.1/todos", id="one slash"),
        pytest.param(f"postgresql://user:{HIDDEN}@127.0.0.1:port/todos", id="port in letters"),
        pytest.param(f"postgresql+asyncpg://user:{HIDDEN}@127.0.0.1/todos", id="other driver"),
        pytest.param(f"mysql://user:{HIDDEN}@127.0.0.1/todos", id="mysql"),
        pytest.param("sqlite://", id="sqlite without a file"),
        pytest.param("sqlite://todos.db", id="sqlite with two slashes"),
        pytest.param("sqlite:///:memory:", id="sqlite in memory"),
        pytest.param("sqlite:///file:todos?mode=memory&uri=true", id="sqlite in memory by mode"),
        pytest.param("sqlite:///no/such/folder/todos.db", id="sqlite in a missing folder"),
        pytest.param("sqlite:///.", id="sqlite in place of a folder"),
    ],
)
def test_wrong_database_url_is_explained(
    value: str | None, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(load, capsys, **({} if value is None else {"DATABASE_URL": value}))
    assert re.fullmatch(
        r"DATABASE_URL (is|begins|names) .+; set it in the environment or in \.env, for example "
        r"DATABASE_URL=sqlite:///\./todos\.db or "
        r"DATABASE_URL=postgresql://user:password@127\.0\.0\.1:5432/todos",
        line,
    )
    assert HIDDEN not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "x" * 31),
        ("SECRET_KEY", "-----BEGIN PRIVATE KEY-----MC4CAQAwBQYDK2Vw"),
        ("TOKEN_LIFETIME", "0"),
        ("TOKEN_LIFETIME", "a week"),
        ("AUTH_REQUIRED", "perhaps"),
        ("SIGN_IN_TRIES", "0"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "localhost:3000"),
        ("CORS_ORIGINS", "http://localhost:3000/"),
        ("CORS_ORIGINS", "http://localhost:3000,http://localhost:3000/app"),
        ("CORS_ORIGINS", "http://*.example.com"),
        ("CORS_ORIGINS", "http://localhost:3000 http://localhost:5173"),
        ("ALLOWED_HOSTS", "*.*"),
        ("ALLOWED_HOSTS", "*example.com"),
        ("ALLOWED_HOSTS", "localhost:8000"),
        ("ALLOWED_HOSTS", "http://localhost"),
        ("ALLOWED_HOSTS", "::1"),
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("LOG_LEVEL", "loud"),
        ("SQL_ECHO", "maybe"),
        ("REQUEST_TIMEOUT", "soon"),
        ("REQUEST_TIMEOUT", "1"),
        ("REQUEST_TIMEOUT", "nan"),
        ("SHUTDOWN_DELAY", "-1"),
        ("MAX_BODY_SIZE", "1MB"),
        ("DB_POOL_SIZE", "0"),
        ("DB_CONNECT_TIMEOUT", "0"),
        ("DB_CONNECT_TIMEOUT", "61"),
    ],
)
def test_wrong_setting_is_explained(
    name: str, value: str, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(load, capsys, DATABASE_URL="sqlite:///todos.db", **{name: value})
    explained = re.fullmatch(
        rf"{name} .+; set it in the environment or in \.env, for example {name}=(\S+)", line
    )
    assert explained
    load(DATABASE_URL="sqlite:///todos.db", **{name: explained[1]})  # the example is a right one


def test_missing_secret_key_is_answered_with_a_fresh_one(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [failure(load, capsys, DATABASE_URL="sqlite:///todos.db", SECRET_KEY="")]
    lines.append(failure(load, capsys, DATABASE_URL="sqlite:///todos.db", SECRET_KEY=""))
    keys = [line.partition("for example SECRET_KEY=")[2] for line in lines]
    assert keys[0] != keys[1]
    for line, key in zip(lines, keys, strict=True):
        assert line.startswith("SECRET_KEY is not set; set it in the environment or in .env,")
        settings = load(DATABASE_URL="sqlite:///todos.db", SECRET_KEY=key)
        assert settings.secret_key.get_secret_value() == key


def test_secret_key_is_never_shown(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(DATABASE_URL="sqlite:///todos.db", SECRET_KEY=4 * HIDDEN)
    assert HIDDEN not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    line = failure(load, capsys, DATABASE_URL="sqlite:///todos.db", SECRET_KEY=HIDDEN)
    assert HIDDEN not in line


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_name_of_postgresql_means_psycopg2(scheme: str, load: Load) -> None:
    settings = load(DATABASE_URL=f"{scheme}://user:{HIDDEN}@127.0.0.1:5432/todos")
    assert settings.database_url.drivername == "postgresql+psycopg2"
    assert settings.database_url.password == HIDDEN


def test_relative_sqlite_file_is_in_the_project(load: Load, tmp_path: Path) -> None:
    settings = load(DATABASE_URL="sqlite:///./todos.db")
    assert settings.database_url.database == str(tmp_path / "todos.db")


def test_absolute_sqlite_file_stays(load: Load, tmp_path: Path) -> None:
    settings = load(DATABASE_URL=f"sqlite:///{tmp_path}/backend/todos.db")
    assert settings.database_url.database == str(tmp_path / "backend/todos.db")


def test_lists_are_separated_by_commas(load: Load) -> None:
    settings = load(
        DATABASE_URL="sqlite:///todos.db",
        CORS_ORIGINS="http://Localhost:5173, https://todos.example.com,",
        ALLOWED_HOSTS="*.example.com,[::1],127.0.0.1",
    )
    assert settings.cors_origins == ["http://localhost:5173", "https://todos.example.com"]
    assert settings.allowed_hosts == ["*.example.com", "[::1]", "127.0.0.1"]


def test_log_level_may_be_in_capitals(load: Load) -> None:
    assert load(DATABASE_URL="sqlite:///todos.db", LOG_LEVEL="WARNING").log_level == "warning"


def test_environment_wins_over_dotenv(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///todos.db\nPORT=8001\nWORKERS=2\n")
    settings = load(PORT="8002")
    assert (settings.port, settings.workers) == (8002, 2)


@pytest.mark.parametrize(
    "line",
    [
        'DATABASE_URL="sqlite:///a.db"',
        "export DATABASE_URL=sqlite:///a.db",
        "DATABASE_URL = sqlite:///a.db  # the file",
        "\ufeffDATABASE_URL=sqlite:///a.db\r",
    ],
    ids=["in quotes", "exported", "with blanks and a comment", "written on Windows"],
)
def test_dotenv_may_be_written_in_other_ways(line: str, load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(line + "\n")
    assert load().database_url.database == str(tmp_path / "a.db")


def test_misspelt_name_in_dotenv_is_pointed_out(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(
        "DATABASE_URL=sqlite:///todos.db\nCORS_ORIGIN=http://localhost:5173\nPOSTGRES_USER=me\n"
    )
    load()
    said = "CORS_ORIGIN in .env is not a setting; did you mean CORS_ORIGINS?\n"
    assert capsys.readouterr().err == said


def test_dotenv_that_is_no_text_is_explained(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///todos.db", encoding="utf-16")
    assert failure(load, capsys) == (
        ".env cannot be read; save it as a text file in UTF-8, as .env.example is"
    )


def test_sample_explains_each_setting_and_names_its_default(load: Load, tmp_path: Path) -> None:
    sample = (ROOT / ".env.example").read_text()
    defaults = load(DATABASE_URL="sqlite:///./todos.db")
    (tmp_path / ".env").write_text(re.sub(r"^# (?=[A-Z_]+=)", "", sample, flags=re.MULTILINE))
    assert load().model_dump() == defaults.model_dump()
    named = re.findall(r"^(?:# )?([A-Z_]+)=", sample, flags=re.MULTILINE)
    assert named == [name.upper() for name in type(defaults).model_fields]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-m", "uvicorn", "backend.main:app", "--port"], marks=pytest.mark.slow),
        ["-m", "uvicorn", "backend.main:app", "--workers", "2", "--port"],
        pytest.param(["-m", "backend"], marks=pytest.mark.slow),
        ["-m", "backend", "--reload"],
    ],
    ids=["uvicorn", "uvicorn with workers", "backend", "backend with reload"],
)
def test_wrong_setting_stops_every_way_to_start(command: list[str]) -> None:
    port = str(free_port())
    run = subprocess.run(
        [sys.executable, *command, *([port] if command[-1] == "--port" else [])],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": f"mysql://user:{HIDDEN}@127.0.0.1/todos"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "DATABASE_URL begins with mysql://" in run.stderr
    assert "Traceback" not in run.stderr
    assert HIDDEN not in run.stderr
    if "--workers" not in command:  # whose parent stops as well, but with 0
        assert run.returncode == STARTUP_FAILURE


@pytest.mark.parametrize(
    "triplet",
    [
        "x86_64-conda-linux-gnu",
        "aarch64-conda-linux-gnu",
        "x86_64-conda_cos6-linux-gnu",
        "x86_64-apple-darwin13.4.0",
        "arm64-apple-darwin20.0.0",
        "x86_64-w64-mingw32",
    ],
)
def test_compilers_name_of_the_machine_is_no_host(load: Load, triplet: str) -> None:
    assert load(DATABASE_URL="sqlite:///todos.db", HOST=triplet).host == "127.0.0.1"


@pytest.mark.parametrize("host", ["10.1.2.3", "::1", "localhost", "my-web-linux.example.com"])
def test_host_may_be_an_address_or_a_name(load: Load, host: str) -> None:
    assert load(DATABASE_URL="sqlite:///todos.db", HOST=host).host == host
