"""Users, and whose todos they are: nobody's, as they were, until somebody signs in."""

import sqlalchemy as sa
from alembic import op

revision = "0002_users"
down_revision = "0001_todos"


def upgrade() -> None:
    """Applies this revision."""
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column(
            "email_folded",
            sa.String(length=4572).with_variant(
                sa.String(length=4572, collation="C"), "postgresql"
            ),
            nullable=False,
        ),
        sa.Column("username", sa.String(length=50), nullable=False),
        sa.Column(
            "username_folded",
            sa.String(length=900).with_variant(sa.String(length=900, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(username) BETWEEN 3 AND 50", name="users_username_length"),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        sqlite_autoincrement=True,
    )
    op.create_index("users_by_created_at", "users", ["created_at", "id"], unique=False)
    op.create_index("users_by_email", "users", ["email_folded"], unique=True)
    op.create_index("users_by_username", "users", ["username_folded"], unique=True)
    op.create_table(
        "tries",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="tries_pkey"),
    )
    op.create_index("tries_by_since", "tries", ["since"], unique=False)
    op.add_column(
        "todos",
        sa.Column(
            "owner_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.ForeignKey("users.id", name="todos_owner_id_fkey", ondelete="CASCADE"),
            nullable=True,
        ),
        inline_references=True,
    )
