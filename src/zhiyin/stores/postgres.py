"""PostgreSQL: one database for several service processes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, ClassVar, cast

import psycopg
import sqlalchemy as sql
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from zhiyin.domain.errors import StoreError
from zhiyin.stores import tables
from zhiyin.stores.backend import Backend, filled_columns
from zhiyin.stores.log import OpenLog
from zhiyin.stores.migrating import migrate
from zhiyin.stores.patience import Patience, PatientConnection

STATEMENT_SECONDS = 30
"""How long one statement may take before the server gives it up."""

LOCK_SECONDS = 10
"""How long a write waits for the writes of other processes."""

SILENT_SECONDS = 10
"""After how long a network that swallows everything counts as broken."""

ANSWER_SECONDS = STATEMENT_SECONDS + 5
"""How long an answer is waited for: the server gives a statement up before, unless it hangs itself."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_MIGRATION_LOCK = 0x7A686979696E  # "zhiyin"

_POOL: dict[str, Any] = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 10, "pool_use_lifo": True}
_NETWORK: dict[str, Any] = {
    "tcp_user_timeout": SILENT_SECONDS * 1000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "zhiyin",
    # Whatever the database is encoded in, so that it can be said when that cannot hold all texts.
    "client_encoding": "utf8",
}


_IDENTITY = """
SELECT system_identifier, oid, current_schema() FROM pg_control_system(), pg_database
WHERE datname = current_database()
"""


