"""Writes constraints.txt: `.venv/bin/python -m tests.pins`, after any change of the packages.

The requirements say what the project asks for; these bring along many more. All of them are
pinned as they are installed here, so that a new machine gets what the tests ran with, years
later too. To take newer ones, install them first:
`.venv/bin/python -m pip install --upgrade --requirement requirements.txt`.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]

# What only other systems than this one need.
ELSEWHERE = {"colorama": "0.4.6"}

SYSTEMS = [
    {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"},
    {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"},
    {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"},
]
MACHINES = [{"platform_machine": name} for name in ("x86_64", "aarch64", "arm64", "AMD64")]
PYTHONS = [
    {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.1"}
    for minor in (11, 12, 13, 14)
]
ENVIRONMENTS = [
    {**system, **machine, **python, "platform_python_implementation": "CPython"}
    for system, machine, python in product(SYSTEMS, MACHINES, PYTHONS)
]

HEAD = """\
# What the tests ran with: the packages of requirements.txt and tests/requirements.txt, and
# all that these need. Not written by hand: .venv/bin/python -m tests.pins writes it.
"""


def read_requirements(file: Path) -> Iterator[Requirement]:
    """Yields the requirements of a file."""
    for line in file.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield Requirement(text)


def needed(requirement: Requirement, extras: set[str]) -> bool:
    """Returns whether a package with these extras needs another one, on any of the systems."""
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra})
        for environment in ENVIRONMENTS
        for extra in extras or {""}
    )


def find_pins() -> dict[str, str]:
    """Returns the version of each package that the requirements ask for and bring along."""
    pins: dict[str, str] = {}
    seen = set()
    waiting = [each for file in REQUIREMENTS for each in read_requirements(file)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            pins[name] = version(name)
        except PackageNotFoundError:
            pins[name] = ELSEWHERE[name]
            continue
        further = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [each for each in further if needed(each, requirement.extras)]
    return pins


def constraints() -> str:
    """Returns the content of constraints.txt."""
    return HEAD + "".join(f"{name}=={pin}\n" for name, pin in sorted(find_pins().items()))


if __name__ == "__main__":
    CONSTRAINTS.write_text(constraints())
