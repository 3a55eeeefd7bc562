"""What a route of one's own does wrong loses nothing, and holds nobody up."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.databases import execute, query
from tests.faults.clients import timed
from tests.faults.postgres import OTHER_SESSIONS, end_sessions
from tests.helpers import assert_problem, at_once
from tests.servers import Server, serve

REQUEST_TIMEOUT = 2.0
SLACK = 0.5  # for a busy machine

# What the routes in extended.py use.
TABLE = "CREATE TABLE words (word VARCHAR(20) PRIMARY KEY)"


@pytest.fixture(scope="module")
def extended(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API with further routes, a short time for each request, and few connections."""
    execute(database_url, "DROP TABLE IF EXISTS words", TABLE)
    log_path = tmp_path_factory.mktemp("extended") / "server.log"
    with serve(
        database_url,
        log_path,
        app="tests.faults.extended:app",
        REQUEST_TIMEOUT=str(REQUEST_TIMEOUT),
        DB_POOL_SIZE="1",
    ) as server:
        yield server
    execute(database_url, "DROP TABLE words")


@pytest.fixture
def caller(extended: Server) -> Iterator[httpx2.Client]:
    """A client of it; one word is taken."""
    execute(extended.database_url, "DELETE FROM words", "INSERT INTO words VALUES ('taken')")
    with extended.client() as client:
        yield client


def words(server: Server) -> list[str]:
    """Returns the words that are stored."""
    return [word for (word,) in query(server.database_url, "SELECT word FROM words ORDER BY word")]


def test_what_is_acknowledged_after_a_caught_error_is_there(
    extended: Server, caller: httpx2.Client
) -> None:
    answer = caller.post("/failures/harmless", params={"word": "new"})
    if extended.database_url.startswith("sqlite"):  # only the statement has failed
        assert answer.status_code == 200
        assert words(extended) == ["new", "taken"]
    else:
        assert_problem(answer, 500)
        assert words(extended) == ["taken"]
        assert "nothing was committed" in extended.log


def test_transaction_that_sqlite_took_back_is_not_acknowledged(
    extended: Server, caller: httpx2.Client
) -> None:
    if not extended.database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL has no statement that takes the transaction back by itself")
    for path in ("/failures/fatal", "/failures"):
        assert_problem(caller.post(path, params={"word": "new"}), 500)
        assert words(extended) == ["taken"]
    assert caller.post("/failures/harmless", params={"word": "new"}).status_code == 200


def test_what_is_taken_back_stays_unseen(extended: Server, caller: httpx2.Client) -> None:
    answers = at_once(4, lambda number: caller.post("/defects", params={"word": f"{number}"}))
    assert {answer.status_code for answer in answers} == {500}
    # By the connections that wrote it, and by others.
    assert [caller.get("/words").json() for _ in range(4)] == [["taken"]] * 4
    assert words(extended) == ["taken"]


def test_statement_that_begins_after_the_deadline_is_cut_off(caller: httpx2.Client) -> None:
    answer = timed(caller, "GET", "/pauses", params={"seconds": 0.95 * REQUEST_TIMEOUT})
    assert_problem(answer.response, 503)
    assert answer.seconds < REQUEST_TIMEOUT + SLACK
    assert caller.get("/words").json() == ["taken"]


@pytest.mark.parametrize(
    "late",
    [pytest.param(0, id="at once", marks=pytest.mark.slow), pytest.param(1.5, id="late")],
)
def test_sessions_one_in_another_end_in_time(caller: httpx2.Client, late: float) -> None:
    answer = timed(caller, "GET", "/nested", params={"seconds": late})
    assert_problem(answer.response, 503)
    assert answer.seconds < REQUEST_TIMEOUT + SLACK
    assert caller.get("/words").json() == ["taken"]


def test_connections_that_were_cut_off_are_forgotten(
    extended: Server, caller: httpx2.Client
) -> None:
    if extended.database_url.startswith("sqlite"):
        pytest.skip("SQLite's connections go on after they were cut off")
    end_sessions(extended.database_url)
    assert caller.get("/words").status_code == 200  # on a new one
    pause = {"seconds": REQUEST_TIMEOUT / 2}
    at_once(2, lambda number: caller.get("/pauses", params=pause))
    assert caller.get("/connections").json() == 0


@pytest.mark.slow
def test_requests_that_waited_too_long_cost_no_connection(
    extended: Server, caller: httpx2.Client
) -> None:
    if extended.database_url.startswith("sqlite"):
        pytest.skip("SQLite's connections cannot be told apart from outside")
    pids = f"SELECT pid {OTHER_SESSIONS} AND state = 'idle'"
    assert caller.get("/words").status_code == 200
    before = set(query(extended.database_url, pids))
    time.sleep(0.3)  # in which the sessions of this test itself are gone
    before &= set(query(extended.database_url, pids))
    with ThreadPoolExecutor(5) as background:
        pause = {"seconds": 1.1 * REQUEST_TIMEOUT}
        first = background.submit(caller.get, "/nested", params=pause)  # in the only thread
        time.sleep(0.1)
        waiting = [background.submit(caller.get, "/words") for _ in range(4)]
    for each in [first, *waiting]:
        assert_problem(each.result(), 503)
    assert before
    assert before <= set(query(extended.database_url, pids))


def test_error_with_only_a_description_is_documented(caller: httpx2.Client) -> None:
    document = caller.get("/openapi.json").json()
    for path, status in (("/failures/{how}", "404"), ("/words", "503")):
        (operation,) = document["paths"][path].values()
        content = operation["responses"][status]["content"]
        assert content["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    (operation,) = document["paths"]["/failures/{how}"].values()
    assert operation["responses"]["404"]["description"] == "No such way to fail"
