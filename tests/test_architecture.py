"""The order of the modules: `core` knows no product, and imports run one way."""

import ast
import re
import tokenize
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.resources import RESOURCES
from tests.servers import ROOT

BACKEND = ROOT / "backend"
FILES = sorted(BACKEND.rglob("*.py"))

# A part of `backend` is a folder or a file. Each may import these parts, and every part may
# import its own modules. Another file is a concern of the product, such as its security.
CONCERN = {"core", "settings", "database", "models", "schemas", "security"}
MAY_IMPORT = {
    "core": set(),
    "settings": set(),
    "database": {"core", "settings"},
    "models": {"core"},
    "migrations": {"core", "database", "models"},
    "migrate": {"core", "database", "migrations", "models", "settings"},
    "schemas": {"core", "models"},
    "routers": CONCERN,
    "main": {*CONCERN, "migrations", "routers"},
    "__main__": {*CONCERN, "main", "migrations"},
}


def module_of(file: Path) -> str:
    """Returns the dotted name of a file's module."""
    steps = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(steps[:-1] if steps[-1] == "__init__" else steps)


MODULES = {module_of(file): file for file in FILES}


def part_of(module: str) -> str:
    """Returns the part of `backend` that a module belongs to."""
    return [*module.split("."), "backend"][1]


def imports_of(module: str) -> set[str]:
    """Returns the modules of `backend` that a module imports, wherever in it that stands."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by its place"
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                found.add(inside if inside in MODULES else str(node.module))
    return {name for name in found if name.partition(".")[0] == "backend"}


def test_every_import_is_of_a_module_that_is_there() -> None:
    assert len(MODULES) > 10
    for module in MODULES:
        assert imports_of(module) <= set(MODULES), module


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    part = part_of(module)
    allowed = MAY_IMPORT.get(part, CONCERN) | {part}
    for imported in imports_of(module):
        assert part_of(imported) in allowed, f"{module} imports {imported}"


def test_no_imports_run_in_a_circle() -> None:
    # A module that is run may import itself, by the name that others know it by.
    graph = {each: imports_of(each) - {each} for each in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("backend.core.problems") < order.index("backend.main")


def names_in(file: Path) -> Iterator[str]:
    """Yields the names in a file's code, and the words that they are made of."""
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.NAME:
                yield token.string
                yield from re.findall(r"[A-Z]?[a-z]+", token.string)


@pytest.mark.parametrize("file", sorted((BACKEND / "core").rglob("*.py")), ids=lambda f: f.name)
def test_core_speaks_of_no_resource(file: Path) -> None:
    names, text = set(names_in(file)), file.read_text(encoding="utf-8")
    for resource in RESOURCES:
        # One alone may be a plain word, such as "note".
        assert not names & {resource.name, resource.noun}
        assert resource.path not in text
    assert not re.search("todo", text, re.IGNORECASE)
