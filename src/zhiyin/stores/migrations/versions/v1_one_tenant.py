"""The tables of version 1: one tenant, no change log."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None

_Sequence = sql.BigInteger().with_variant(sql.Integer, "sqlite")
_Json = sql.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    version = op.create_table("zhiyin_store", sql.Column("version", sql.Integer, primary_key=True))
    op.bulk_insert(version, [{"version": 1}])
    make_tables()


def make_tables() -> None:
    """Make the tables that version 2 replaces."""
    op.create_table(
        "events",
        sql.Column("sequence", _Sequence, primary_key=True),
        sql.Column("event_id", sql.String, nullable=False, unique=True),
        sql.Column("user_id", sql.String, nullable=False),
        sql.Column("item_id", sql.String, nullable=False),
        sql.Column("event", sql.String, nullable=False),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.Column("value", sql.Float),
        sql.Column("context", _Json),
    )
    op.create_index("ix_events_user_id", "events", ["user_id"])
    op.create_table(
        "items",
        sql.Column("sequence", _Sequence, primary_key=True),
        sql.Column("item_id", sql.String, nullable=False, unique=True),
        sql.Column("attributes", _Json, nullable=False),
        sql.Column("deleted", sql.Boolean, nullable=False),
    )
    op.create_table(
        "users",
        sql.Column("user_id", sql.String, primary_key=True),
        sql.Column("attributes", _Json, nullable=False),
    )
    op.create_table("deleted_users", sql.Column("user_id", sql.String, primary_key=True))
    op.create_table(
        "impressions",
        sql.Column("sequence", _Sequence, primary_key=True),
        sql.Column("request_id", sql.String, nullable=False),
        sql.Column("user_id", sql.String),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.Column("route", sql.String, nullable=False),
        sql.Column("bundle", sql.String, nullable=False),
        sql.Column("item_ids", _Json, nullable=False),
        sql.Column("propensities", _Json, nullable=False),
    )
    op.create_index("ix_impressions_user_id", "impressions", ["user_id"])


def downgrade() -> None:
    """Remove the tables."""
    for table in ("impressions", "deleted_users", "users", "items", "events", "zhiyin_store"):
        op.drop_table(table)
