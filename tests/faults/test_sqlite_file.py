"""A SQLite file that is deleted or replaced while it is in use is not used any further."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.faults.clients import read_or_write
from tests.helpers import at_once, create, titles
from tests.servers import serve


def delete(file: Path) -> None:
    """Takes the file away."""
    file.unlink()


def replace(file: Path) -> None:
    """Puts a copy in the file's place, as somebody does who restores a backup."""
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.replace(file)


@pytest.mark.slow
@pytest.mark.parametrize("change", [delete, replace])
def test_lost_file_is_said_once_and_nothing_served_from_it(
    own_sqlite_url: str, log_path: Path, change: Callable[[Path], None]
) -> None:
    file = Path(str(make_url(own_sqlite_url).database))
    with serve(own_sqlite_url, log_path) as server, server.client() as client:
        create(client)
        assert {each.status for each in at_once(20, lambda n: read_or_write(client, n))} <= {
            200,
            201,
        }
        change(file)
        answers = at_once(20, lambda number: read_or_write(client, number))
        assert {answer.status for answer in answers} == {503}
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health").status_code == 200
        said = f"{file} was deleted or replaced while the API used it; start the API again"
        assert server.log.count(said) == 1
        assert "Traceback" not in server.log
    with serve(own_sqlite_url, log_path) as server, server.client() as client:
        assert create(client, "anew")["title"] == "anew"
        assert ("Buy milk" in titles(client)) == (change is replace)
