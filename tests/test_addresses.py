"""Under which names and paths the API can be reached, and where it listens."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.helpers import assert_problem, create, create_many
from tests.servers import Server, serve

PREFIX = "/x"
PROBE = {"Host": "10.1.2.3:8000"}  # as a supervisor asks: by the machine's address


@pytest.fixture(scope="module")
def prefixed(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API behind a proxy that gives it the paths below a prefix, and by one name."""
    log_path = tmp_path_factory.mktemp("prefixed") / "server.log"
    options = ("--root-path", PREFIX)
    with serve(database_url, log_path, *options, ALLOWED_HOSTS="api.example.com") as server:
        yield server


@pytest.fixture
def visitor(client: httpx2.Client, prefixed: Server) -> Iterator[httpx2.Client]:
    """A client that knows the API by its name; there are no todos yet."""
    with httpx2.Client(base_url=prefixed.base_url, headers={"Host": "api.example.com"}) as visitor:
        yield visitor


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/health", "/health/", "/health/ready", "/health/ready/"])
def test_health_is_told_to_any_host(visitor: httpx2.Client, method: str, path: str) -> None:
    assert visitor.request(method, path, headers=PROBE).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/todos", "/healthy", "/health/../api/todos", "/docs"])
def test_all_else_is_for_the_named_hosts(prefixed: Server, path: str) -> None:
    with httpx2.Client(base_url=prefixed.base_url) as stranger:
        assert_problem(stranger.get(path, headers=PROBE), 400)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/api/todos", "/api/todos/"])
def test_every_path_is_there_below_a_prefix(visitor: httpx2.Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert visitor.request(method, path).status_code == 200


def test_answers_lead_to_paths_with_the_prefix(visitor: httpx2.Client) -> None:
    created = visitor.post("/api/todos/", json={"title": "Buy milk"})
    location = created.headers["Location"]
    assert location == f"{PREFIX}/api/todos/{created.json()['id']}"
    # The proxy in front takes the prefix away again.
    assert visitor.get(location.removeprefix(PREFIX)).json() == created.json()

    create_many(visitor, "Wash up", "Sleep")
    seen, path = [], "/api/todos?limit=1"
    while path:
        page = visitor.get(path)
        seen += [todo["title"] for todo in page.json()]
        link = page.links.get("next", {}).get("url", "")
        assert link.startswith(f"{PREFIX}/api/todos?") or not link
        path = link.removeprefix(PREFIX)
    assert seen == ["Buy milk", "Wash up", "Sleep"]


def test_documentation_knows_the_prefix(visitor: httpx2.Client) -> None:
    assert visitor.get("/openapi.json").json()["servers"] == [{"url": PREFIX}]
    assert f"'{PREFIX}/openapi.json'" in visitor.get("/docs").text


def test_wrong_method_below_a_prefix_is_told_the_right_ones(visitor: httpx2.Client) -> None:
    answer = visitor.put("/api/todos/stats", json={})
    assert_problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD"


def test_compilers_name_of_the_machine_is_no_address(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/todos.db"
    triplet = "x86_64-conda-linux-gnu"
    with serve(url, tmp_path / "log", app=None, HOST=triplet) as server, server.client() as client:
        create(client)
        said = f"HOST={triplet} is no address, but a compiler's name of this machine: ignored\n"
        assert said in server.log
