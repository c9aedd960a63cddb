"""Tables of the SQL stores.

They are made by the migrations alone; a test compares what the migrations make with what stands here.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

SCHEMA_VERSION = 2
"""Rises with every change of the tables; a store of a newer version is refused."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite counts a primary key by itself only when the type is exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True)


def _tenant() -> Column[str]:
    return Column("tenant", String, nullable=False)


def _position() -> Column[int]:
    """Return the column with the place of the newest change of a row in the change log of its tenant."""
    return Column("position", BigInteger, nullable=False)


version = Table("zhiyin_store", metadata, Column("version", Integer, primary_key=True))

log_heads = Table("log_heads", metadata, Column("tenant", String, primary_key=True), _position())

events = Table(
    "events",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    _tenant(),
    _position(),
    Column("event_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("event", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("value", Float),
    Column("context", _Json),
    UniqueConstraint("tenant", "event_id", name="uq_events"),
    Index("ix_events_user", "tenant", "user_id"),
    Index("ix_events_position", "tenant", "position", "sequence"),
)

items = Table(
    "items",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    _tenant(),
    _position(),
    Column("item_id", String, nullable=False),
    Column("attributes", _Json, nullable=False),
    Column("deleted", Boolean, nullable=False),
    UniqueConstraint("tenant", "item_id", name="uq_items"),
    Index("ix_items_position", "tenant", "position"),
)

users = Table(
    "users",
    metadata,
    _tenant(),
    _position(),
    Column("user_id", String, nullable=False),
    Column("attributes", _Json, nullable=False),
    PrimaryKeyConstraint("tenant", "user_id", name="pk_users"),
    Index("ix_users_position", "tenant", "position"),
)

deleted_users = Table(
    "deleted_users",
    metadata,
    _tenant(),
    _position(),
    Column("user_id", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user_id", name="pk_deleted_users"),
    Index("ix_deleted_users_position", "tenant", "position"),
)

impressions = Table(
    "impressions",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    _tenant(),
    Column("request_id", String, nullable=False),
    Column("user_id", String),
    Column("timestamp", BigInteger, nullable=False),
    Column("route", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("item_ids", _Json, nullable=False),
    Column("propensities", _Json, nullable=False),
    Column("experiment", String),
    Column("arm", String),
    Index("ix_impressions_user", "tenant", "user_id"),
    Index("ix_impressions_timestamp", "tenant", "timestamp", "sequence"),
)

documents = Table(
    "documents",
    metadata,
    _tenant(),
    _position(),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("body", _Json),
    PrimaryKeyConstraint("tenant", "kind", "name", name="pk_documents"),
    Index("ix_documents_position", "tenant", "position"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    _tenant(),
    Column("version", String, nullable=False),
    Column("trained_to", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("facts", _Json, nullable=False),
    Column("files", _Json, nullable=False),
    # Where in the change log it last became the active one; the greatest of a tenant is active now.
    Column("position", BigInteger),
    UniqueConstraint("tenant", "version", name="uq_bundles"),
    Index("ix_bundles_position", "tenant", "position"),
)

bundle_parts = Table(
    "bundle_parts",
    metadata,
    _tenant(),
    Column("version", String, nullable=False),
    Column("path", String, nullable=False),
    Column("part", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant", "version", "path", "part", name="pk_bundle_parts"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("digest", String, nullable=False),
    _tenant(),
    Column("name", String, nullable=False),
    Column("scopes", _Json, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    Column("requests_per_second", Float),
    UniqueConstraint("key_id", name="uq_api_keys"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    _tenant(),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("request_id", String, nullable=False),
    Index("ix_audit_tenant", "tenant", "sequence"),
)
