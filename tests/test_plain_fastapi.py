"""What FastAPI's documentation shows works here: routers, dependencies, tests, scripts."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.databases import stored_titles
from tests.helpers import assert_problem, titles
from tests.resources import RESOURCES, same_client
from tests.servers import ROOT, SECRET_KEY, serve

ORIGIN = {"Origin": "http://localhost:3000"}
WORD = {"X-Word": "please"}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
TIMEOUT = 60.0  # seconds

SCRIPT = """
from sqlmodel import select

from backend.database import reading, writing
from backend.models import Todo

with writing() as session:
    session.add(Todo(title="Buy milk", status="active"))
    session.add(Todo(title="Wash up", status="completed"))
with reading() as session:
    print([todo.title for todo in session.exec(select(Todo).order_by(Todo.id))])
"""
SLOW_SCRIPT = """
from sqlalchemy import text

from backend.database import reading

with reading() as session:
    print(session.scalar(text("SELECT 1 FROM pg_sleep(2.5)")))
"""
OVERRIDING = """
from fastapi.testclient import TestClient

from tests.extended import guarded, require_word

with TestClient(guarded, base_url="http://localhost") as client:
    print(client.get("/api/todos").status_code)
    guarded.dependency_overrides[require_word] = lambda: None
    print(client.get("/api/todos").status_code)
"""


def run(database_url: str, *command: str, **variables: str) -> str:
    """Runs a program with the database of these tests; returns what it printed."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=ROOT,
        env={
            **os.environ,
            **{"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY, "PYTHONPATH": str(ROOT)},
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def made_url(own_database_url: str, log_path: Path) -> str:
    """The URL of a database whose tables were made by a start."""
    with serve(own_database_url, log_path):
        return own_database_url


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of the app with a router of one's own."""
    folder = tmp_path_factory.mktemp("extended")
    url, log = f"sqlite:///{folder}/todos.db", folder / "server.log"
    with serve(url, log, app="tests.extended:app") as server, server.client() as client:
        yield client


def test_router_of_ones_own_has_errors_in_our_shape(extended: httpx2.Client) -> None:
    teapot = extended.get("/extra/teapot", headers=ORIGIN)
    assert assert_problem(teapot, 418)["detail"] == "It is a teapot"
    assert teapot.headers["X-Tea"] == "green"
    defect = extended.get("/extra/defect", headers=ORIGIN)
    assert assert_problem(defect, 500)["detail"] == "Something went wrong on our side"
    assert "Zaphod" not in defect.text
    wrong = extended.post("/extra/things", json={"size": "Zaphod"}, headers=ORIGIN)
    assert assert_problem(wrong, 422)["errors"][0]["loc"] == ["body", "size"]
    assert "Zaphod" not in wrong.text
    json = {"Content-Type": "application/json"}
    assert_problem(extended.post("/extra/things", content=b'{"size": Zaphod', headers=json), 422)
    untyped = extended.post("/extra/things", content=b'{"size": 1}', headers=ORIGIN)
    assert_problem(untyped, 415)
    method = extended.delete("/extra/things", headers=ORIGIN)
    assert_problem(method, 405)
    assert method.headers["Allow"] == "POST"
    for response in (teapot, defect, wrong, untyped, method):
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert response.headers["X-Request-ID"]


def test_router_of_ones_own_has_slashes_head_and_documentation(extended: httpx2.Client) -> None:
    assert extended.post("/extra/things/", json={"size": 1}).json() == {"size": 1}
    assert extended.head("/extra/teapot").status_code == 418
    document = extended.get("/openapi.json").json()
    described = document["paths"]["/extra/things"]["post"]
    assert described["operationId"] == "create_thing"
    assert set(described["responses"]) >= {"200", "400", "413", "415", "422", "500"}
    problem = described["responses"]["422"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/ValidationProblem"}


def test_dependency_of_the_app_guards_every_route(tmp_path: Path, log_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/todos.db"
    with (
        serve(url, log_path, app="tests.extended:guarded", wait_for="/docs") as server,
        server.client() as client,
    ):
        routes = [("GET", "/", None), ("GET", "/health", None), ("GET", "/api/todos/stats", None)]
        for resource in RESOURCES:
            if resource.sign_in is same_client:
                routes += resource.requests(1)
        for method, path, body in routes:
            refused = client.request(method, path, json=body)
            assert assert_problem(refused, 401)["detail"] == "Say the word", (method, path)
            assert refused.headers["WWW-Authenticate"] == "Word"
        assert stored_titles(url) == []
        client.headers.update(WORD)
        assert client.post("/api/todos", json={"title": "Buy milk"}).status_code == 201
        assert titles(client) == ["Buy milk"]


def test_dependency_can_be_overridden(tmp_path: Path) -> None:
    script = tmp_path / "overriding.py"
    script.write_text(OVERRIDING)
    output = run(f"sqlite:///{tmp_path}/todos.db", str(script))
    assert output.split() == ["401", "200"]


@pytest.mark.parametrize("own_database_url", ["sqlite"], indirect=True)
def test_readmes_own_test_passes(own_database_url: str, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in BLOCK.findall(readme) if "TestClient" in block)
    own = tmp_path / "test_own.py"
    own.write_text(block)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    no_plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # these take seconds to import
    output = run(own_database_url, "-m", "pytest", *options, str(own), **no_plugins)
    assert "1 passed" in output
    assert stored_titles(own_database_url) == ["Buy milk"]


@pytest.mark.first_on("sqlite")
def test_script_uses_the_sessions_outside_of_a_request(made_url: str, tmp_path: Path) -> None:
    script = tmp_path / "seed.py"
    script.write_text(SCRIPT)
    assert run(made_url, str(script)).strip() == "['Buy milk', 'Wash up']"
    assert stored_titles(made_url) == ["Buy milk", "Wash up"]


@pytest.mark.slow
@pytest.mark.parametrize("own_database_url", ["postgresql"], indirect=True)
def test_script_has_no_deadline(own_database_url: str, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW_SCRIPT)
    assert run(own_database_url, str(script), REQUEST_TIMEOUT="2").strip() == "1"


def test_fastapis_own_command_finds_the_app() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, name = project["tool"]["fastapi"]["entrypoint"].partition(":")
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    assert (module, name) == ("backend.main", "app")