class PostgresBackend(Backend):
    """A database of a PostgreSQL server, with ``synchronous_commit`` on.

    A write locks the row with the head of its tenant's change log until it is committed. So the writers of
    one tenant follow one another, in whatever processes they are: positions have no gaps and become visible
    in their order.

    Args:
        url: ``postgresql://user:password@host:5432/database``; ``?host=/folder`` for a Unix socket.
        answer_seconds: How long an answer of the server is waited for.

    Raises:
        StoreError: when the server cannot be reached, refuses, cannot hold every text, or the tables are of a
            newer version.
    """

    is_shared: ClassVar[bool] = True

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        parsed = _parsed(url)
        place = parsed.host or parsed.query.get("host") or "localhost"
        self.label = f"The PostgreSQL database '{parsed.database}' at {place}"
        self._patience = Patience(answer_seconds)
        self.writing = _engine(parsed, self._patience)
        # Whoever asked over another connection of a server that hangs would wait as long once more.
        self._patience.given_up = self.writing.dispose
        self._appending: psycopg.Connection[Any] | None = None
        # A statement that only reads needs no transaction around it, which would be two more journeys.
        self.engine = self.writing.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self.writing.begin() as connection:
                driver = cast("PatientConnection", connection.connection.driver_connection)
                driver.patience = None
                # Processes that start together wait here for the one that makes the tables.
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                _look_at_encoding(connection, self.label)
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
                migrate(connection, self.label)
            driver.patience = self._patience
        except Exception as error:
            self.engine.dispose()
            raise self.store_error(error) from None

    def identity(self) -> str:
        """Return a digest of cluster, database and schema; see `Backend`."""
        with self.engine.connect() as connection:
            row = connection.exec_driver_sql(_IDENTITY).one()
        return hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16]

    def open_logs(self, connection: Connection, tenants: Sequence[str]) -> dict[str, OpenLog]:
        """Lock the heads of the tenants until the transaction ends, and read them."""
        found = _lock_heads(connection, tenants)
        if len(found) < len(tenants):
            missing = [tenant for tenant in tenants if tenant not in found]
            connection.exec_driver_sql(
                "INSERT INTO log_heads (tenant, position) "
                "SELECT unnest(%s::text[]), 0 ON CONFLICT DO NOTHING",
                (missing,),
            )
            found = _lock_heads(connection, tenants)
        return {tenant: OpenLog(tenant, position, position) for tenant, position in found.items()}

    def move_heads(self, connection: Connection, logs: Iterable[OpenLog]) -> None:
        """Write the new positions of logs to their heads."""
        for log in logs:
            connection.exec_driver_sql(
                "UPDATE log_heads SET position = %s WHERE tenant = %s", (log.position, log.tenant)
            )

    def insert(self, connection: Connection, table: sql.Table, columns: Sequence[Sequence[Any]]) -> int:
        """Add rows whose key is new, in one statement; see `Backend`."""
        arrays = tuple(_array(column) for column in columns)
        return connection.exec_driver_sql(_insert_statement(table), arrays, _KEEP_COUNT).rowcount

    def append_new_events(
        self, tenant: str, n_positions: int, steps: Sequence[int], columns: Sequence[Sequence[Any]]
    ) -> int | None:
        """Add new events in one statement, which is one journey to the server; see `Backend`.

        It fails as a whole where an event is there already. The lock on the head is taken before the first
        row is inserted, because its position is needed for that.
        """
        arrays = (_array(column) for column in (steps, *columns))
        try:
            found = self._appending_connection().execute(
                _append_statement(), (n_positions, tenant, n_positions, tenant, *arrays), prepare=True
            )
            return int(found.fetchone()[0])  # type: ignore[index]
        except (psycopg.IntegrityError, psycopg.DataError):
            return None
        except psycopg.OperationalError:
            if self._appending is not None and not self._appending.closed:
                raise
            self._give_up_appending()
            return None

    def store_error(self, error: Exception) -> Exception:
        """Turn an error of the database into one that says what to do."""
        cause = getattr(error, "orig", None) or error
        if unheld := self.cannot_hold(cause):
            return unheld
        if not isinstance(error, (psycopg.Error, SQLAlchemyError)):
            return error
        said = str(cause).strip()
        first = said.splitlines()[0].removeprefix("connection failed: ").rstrip(".") if said else "no answer"
        remedy = _remedy(getattr(cause, "sqlstate", None) or "", said)
        return StoreError(f"{self.label} cannot be used: {first}.", remedy=remedy)

    def fails_all(self, error: Exception) -> bool:
        """Whether an error has nothing to do with what was written."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        data = (psycopg.DataError, psycopg.IntegrityError)
        return isinstance(cause, (psycopg.Error, SQLAlchemyError)) and not isinstance(cause, data)

    def after_commit(self, *, has_erased: bool) -> None:
        """Do nothing: the server overwrites the space of removed rows when it vacuums the tables."""

    def end_within(self, seconds: float) -> None:
        """Wait for the server no longer than that, and for what is asked later only for a moment."""
        self._patience.ends_at = min(self._patience.ends_at, time.monotonic() + seconds)

    def close(self) -> None:
        """Let go of the connections."""
        self._give_up_appending()
        self.engine.dispose()

    def _appending_connection(self) -> psycopg.Connection[Any]:
        """Return a connection that the pool does not know any more; each statement is a transaction."""
        if self._appending is None:
            connection = self.writing.raw_connection()
            self._appending = cast("psycopg.Connection[Any]", connection.driver_connection)
            self._appending.autocommit = True
            connection.detach()
        return self._appending

    def _give_up_appending(self) -> None:
        if self._appending is not None:
            self._appending.close()
            self._appending = None


_KEEP_COUNT = {"preserve_rowcount": True}


def _lock_heads(connection: Connection, tenants: Sequence[str]) -> dict[str, int]:
    statement = "SELECT tenant, position FROM log_heads WHERE tenant = ANY(%s) ORDER BY tenant FOR UPDATE"
    return {row.tenant: row.position for row in connection.exec_driver_sql(statement, (list(tenants),))}


@cache
def _insert_statement(table: sql.Table) -> str:
    """Return a statement that takes one array for each column."""
    columns = filled_columns(table)
    names = ", ".join(column.name for column in columns)
    values = ", ".join(map(_value, columns))
    arrays = ", ".join(f"%s::{_array_type(column)}[]" for column in columns)
    return (
        f"INSERT INTO {table.name} ({names}) "
        f"SELECT {values} FROM unnest({arrays}) AS rows ({names}) ON CONFLICT DO NOTHING"
    )


@cache
def _append_statement() -> str:
    """Return a statement that moves the head and takes one array for each column of events but the tenant.

    A tenant without a head gets no position, which the table does not allow; so nothing happens then.
    """
    tenant, position, *columns = filled_columns(tables.events)
    names = ", ".join(column.name for column in columns)
    arrays = ", ".join(f"%s::{_array_type(column)}[]" for column in (position, *columns))
    return (
        "WITH head AS (UPDATE log_heads SET position = position + %s WHERE tenant = %s "
        "RETURNING position, position - %s AS before), "
        f"added AS (INSERT INTO events ({tenant.name}, {position.name}, {names}) "
        f"SELECT %s, (SELECT before FROM head) + step, {', '.join(map(_value, columns))} "
        f"FROM unnest({arrays}) AS rows (step, {names})) "
        "SELECT position FROM head"
    )


def _value(column: sql.Column[Any]) -> str:
    return f"{column.name}::json" if isinstance(column.type, sql.JSON) else column.name


def _array(values: Sequence[Any]) -> Sequence[Any] | str:
    """Return values as the text of an array, which takes a tenth of the time the driver takes.

    In the one place where arrays are written otherwise than lists in JSON, control characters, the values go
    back as they are, and the driver writes them.
    """
    text = _encode(values)
    if "\\" in text and "\\" in text.replace("\\\\", "").replace('\\"', ""):
        return values
    return f"{{{text[1:-1]}}}"


def _array_type(column: sql.Column[Any]) -> str:
    kinds = {sql.BigInteger: "bigint", sql.Float: "double precision"}
    return next((name for kind, name in kinds.items() if isinstance(column.type, kind)), "text")


def _parsed(url: str) -> sql.URL:
    try:
        parsed = sql.make_url(url).set(drivername="postgresql+psycopg")
    except (SQLAlchemyError, ValueError):
        parsed = None
    if parsed is None or "@" in (parsed.host or ""):
        # What could not be read may be a part of the password, so it is not shown.
        raise StoreError(
            "The URL of the PostgreSQL database cannot be read.",
            possible="It looks like postgresql://user:password@host:5432/database; in user and password, "
            "other signs than letters and digits are written as %40, %2F, ….",
        )
    return parsed


def _look_at_encoding(connection: Connection, label: str) -> None:
    """Refuse a database that cannot hold every text, such as one that was made where no language was set."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise StoreError(
            f"{label} is encoded in {encoding}, which does not hold the texts of every language.",
            remedy="Make it anew:  createdb -O USER -E UTF8 --locale=C.UTF-8 -T template0 DATABASE",
        )


