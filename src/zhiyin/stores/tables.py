"""Tables of the SQL stores."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table

SCHEMA_VERSION = 1
"""Rises with every change of the tables; a store of a newer version is refused."""

metadata = MetaData()

# SQLite counts a primary key by itself only when the type is exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True)

version = Table("zhiyin_store", metadata, Column("version", Integer, primary_key=True))

events = Table(
    "events",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("event_id", String, nullable=False, unique=True),
    Column("user_id", String, nullable=False, index=True),
    Column("item_id", String, nullable=False),
    Column("event", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("value", Float),
    Column("context", _Json),
)

items = Table(
    "items",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("item_id", String, nullable=False, unique=True),
    Column("attributes", _Json, nullable=False),
    Column("deleted", Boolean, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("attributes", _Json, nullable=False),
)

deleted_users = Table("deleted_users", metadata, Column("user_id", String, primary_key=True))

impressions = Table(
    "impressions",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("request_id", String, nullable=False),
    Column("user_id", String, index=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("route", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("item_ids", _Json, nullable=False),
    Column("propensities", _Json, nullable=False),
)
