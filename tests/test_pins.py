"""Every package is pinned: what the tests run with is what a new machine gets."""

import ast
import sys
from importlib.metadata import packages_distributions

from packaging.utils import canonicalize_name

from tests.pins import CONSTRAINTS, REQUIREMENTS, constraints, read_requirements
from tests.servers import ROOT


def pins() -> dict[str, str]:
    """Returns the pinned version of each package."""
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in read_requirements(CONSTRAINTS)
    }


def test_pins_are_what_is_installed() -> None:
    assert CONSTRAINTS.read_text() == constraints(), "run: .venv/bin/python -m tests.pins"


def test_pins_agree_with_the_requirements() -> None:
    asked = {
        canonicalize_name(each.name): str(each.specifier)
        for file in REQUIREMENTS
        for each in read_requirements(file)
    }
    assert asked == {name: f"=={pins()[name]}" for name in asked}


def imported() -> set[str]:
    """Returns the top-level modules that the backend's files name in their imports."""
    modules = set()
    for file in (ROOT / "backend").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    return {name.partition(".")[0] for name in modules}


def test_nothing_is_imported_without_a_pin() -> None:
    origins = packages_distributions()
    packages = {
        canonicalize_name(origins[module][0])
        for module in imported() - {"backend"} - sys.stdlib_module_names
    }
    assert {"fastapi", "sqlalchemy", "starlette", "pydantic-core", "anyio"} <= packages
    assert packages <= set(pins())
