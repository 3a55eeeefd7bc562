"""Schemathesis asks the running API whatever its OpenAPI document allows, and what it forbids."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.servers import ROOT, Server
from tests.users import newcomer

EXAMPLES = 20  # for each operation, besides the fixed cases; the same ones on every run
TIMEOUT = 300.0  # seconds; alone it takes 20
HOOKS = "tests.schemathesis_hooks"

SIGN_IN = "^/api/(users|auth)"
# Most random texts are no address and nobody's password, and one request deletes who asks: that
# most of these are refused is no hint at the document.
WARNINGS_OF_SIGN_IN = "off"


@pytest.mark.first_on("sqlite")
def test_schema_fuzzer_finds_nothing(server: Server, client: httpx2.Client, tmp_path: Path) -> None:
    fuzz(server, tmp_path, "--exclude-path-regex", SIGN_IN)


@pytest.mark.slow
def test_schema_fuzzer_finds_nothing_in_users_and_sign_in(
    server: Server, client: httpx2.Client, tmp_path: Path
) -> None:
    token = newcomer(client).headers["Authorization"]
    only = ("--include-path-regex", SIGN_IN, "--warnings", WARNINGS_OF_SIGN_IN)
    fuzz(server, tmp_path, *only, "--header", f"Authorization: {token}")


def fuzz(server: Server, folder: Path, *options: str) -> None:
    """Runs Schemathesis against a server; it must find nothing."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.base_url}/openapi.json"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"),
            *("--generation-deterministic", "--max-examples", str(EXAMPLES), "--no-color"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": HOOKS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    # It also says "No issues found" only when it has no warning of the document.
    assert run.returncode == 0, run.stdout
    assert "No issues found" in run.stdout, run.stdout
