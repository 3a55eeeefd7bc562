"""How many instructions a request takes: what no other program on the machine changes.

Rates on a shared machine move by more than a change of some percent. The instructions of the
server's process, counted by valgrind, do not; but they say nothing of the system and of the
database.
"""

import re
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmark.contest import Contestant
from tests.benchmark.load import Load
from tests.databases import create_postgres_database
from tests.helpers import wait_until
from tests.servers import serve

FIRST = 100  # requests, in which everything is made that is made once
COUNTED = 800
SLOWNESS = "120"  # seconds; under valgrind everything takes fifty times as long
COUNT = (
    *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
    "--cachegrind-out-file=/dev/null",
)


def instructions(server_url: str, checkout: Path, load: Load) -> float:
    """Returns the instructions of one request to the API of a checkout."""
    few, many = (count(server_url, checkout, load, times) for times in (FIRST, FIRST + COUNTED))
    return (many - few) / COUNTED


def count(server_url: str, checkout: Path, load: Load, times: int) -> int:
    """Returns the instructions of a server, from its start to its end after so many requests."""
    with ExitStack() as stack:
        log = Path(stack.enter_context(TemporaryDirectory())) / "server.log"
        url = create_postgres_database(server_url).replace("postgresql", "postgresql+psycopg2", 1)
        with serve(url, log, app=None, root=checkout):
            pass  # so that the one that counts finds its tables
        with serve(
            url,
            log,
            app=None,
            root=checkout,
            under=COUNT,
            start_timeout=float(SLOWNESS),
            REQUEST_TIMEOUT=SLOWNESS,
        ) as server:
            Contestant("", server).seed()
            with server.client(float(SLOWNESS)) as client:
                for number in range(times):
                    path = load.path.replace("{id}", str(1 + number % 1000))
                    headers = {"Content-Type": "application/json"}
                    client.request(
                        load.method, path, content=load.body, headers=headers
                    ).raise_for_status()
        pattern = r"I +refs: +([\d,]+)"
        wait_until(lambda: re.search(pattern, log.read_text()))
        (counted,) = re.findall(pattern, log.read_text())
        return int(counted.replace(",", ""))
