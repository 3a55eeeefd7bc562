"""The README's session with curl is run as it stands, on a fresh server."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.servers import ROOT, serve

README_ADDRESS = "127.0.0.1:8000"
SESSION_TIMEOUT = 60.0  # seconds
END_OF_OUTPUT = "--- end of output ---"

SESSION = re.compile(r"<!-- session -->(.*?)<!-- /session -->", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
STEP = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def session_of(document: str) -> list[tuple[str, str]]:
    """Returns the session's commands, each with the output that is promised for it."""
    blocks = [block for part in SESSION.findall(document) for block in CONSOLE.findall(part)]
    return [
        (command, output.strip()) for block in blocks for command, output in STEP.findall(block)
    ]


def run_session(commands: list[str], address: str, home: Path) -> list[str]:
    """Runs the commands in one shell, against the API at the address; returns their outputs."""
    lines = [f"{command} 2>&1\necho; echo '{END_OF_OUTPUT}'\n" for command in commands]
    shell = subprocess.run(
        ["bash"],
        input="".join(lines).replace(README_ADDRESS, address),
        env={**os.environ, "HOME": str(home), "no_proxy": "*"},
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=SESSION_TIMEOUT,
        check=True,
    )
    *outputs, rest = (
        shell.stdout.replace("\r", "").replace(address, README_ADDRESS).split(END_OF_OUTPUT)
    )
    assert rest.strip() == ""
    return [output.strip() for output in outputs]


def is_as_promised(output: str, promised: str) -> bool:
    """Returns whether the output is the promised text, where `…` is any text within a line."""
    return re.fullmatch(".*".join(map(re.escape, promised.split("…"))), output) is not None


def test_readme_session_is_true(tmp_path: Path, log_path: Path) -> None:
    session = session_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert session
    with serve(f"sqlite:///{tmp_path}/todos.db", log_path) as server:
        commands = [command for command, _ in session]
        outputs = run_session(commands, f"127.0.0.1:{server.port}", tmp_path)
    for (command, promised), output in zip(session, outputs, strict=True):
        assert is_as_promised(output, promised), f"$ {command}\n{output}\nbut promised:\n{promised}"


@pytest.mark.parametrize(
    ("output", "promised", "expected"),
    [
        pytest.param("a (b)", "a (b)", True, id="the same text"),
        pytest.param("at 12:30, id 7", "at …, id 7", True, id="any text for an ellipsis"),
        pytest.param("a\nb", "…\nb", True, id="any line for an ellipsis"),
        pytest.param("at 12:30, id 8", "at …, id 7", False, id="other text after an ellipsis"),
        pytest.param("a\nb", "a…", False, id="a line more"),
        pytest.param("", "…\n…", False, id="a line less"),
        pytest.param("abc", "a.c", False, id="no regular expression"),
    ],
)
def test_output_is_compared_with_the_promise(output: str, promised: str, expected: bool) -> None:
    assert is_as_promised(output, promised) is expected


def test_session_is_what_stands_between_the_marks() -> None:
    document = """
```console
$ not run
```
<!-- session -->
```console
$ one
1
$ silent
```
Some words.
```console
$ two
2

3
```
<!-- /session -->
"""
    assert session_of(document) == [("one", "1"), ("silent", ""), ("two", "2\n\n3")]
