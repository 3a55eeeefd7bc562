"""The README's recipes, done in a copy of the project, to the letter."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.databases import query
from tests.projects import Project, copy_project, restore
from tests.servers import ROOT, serve

OTHERS = [".env.example", "README.md", "run_dev.sh"]
TIMEOUT = 600.0  # seconds

SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^([^\n]*)\n\n```(python|diff)\n(.*?)```", re.MULTILINE | re.DOTALL)
MIGRATION = re.compile(r'\./run_dev\.sh migrate "(.*?)"')
FILE = re.compile(r"`(backend/[\w/]+\.py)`")

# What a resource of one's own takes besides the recipe: its entry for the contract tests.
NOTES = """
RESOURCES.append(
    Resource(
        name="notes",
        noun="Note",
        fields=("id", "text", "tag", "created_at", "updated_at"),
        text="text",
        max_length=200,
        body=lambda text: {"text": text},
        changes=({"text": "Sell milk"}, {"tag": "work"}),
        nullable=("tag",),
        sorts=("created_at", "text", "tag"),
        choice=("tag", "home", "work"),
        filters=("tag",),
        clears=False,
    )
)
"""
DUE_DATE = """
RESOURCES[0] = replace(
    RESOURCES[0],
    fields=("id", "title", "status", "due_date", "created_at", "updated_at"),
    changes=({"title": "Sell milk"}, {"due_date": "2026-12-24"}),
    nullable=("due_date",),
    sorts=(*RESOURCES[0].sorts, "due_date"),
    filters=("status", "due_date"),
)
"""
CONTRACT = [
    *("rows", "list", "paging", "conditional", "idempotency", "bulk", "errors", "input"),
    *("routes", "cors", "openapi", "health", "architecture", "schema_fuzz"),
]

# Of these, the tests that are about every route.
ABOUT_ALL = "openapi or architecture or routes or fuzzer or missing_database"


@dataclass
class Copy(Project):
    """A copy of the project, its tests included, in which the recipes are followed."""

    def follow(self, title: str) -> None:
        """Does what a section of the README says, block by block."""
        sections = dict(SECTION.findall((self.root / "README.md").read_text(encoding="utf-8")))
        blocks = BLOCK.findall(sections[title])
        (words_of_migration,) = MIGRATION.findall(sections[title])
        assert blocks
        for words, kind, block in blocks:
            if kind == "diff":
                named = FILE.search(words)
                self.patch(block, named and named[1])
            else:
                (name,) = FILE.findall(words)
                self.add(name, block, is_new=words.startswith("A new file"))
        migrated = self.migrate(words_of_migration)
        assert migrated.returncode == 0, migrated.stderr

    def add(self, name: str, block: str, *, is_new: bool) -> None:
        """Writes a new file, or appends to one that is there."""
        file = self.root / name
        assert file.exists() is not is_new
        before = "" if is_new else f"{file.read_text(encoding='utf-8')}\n\n"
        file.write_text(before + block, encoding="utf-8")

    def patch(self, block: str, name: str | None) -> None:
        """Changes files: in their order, `-` lines go, `+` lines come, others are looked for."""
        for part in re.split(r"^\+\+\+ ", block, flags=re.MULTILINE):
            named, _, steps = ("", "", part) if name else part.partition("\n")
            if steps:
                self.change(self.root / (name or named), steps.splitlines())

    def change(self, file: Path, steps: list[str]) -> None:
        """Changes one file; `+` lines at the start come before the first line that is named."""
        lines = file.read_text(encoding="utf-8").splitlines()
        first = next(step[1:] for step in steps if step[0] != "+")
        place = lines.index(first)
        for step in steps:
            if step[0] == "+":
                lines.insert(place, step[1:])
                place += 1
            else:
                place = lines.index(step[1:], place)
                if step[0] == "-":
                    del lines[place]
                else:
                    place += 1
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")

    def describe(self, entry: str) -> None:
        """Adds an entry to the resources that the contract tests ask."""
        file = self.root / "tests" / "resources.py"
        text = file.read_text(encoding="utf-8").replace(
            "from dataclasses import ", "from dataclasses import replace, "
        )
        before, mark, after = text.partition("\n\ndef having(")
        assert mark
        file.write_text(before + entry + mark + after, encoding="utf-8")

    def run(self, *command: str) -> str:
        """Runs a module of Python in the copy, which must succeed; returns what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def check(self) -> None:
        """Asks for the format and the lint of the code."""
        self.run("ruff", "format", "--check", "backend")
        self.run("ruff", "check", "backend")

    def test(self, *files: str, only: str) -> None:
        """Runs tests of these names, those whose own names fit."""
        paths = [f"tests/test_{file}.py" for file in files]
        output = self.run("pytest", "-q", "-m", "", "-p", "no:cacheprovider", *paths, "-k", only)
        assert re.search(r"\d+ passed", output)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A copy of the project as it is, and the database that an older release has left."""
    url = f"sqlite:///{tmp_path}/of_the_recipe.db"
    restore(url)
    project = copy_project(tmp_path, url)
    shutil.copytree(ROOT / "tests", project.root / "tests")
    for name in OTHERS:
        shutil.copy(ROOT / name, project.root)
    yield Copy(project.root, url)
    shutil.rmtree(project.root)


def test_recipes_make_code_that_is_formatted_and_serves(copy: Copy) -> None:
    copy.follow("Add your own resource")
    copy.follow("Add a field")
    copy.check()
    copy.describe(NOTES)
    copy.describe(DUE_DATE)
    copy.test("rows", only="sqlite and (partial or location or null)")


@pytest.mark.slow
def test_own_resource_keeps_the_contract(copy: Copy) -> None:
    copy.follow("Add your own resource")
    copy.check()
    copy.run("mypy", "backend")
    copy.describe(NOTES)
    copy.test(*CONTRACT, only=f"({ABOUT_ALL} or notes) and not todos")


@pytest.mark.slow
def test_own_field_keeps_the_contract(copy: Copy) -> None:
    copy.follow("Add a field")
    copy.check()
    copy.run("mypy", "backend")
    copy.describe(DUE_DATE)
    copy.test(*CONTRACT, only=f"{ABOUT_ALL} or todos")


@pytest.mark.slow
def test_own_field_comes_to_rows_that_are_there(
    copy: Copy, own_database_url: str, log_path: Path
) -> None:
    restore(own_database_url)
    before = [row.id for row in query(own_database_url, "SELECT id FROM todos ORDER BY id")]
    copy.follow("Add a field")
    with serve(own_database_url, log_path, root=copy.root) as server, server.client() as client:
        todos = client.get("/api/todos", params={"sort": "-due_date"}).json()
        assert [todo["id"] for todo in todos] == before[::-1]
        assert {todo["due_date"] for todo in todos} == {None}
        path, christmas = f"/api/todos/{before[0]}", {"due_date": "2026-12-24"}
        changed = client.patch(path, json=christmas).json()
        assert changed == changed | christmas
        assert client.get("/api/todos", params=christmas).json() == [changed]
        assert client.get("/api/todos", params={"sort": "-due_date"}).json()[0] == changed
