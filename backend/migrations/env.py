"""What Alembic runs to apply revisions; `backend/core/migrations.py` hands it the connection."""

from contextlib import nullcontext

from alembic import context

attributes = context.config.attributes
connection = attributes["connection"]
context.configure(
    connection=connection, transactional_ddl=True, on_version_apply=attributes["on_version_apply"]
)
if connection.dialect.name == "sqlite":
    # SQLite has no need of it, and the transaction keeps other processes out.
    context.get_context().autocommit_block = nullcontext  # type: ignore[method-assign,assignment]
with context.begin_transaction():
    context.run_migrations()
