"""The tables of version 2: many tenants, each with its change log; documents, bundles, keys, audit log."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

from zhiyin.stores.migrations.versions.v1_one_tenant import make_tables

revision = "0002"
down_revision = "0001"

_Sequence = sql.BigInteger().with_variant(sql.Integer, "sqlite")
_Json = sql.JSON(none_as_null=True)
_TENANT = "default"
_OLD = ("events", "items", "users", "deleted_users", "impressions")
_COUNTED = ("events", "items", "impressions")


def upgrade() -> None:
    """Make the new tables and take over what the old ones hold, as the data of the tenant ``default``."""
    _set_aside({"events": "ix_events_user_id", "impressions": "ix_impressions_user_id"})
    for make in (_log_heads, _events, _items, _users, _deleted_users, _impressions):
        make()
    _take_over()
    for make in (_documents, _bundles, _api_keys, _audit):
        make()
    _drop_old()
    op.execute("UPDATE zhiyin_store SET version = 2")


def downgrade() -> None:
    """Return to version 1, which knows one tenant: data of others, documents, bundles and keys are lost."""
    for statement in _open_audit():
        op.execute(statement)
    for table in ("audit", "api_keys", "bundle_parts", "bundles", "documents", "log_heads"):
        op.drop_table(table)
    _set_aside(
        {
            "events": "ix_events_user ix_events_position",
            "items": "ix_items_position",
            "users": "ix_users_position",
            "deleted_users": "ix_deleted_users_position",
            "impressions": "ix_impressions_user ix_impressions_timestamp",
        }
    )
    make_tables()
    for table, columns in _FIRST_COLUMNS.items():
        op.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table} WHERE tenant = '{_TENANT}'"
        )
    _drop_old()
    _count_on()
    op.execute("UPDATE zhiyin_store SET version = 1")


_FIRST_COLUMNS = {
    "events": "sequence, event_id, user_id, item_id, event, timestamp, value, context",
    "items": "sequence, item_id, attributes, deleted",
    "users": "user_id, attributes",
    "deleted_users": "user_id",
    "impressions": "sequence, request_id, user_id, timestamp, route, bundle, item_ids, propensities",
}


def _set_aside(indexes: dict[str, str]) -> None:
    """Rename the tables that are replaced, and drop their indexes, whose names are needed again."""
    for names in indexes.values():
        for name in names.split():
            op.drop_index(name)
    for table in _OLD:
        op.rename_table(table, f"old_{table}")


def _drop_old() -> None:
    for table in _OLD:
        op.drop_table(f"old_{table}")


def _take_over() -> None:
    """Copy every row, each as a change of its own: first who was removed, since their later events count."""
    offset = "0"
    for table, order, more in (
        ("deleted_users", "user_id", {"timestamp": "0"}),
        ("items", "sequence", {}),
        ("users", "user_id", {}),
        ("events", "sequence", {}),
    ):
        columns = _FIRST_COLUMNS[table]
        place = f"{offset} + row_number() OVER (ORDER BY {order})"
        added, values = ", ".join(["", *more]), ", ".join(["", *more.values()])
        op.execute(
            f"INSERT INTO {table} (tenant, position, {columns}{added}) "
            f"SELECT '{_TENANT}', {place}, {columns}{values} FROM old_{table}"
        )
        offset += f" + (SELECT count(*) FROM old_{table})"
    columns = _FIRST_COLUMNS["impressions"]
    op.execute(
        f"INSERT INTO impressions (tenant, {columns}) SELECT '{_TENANT}', {columns} FROM old_impressions"
    )
    anything = " OR ".join(f"EXISTS (SELECT 1 FROM old_{table})" for table in _OLD)
    op.execute(f"INSERT INTO log_heads (tenant, position) SELECT '{_TENANT}', {offset} WHERE {anything}")
    _count_on()


def _count_on() -> None:
    """Let PostgreSQL number new rows after the copied ones; SQLite does so by itself."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _COUNTED:
            op.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'sequence'), "
                f"coalesce(max(sequence), 0) + 1, false) FROM {table}"
            )


def _sequence() -> sql.Column[int]:
    return sql.Column("sequence", _Sequence, nullable=False)


def _tenant() -> sql.Column[str]:
    return sql.Column("tenant", sql.String, nullable=False)


def _position() -> sql.Column[int]:
    return sql.Column("position", sql.BigInteger, nullable=False)


def _log_heads() -> None:
    op.create_table(
        "log_heads", _tenant(), _position(), sql.PrimaryKeyConstraint("tenant", name="pk_log_heads")
    )


def _events() -> None:
    op.create_table(
        "events",
        _sequence(),
        _tenant(),
        _position(),
        sql.Column("event_id", sql.String, nullable=False),
        sql.Column("user_id", sql.String, nullable=False),
        sql.Column("item_id", sql.String, nullable=False),
        sql.Column("event", sql.String, nullable=False),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.Column("value", sql.Float),
        sql.Column("context", _Json),
        sql.PrimaryKeyConstraint("sequence", name="pk_events"),
        sql.UniqueConstraint("tenant", "event_id", name="uq_events"),
    )
    op.create_index("ix_events_user", "events", ["tenant", "user_id"])
    op.create_index("ix_events_position", "events", ["tenant", "position", "sequence"])


