"""`python -m backend.migrate`: writes the revision that models.py asks for, and applies it.

python -m backend.migrate                      apply what is pending
python -m backend.migrate "add due_date"       write a revision from models.py, apply it
python -m backend.migrate "…" --drop           also when it loses data
python -m backend.migrate "…" --empty          write one to be filled in by hand
"""

import argparse
import sys
import time
from pathlib import Path

from sqlalchemy import exc

from backend.core.connections import reason
from backend.core.migrations import AnotherMigrates, NotMigrated
from backend.core.revisions import Draft, Refused, draft_revisions, write_revisions
from backend.database import database
from backend.migrations import migrations
from backend.settings import ROOT

LOCK_PATIENCE = 30.0  # seconds in which a lock of another program may end


def main() -> None:
    """Does what the arguments say; ends with status 1 and a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="./run_dev.sh migrate", description="Brings the database to where models.py is."
    )
    parser.add_argument("words", nargs="?", help="what changes, for example: add due_date")
    parser.add_argument("--drop", action="store_true", help="also when it loses data")
    parser.add_argument("--empty", action="store_true", help="a revision to be filled in by hand")
    arguments = parser.parse_args()
    try:
        if arguments.empty:
            write(arguments.words or "", [Draft()])
            return
        apply()
        if arguments.words is not None:
            change(arguments.words, drop=arguments.drop)
        migrations.require_agreement()
        say("The database has what models.py says.")
    except (Refused, NotMigrated) as refusal:
        raise SystemExit(f"{refusal}") from None
    except exc.SQLAlchemyError as error:
        where = database.url.render_as_string(hide_password=True)
        raise SystemExit(f"The database {where} cannot be used: {reason(error)}") from None


def apply() -> None:
    """Applies what is pending, and says so, or what it waits for."""
    give_up = time.monotonic() + LOCK_PATIENCE
    said = ""
    while True:
        try:
            for name in migrations.apply_pending():
                say(f"Applied {name}.")
            return
        except (AnotherMigrates, exc.OperationalError) as error:
            if time.monotonic() > give_up:
                raise
            if reason(error) != said:
                said = reason(error)
                say(f"Waiting: {said}")
            time.sleep(1)


def change(words: str, *, drop: bool) -> None:
    """Writes and applies what makes the database what the models say."""
    current = migrations.current()
    if migrations.is_ahead(current):
        raise Refused(
            f"The database is at the revision {current}, which is not in "
            "backend/migrations/versions: get the code that has it, or use another database"
        )
    with database.engine.connect() as connection:
        drafts = draft_revisions(connection, migrations.metadata, migrations.folder, drop=drop)
    if not drafts:
        say("Nothing to do.")
        return
    files = write(words, drafts)
    try:
        apply()
    except exc.SQLAlchemyError:
        pending = {revision.name for revision in migrations.pending()}
        for file in files:
            if file.stem in pending:
                file.unlink()
        raise


def write(words: str, drafts: list[Draft]) -> list[Path]:
    """Writes revisions, and says what they do."""
    files = write_revisions(migrations.folder, words, drafts)
    for file, draft in zip(files, drafts, strict=True):
        say(f"Wrote {file.relative_to(ROOT)}:")
        for line in draft.summary or ["does nothing yet: write it, then ./run_dev.sh migrate"]:
            say(f"  {line}")
    return files


def say(line: str) -> None:
    """Writes a line to standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
