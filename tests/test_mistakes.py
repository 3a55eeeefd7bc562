"""Mistakes that people make: each leads to its mend within one line of the log or the answer."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel, Field

from backend.core.tables import TableModel
from backend.models import Todo
from tests.helpers import assert_problem, wait_until
from tests.servers import ROOT, Server, serve

RESTART_TIMEOUT = 30.0  # seconds
FRONTEND = "http://localhost:5173"
JSON = {"Content-Type": "application/json"}


class Misspelt(BaseModel):
    """A schema with a field that todos do not have, and one that is not meant for them."""

    title: str = "Buy milk"
    statsu: str = "active"
    note: str = Field(default="", exclude=True)


def misspelt() -> Any:
    return {"title": "Buy milk", "status": "active", "statsu": "active"}


def made() -> Todo:
    return Todo(title="Buy milk", status="active")


MISSPELT: dict[str, Callable[[], object]] = {
    "constructor": lambda: Todo(**misspelt()),
    "dict": lambda: Todo.model_validate({"title": "Buy milk", "statsu": "active"}),
    "schema": lambda: Todo.model_validate(Misspelt()),
    "addition": lambda: Todo.model_validate(made().model_dump(), update={"statsu": "active"}),
    "change": lambda: made().sqlmodel_update({"statsu": "active"}),
    "change by a schema": lambda: made().sqlmodel_update(Misspelt()),
}


@pytest.mark.parametrize("make", MISSPELT.values(), ids=MISSPELT)
def test_misspelt_field_of_a_row_is_an_error_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"^Todo has no field 'statsu'; did you mean 'status'\?$"):
        make()


def test_fields_that_are_not_meant_for_the_table_are_left_out() -> None:
    class Fitting(BaseModel):
        title: str = "Buy milk"
        status: str = "active"
        password: str = Field(default="hidden", exclude=True)

    row = Todo.model_validate(Fitting(), update={"title": "Buy oat milk"})
    assert (row.title, row.status) == ("Buy oat milk", "active")
    assert issubclass(Todo, TableModel)


def test_page_on_another_port_is_pointed_out_once(server: Server, client: httpx2.Client) -> None:
    origin = {"Origin": FRONTEND}
    asking = {**origin, "Access-Control-Request-Method": "POST"}
    for _ in range(3):
        client.get("/api/todos", headers=origin)
        client.options("/api/todos", headers=asking)
    client.get("/api/todos", headers={"Origin": "http://localhost:3000"})
    client.get("/api/todos", headers={"Origin": "http://evil\x7f.example"})
    lines = [line for line in server.log.splitlines() if "may not call this API" in line]
    assert [line for line in lines if "localhost" in line] == lines
    (line,) = [line for line in lines if FRONTEND in line]
    assert line.endswith(
        f"the page on {FRONTEND} may not call this API; if it is yours, set "
        f"CORS_ORIGINS=http://localhost:3000,http://127.0.0.1:3000,{FRONTEND}"
    )


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param("{title: Buy milk}", "line 1 column 2", id="quotes lost in the shell"),
        pytest.param("{'title': 'Buy milk'}", "line 1 column 2", id="single quotes"),
        pytest.param('{"title": "Buy milk",}', "line 1 column 22", id="comma at the end"),
        pytest.param('{"title": "Buy milk"', "line 1 column 20", id="brace missing"),
    ],
)
def test_broken_json_is_said_where_and_what_was_expected(
    client: httpx2.Client, body: str, where: str
) -> None:
    problem = assert_problem(client.post("/api/todos", content=body, headers=JSON), 422)
    (error,) = problem["errors"]
    assert (error["loc"], error["type"]) == (["body"], "json_invalid")
    assert error["msg"].startswith("Input should be valid JSON: ")
    assert error["msg"].endswith(f" at {where}")
    assert problem["detail"] == f"body: {error['msg']}"
    assert "milk" not in str(problem)


def test_sqlite_url_with_two_slashes_is_told_of_three() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "backend"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": "sqlite://todos.db"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "DATABASE_URL names a host, where a file takes three slashes: sqlite:///;"
    )


def test_readme_says_how_to_end_answers_with_a_newline() -> None:
    assert (ROOT / "README.md").read_text().count(".curlrc") == 1


FAILING_TEST = """
import httpx2

def test_that_fails(client: httpx2.Client) -> None:
    assert client.post("/api/todos", content="{").status_code == 201
"""


@pytest.mark.slow
def test_failing_test_shows_what_the_server_logged(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(FAILING_TEST)
    only = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-m", "", "-k", "sqlite")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", tmp_path, *only, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    _, _, log = ended.stdout.partition("server.log ---")
    lines = [line for line in log.splitlines() if "INFO backend" in line]
    assert " POST /api/todos 4" in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), True), pytest.param(("-m", ""), False, marks=pytest.mark.slow)],
    ids=["default", "all"],
)
def test_default_run_says_what_it_left_out(arguments: tuple[str, ...], said: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "tests/test_process.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    sentence = "Left out as slow: 1; to run them: ./run_dev.sh test -m slow -n 0"
    assert (sentence in ended.stdout) == said


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, whose files may be changed."""
    folder = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "backend", folder / "backend", ignore=ignored)
    (folder / ".env").write_text("# Nothing is set here yet.\n")
    return folder


@pytest.fixture
def reloading(project: Path, tmp_path: Path) -> Iterator[Server]:
    """The API as it runs while one develops."""
    url = f"sqlite:///{tmp_path}/todos.db"
    with serve(url, tmp_path / "log", "--reload", app=None, root=project) as server:
        yield server


def test_edit_of_dotenv_restarts_the_server(reloading: Server, project: Path) -> None:
    (project / ".env").write_text("CORS_ORIGINS=https://todos.example\nSHUTDOWN_DELAY=0\n")
    origin = {"Origin": "https://todos.example"}

    def has_restarted() -> bool:
        try:
            answer = httpx2.get(f"{reloading.base_url}/health", headers=origin)
        except httpx2.TransportError:
            return False
        return answer.headers.get("Access-Control-Allow-Origin") == origin["Origin"]

    wait_until(has_restarted, RESTART_TIMEOUT)
    assert "detected changes in '.env'" in reloading.log
    assert "Pool" not in reloading.log


@pytest.mark.parametrize(
    ("file", "mistake", "last_line"),
    [
        pytest.param(
            "backend/models.py",
            "strr",
            "NameError: name 'strr' is not defined",
            id="typo in a model",
        ),
        pytest.param(
            ".env",
            "LOG_LEVEL=loud",
            "LOG_LEVEL is wrong: ",
            id="wrong setting",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mistake_under_reload_ends_the_log_and_hangs_nobody(
    reloading: Server, project: Path, file: str, mistake: str, last_line: str
) -> None:
    right = (project / file).read_text()
    (project / file).write_text(f"{right}\n{mistake}\n")
    wait_until(lambda: last_line in reloading.log, RESTART_TIMEOUT)
    assert reloading.log.splitlines()[-1].startswith(last_line)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{reloading.base_url}/health", timeout=3)
    (project / file).write_text(right)

    def is_back() -> bool:
        try:
            return httpx2.get(f"{reloading.base_url}/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    wait_until(is_back, RESTART_TIMEOUT)
