"""The schema's history: each file in `versions` is a step, and follows the one before it.

`./run_dev.sh migrate "what changes"` writes the next one from the models.
"""

from pathlib import Path

from sqlmodel import SQLModel

import backend.models  # noqa: F401 - the metadata is what it defines
from backend.core.migrations import Migrations
from backend.database import database

migrations = Migrations(database, SQLModel.metadata, Path(__file__).parent)