def _engine(url: sql.URL, patience: Patience) -> Engine:
    engine = sql.create_engine(url, connect_args=_NETWORK, **_POOL)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, args: Any, settings: dict[str, Any]) -> Any:
        connection = PatientConnection.connect(*args, **settings | {"connect_timeout": patience.to_connect()})
        connection.patience = patience
        return connection

    @event.listens_for(engine, "connect")
    def configure(connection: psycopg.Connection[Any], _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
                "current_setting('synchronous_commit')",
                (f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s"),
            )
            if cursor.fetchone()[2] == "off":  # type: ignore[index]
                # An acknowledged event would be lost when the server is killed.
                cursor.execute("SET synchronous_commit = on")
        connection.commit()

    return engine


_MAY_NOT = "Give this user the right to create and write tables in the database."
_REMEDIES_BY_STATE = {
    "28P01": "Check the user and the password in the URL.",
    "28000": "Check the user in the URL, and whether pg_hba.conf lets it in from here.",
    "3D000": "Create it:  createdb -O USER DATABASE",
    "42501": _MAY_NOT,
    "3F000": _MAY_NOT,
    "53100": "Free some space on the disk of the server; nothing of this write was stored.",
    "53300": "Raise max_connections of the server, or run fewer processes.",
    "25006": "It is a standby or set to read-only; name the primary.",
    "55P03": "Another process holds the change log; see pg_stat_activity for what it does.",
    "57014": "The server is overloaded, or something holds a lock; see pg_stat_activity.",
    "57P01": "The server is going down; send it again when it is back.",
    "57P03": "The server is starting or going down; send it again in a moment.",
}
_REMEDIES_BY_WORD = {
    "password authentication failed": _REMEDIES_BY_STATE["28P01"],
    "no password supplied": "Put the password into the URL:  postgresql://user:password@host/database",
    "does not exist": "Check user and database in the URL; create the database:  createdb -O USER DATABASE",
    "no pg_hba.conf entry": _REMEDIES_BY_STATE["28000"],
    "resolve host": "Check the host in the URL.",
    "starting up": _REMEDIES_BY_STATE["57P03"],
    "shutting down": _REMEDIES_BY_STATE["57P03"],
    "too many": _REMEDIES_BY_STATE["53300"],
}
_AWAY = (
    "Check that the server runs and that host and port in the URL are right; send it again when it is back."
)


def _remedy(state: str, said: str) -> str:
    if state in _REMEDIES_BY_STATE:
        return _REMEDIES_BY_STATE[state]
    by_word = (remedy for word, remedy in _REMEDIES_BY_WORD.items() if word in said)
    is_away = not state or state.startswith(("08", "57"))
    return next(by_word, _AWAY if is_away else "")
