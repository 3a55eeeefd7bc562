"""A load of requests, made by wrk, and what it measures."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.servers import Server

PATIENCE = 5  # seconds; a later answer counts as none


@dataclass
class Load:
    """A request that many clients send again and again, each with another todo's id."""

    name: str
    path: str
    method: str = "GET"
    body: str = ""
    token: str = ""

    def script(self) -> str:
        """Returns the request in wrk's language, Lua."""
        authorization = f'wrk.headers["Authorization"] = "Bearer {self.token}"' * bool(self.token)
        return f"""
            wrk.method = "{self.method}"
            wrk.body = '{self.body}'
            wrk.headers["Content-Type"] = "application/json"
            {authorization}
            local n = 0
            function request()
                n = n % 1000 + 1
                return wrk.format(nil, (string.gsub("{self.path}", "{{id}}", n)))
            end
        """


@dataclass
class Measure:
    """What a server did under a load."""

    rate: float  # answers of 2xx per second
    p50: float  # milliseconds
    p99: float
    errors: int
    cpu: float  # microseconds of the server process per request

    HEAD: ClassVar[list[str]] = ["requests/s", "p50 ms", "p99 ms", "errors", "CPU µs"]

    def cells(self) -> list[str]:
        """Returns the cells of a table's row."""
        return [
            f"{self.rate:,.0f}",
            f"{self.p50:.1f}",
            f"{self.p99:.1f}",
            f"{self.errors:,}",
            f"{self.cpu:,.0f}",
        ]


def run_wrk(server: Server, load: Load, clients: int, seconds: int) -> Measure:
    """Puts a server under a load and returns the measure."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(load.script())
        script.flush()
        before = cpu_seconds(server.process.pid)
        output = subprocess.run(
            [
                "wrk",
                "--threads=1",
                f"--connections={clients}",
                f"--duration={seconds}s",
                f"--timeout={PATIENCE}s",
                "--latency",
                f"--script={script.name}",
                server.base_url,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        ).stdout
        cpu = cpu_seconds(server.process.pid) - before
    wait_until_idle(server.process.pid)
    answers = int(find(r"(\d+) requests in", output))
    refused = int(find(r"Non-2xx or 3xx responses: (\d+)", output))
    broken = sum(
        int(find(rf"Socket errors:.*{kind} (\d+)", output))
        for kind in ("connect", "read", "write", "timeout")
    )
    per_second = float(find(r"Requests/sec:\s+([\d.]+)", output))
    return Measure(
        rate=per_second * (answers - refused) / max(answers, 1),
        p50=milliseconds(find(r"(?m)^\s+50%\s+(\S+)", output)),
        p99=milliseconds(find(r"(?m)^\s+99%\s+(\S+)", output)),
        errors=refused + broken,
        cpu=1e6 * cpu / max(answers, 1),
    )


def wait_until_idle(pid: int) -> None:
    """Lets a server finish what wrk no longer waits for, so that the next has the machine."""
    give_up = time.monotonic() + PATIENCE
    busy = True
    while busy and time.monotonic() < give_up:
        before = cpu_seconds(pid)
        time.sleep(0.2)
        busy = cpu_seconds(pid) - before > 0.02


def find(pattern: str, text: str) -> str:
    """Returns what the pattern's group matches, or "0"."""
    match = re.search(pattern, text)
    return match[1] if match else "0"


def milliseconds(text: str) -> float:
    """Returns a time that wrk prints, such as `1.20s`, in milliseconds."""
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
