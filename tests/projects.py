"""Copies of the project, whose models change and whose databases are migrated."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tests.servers import ROOT, SECRET_KEY

MIGRATE_TIMEOUT = 60  # seconds
BEFORE_REVISIONS = ROOT / "tests" / "before_revisions"

# Where a field is added to the model.
FIELD = "    status: str = Field("

REVISION = '''"""A revision of a test."""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{follows}"


def upgrade() -> None:
    """Applies this revision."""
    {body}
'''


@dataclass
class Project:
    """A copy of the project, and a database."""

    root: Path
    database_url: str

    @property
    def revisions(self) -> list[str]:
        """The names of the revisions, the oldest first."""
        return sorted(file.stem for file in self.versions.glob("*.py"))

    @property
    def versions(self) -> Path:
        return self.root / "backend" / "migrations" / "versions"

    def edit_models(self, old: str, new: str) -> None:
        """Replaces a text in models.py."""
        models = self.root / "backend" / "models.py"
        source = models.read_text()
        assert old in source
        models.write_text(source.replace(old, new, 1))

    def add_field(self, *lines: str) -> None:
        """Adds fields to the model of a todo."""
        self.edit_models(FIELD, "".join(f"    {line}\n" for line in lines) + FIELD)

    def next_name(self, words: str, ahead: int = 1) -> str:
        """Returns the name of the revision that will come next, or further ahead."""
        return f"{len(self.revisions) + ahead:04d}_{words}"

    def add_revision(self, words: str, body: str) -> str:
        """Adds a revision after the newest one, and returns its name."""
        name = self.next_name(words)
        source = REVISION.format(name=name, body=body, follows=self.revisions[-1])
        (self.versions / f"{name}.py").write_text(source)
        return name

    def migrating(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `./run_dev.sh migrate`, without its set-up."""
        return subprocess.Popen(
            **self._migration(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def migrate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `./run_dev.sh migrate`, without its set-up."""
        return subprocess.run(
            **self._migration(arguments),
            capture_output=True,
            text=True,
            timeout=MIGRATE_TIMEOUT,
            check=False,
        )

    def _migration(self, arguments: Sequence[str]) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-m", "backend.migrate", *arguments],
            "cwd": self.root,
            "env": {**os.environ, "DATABASE_URL": self.database_url, "SECRET_KEY": SECRET_KEY},
        }


def copy_project(folder: Path, database_url: str) -> Project:
    """Returns a copy of the project in a new folder."""
    root = folder / "project"
    shutil.copytree(ROOT / "backend", root / "backend")
    shutil.copy(ROOT / "pyproject.toml", root)
    return Project(root, database_url)


def restore(database_url: str) -> None:
    """Makes the database that the release before there were revisions has left."""
    if database_url.startswith("sqlite"):
        script = (BEFORE_REVISIONS / "sqlite.sql").read_text(encoding="utf-8")
        with sqlite3.connect(database_url.removeprefix("sqlite:///")) as made:
            made.executescript(script)
        made.close()
        return
    script = (BEFORE_REVISIONS / "postgresql.sql").read_text(encoding="utf-8")
    connected = psycopg2.connect(database_url)
    connected.autocommit = True
    with connected.cursor() as cursor:
        cursor.execute(script)
    connected.close()