def _items() -> None:
    op.create_table(
        "items",
        _sequence(),
        _tenant(),
        _position(),
        sql.Column("item_id", sql.String, nullable=False),
        sql.Column("attributes", _Json, nullable=False),
        sql.Column("deleted", sql.Boolean, nullable=False),
        sql.PrimaryKeyConstraint("sequence", name="pk_items"),
        sql.UniqueConstraint("tenant", "item_id", name="uq_items"),
    )
    op.create_index("ix_items_position", "items", ["tenant", "position"])


def _users() -> None:
    op.create_table(
        "users",
        _tenant(),
        _position(),
        sql.Column("user_id", sql.String, nullable=False),
        sql.Column("attributes", _Json, nullable=False),
        sql.PrimaryKeyConstraint("tenant", "user_id", name="pk_users"),
    )
    op.create_index("ix_users_position", "users", ["tenant", "position"])


def _deleted_users() -> None:
    op.create_table(
        "deleted_users",
        _tenant(),
        _position(),
        sql.Column("user_id", sql.String, nullable=False),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.PrimaryKeyConstraint("tenant", "user_id", name="pk_deleted_users"),
    )
    op.create_index("ix_deleted_users_position", "deleted_users", ["tenant", "position"])


def _impressions() -> None:
    op.create_table(
        "impressions",
        _sequence(),
        _tenant(),
        sql.Column("request_id", sql.String, nullable=False),
        sql.Column("user_id", sql.String),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.Column("route", sql.String, nullable=False),
        sql.Column("bundle", sql.String, nullable=False),
        sql.Column("item_ids", _Json, nullable=False),
        sql.Column("propensities", _Json, nullable=False),
        sql.Column("experiment", sql.String),
        sql.Column("arm", sql.String),
        sql.PrimaryKeyConstraint("sequence", name="pk_impressions"),
    )
    op.create_index("ix_impressions_user", "impressions", ["tenant", "user_id"])
    op.create_index("ix_impressions_timestamp", "impressions", ["tenant", "timestamp", "sequence"])


def _documents() -> None:
    op.create_table(
        "documents",
        _tenant(),
        _position(),
        sql.Column("kind", sql.String, nullable=False),
        sql.Column("name", sql.String, nullable=False),
        sql.Column("body", _Json),
        sql.PrimaryKeyConstraint("tenant", "kind", "name", name="pk_documents"),
    )
    op.create_index("ix_documents_position", "documents", ["tenant", "position"])


def _bundles() -> None:
    op.create_table(
        "bundles",
        _sequence(),
        _tenant(),
        sql.Column("version", sql.String, nullable=False),
        sql.Column("trained_to", sql.BigInteger, nullable=False),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        sql.Column("facts", _Json, nullable=False),
        sql.Column("files", _Json, nullable=False),
        sql.Column("position", sql.BigInteger),
        sql.PrimaryKeyConstraint("sequence", name="pk_bundles"),
        sql.UniqueConstraint("tenant", "version", name="uq_bundles"),
    )
    op.create_index("ix_bundles_position", "bundles", ["tenant", "position"])
    op.create_table(
        "bundle_parts",
        _tenant(),
        sql.Column("version", sql.String, nullable=False),
        sql.Column("path", sql.String, nullable=False),
        sql.Column("part", sql.Integer, nullable=False),
        sql.Column("content", sql.LargeBinary, nullable=False),
        sql.PrimaryKeyConstraint("tenant", "version", "path", "part", name="pk_bundle_parts"),
    )


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        _sequence(),
        sql.Column("key_id", sql.String, nullable=False),
        sql.Column("digest", sql.String, nullable=False),
        _tenant(),
        sql.Column("name", sql.String, nullable=False),
        sql.Column("scopes", _Json, nullable=False),
        sql.Column("created", sql.BigInteger, nullable=False),
        sql.Column("expires", sql.BigInteger),
        sql.Column("revoked", sql.BigInteger),
        sql.Column("requests_per_second", sql.Float),
        sql.PrimaryKeyConstraint("sequence", name="pk_api_keys"),
        sql.UniqueConstraint("key_id", name="uq_api_keys"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        _sequence(),
        sql.Column("timestamp", sql.BigInteger, nullable=False),
        _tenant(),
        sql.Column("actor", sql.String, nullable=False),
        sql.Column("action", sql.String, nullable=False),
        sql.Column("subject", sql.String, nullable=False),
        sql.Column("outcome", sql.String, nullable=False),
        sql.Column("request_id", sql.String, nullable=False),
        sql.PrimaryKeyConstraint("sequence", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant", "audit", ["tenant", "sequence"])
    for statement in _close_audit():
        op.execute(statement)


_REFUSAL = "the audit log can only grow"


def _close_audit() -> list[str]:
    """Return what makes the database itself refuse to change or remove an entry."""
    if op.get_bind().dialect.name == "postgresql":
        return [
            "CREATE FUNCTION refuse_to_change_audit() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit()",
        ]
    return [
        f"CREATE TRIGGER audit_no_{word} BEFORE {word.upper()} ON audit "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for word in ("update", "delete")
    ]


def _open_audit() -> list[str]:
    if op.get_bind().dialect.name == "postgresql":
        return ["DROP TRIGGER audit_only_grows ON audit", "DROP FUNCTION refuse_to_change_audit()"]
    return []  # SQLite drops triggers together with their table.
