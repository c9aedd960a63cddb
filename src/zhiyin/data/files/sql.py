"""Tables of a database, through SQLAlchemy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from zhiyin.data.files.left_out import refuse_a_table_left_out
from zhiyin.data.files.raw import Part, RawTable
from zhiyin.data.files.values import column_of, stacked
from zhiyin.data.known import TABLES
from zhiyin.domain.errors import DataError, did_you_mean
from zhiyin.domain.extras import from_extra

_CHUNK = 200_000


def is_database(location: str) -> bool:
    """Tell ``sqlite:///shop.db`` from a path."""
    scheme, mark, _ = location.partition("://")
    return bool(mark) and scheme.replace("+", "").isalnum()


def without_password(location: str) -> str:
    """Return a location as it may be shown."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", location)


def read_database(url: str) -> dict[str, RawTable]:
    """Read the tables ``interactions``, ``items``, ``users``, ``facts`` and ``impressions`` that are there.

    Args:
        url: As SQLAlchemy takes it, such as ``postgresql://user:password@host/shop``.

    Raises:
        DataError: when the database cannot be opened, or holds no interactions. Passwords are not shown.
        MissingExtra: when SQLAlchemy or the driver of the database is not installed.
    """
    with from_extra("sql"):
        import sqlalchemy  # noqa: PLC0415
    try:
        address = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise DataError(
            "The database URL cannot be understood.",
            possible="It looks like  sqlite:///shop.db  or  postgresql://user:password@host/shop .",
        ) from None
    if "@" in (address.host or ""):
        raise DataError(
            "The password in the database URL holds an '@', so that a part of it is taken for the host.",
            remedy="Write %40 in its place.",
        )
    if address.get_backend_name() == "sqlite":
        _require_file(address.database)
    try:
        engine = sqlalchemy.create_engine(address)
    except ImportError as error:
        raise DataError(
            f"The driver for this database is not installed: {error}.",
            remedy=f"Install it:  pip install {error.name}",
        ) from None
    except sqlalchemy.exc.NoSuchModuleError:
        raise DataError(
            f"'{address.drivername}' is not a database that SQLAlchemy knows.",
            possible="It can be sqlite, postgresql, mysql and others for which a driver is installed.",
        ) from None
    try:
        with engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            there = inspector.get_table_names() + inspector.get_view_names()
            if "interactions" not in there and "items" in there and "impressions" not in there:
                refuse_a_table_left_out(
                    {
                        name: [str(column["name"]) for column in inspector.get_columns(name)]
                        for name in there
                        if name not in TABLES
                    }
                )
            elif "interactions" not in there:
                raise DataError(
                    f"The database has no table or view 'interactions'.{did_you_mean('interactions', there)}",
                    possible=f"It has {', '.join(there) or 'no tables'}.",
                    remedy="Add one:  CREATE VIEW interactions AS SELECT … AS user_id, … AS item_id FROM …",
                )
            return {name: _table(connection, name) for name in TABLES if name in there}
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DataError(f"The database cannot be read: {reason}.") from None
    finally:
        engine.dispose()


def _require_file(database: str | None) -> None:
    if database and database != ":memory:" and not Path(database).is_file():
        raise DataError(
            f"There is no SQLite file '{database}'.",
            remedy="An absolute path has four slashes:  sqlite:////srv/shop.db",
        )


def _table(connection: Any, name: str) -> RawTable:
    import sqlalchemy  # noqa: PLC0415

    streamed = connection.execution_options(stream_results=True)
    result = streamed.execute(sqlalchemy.select(sqlalchemy.text("*")).select_from(sqlalchemy.table(name)))
    columns = list(result.keys())
    chunks = [_chunk(columns, rows) for rows in result.partitions(_CHUNK)]
    empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    frame = stacked(chunks) if chunks else empty
    return RawTable(name, frame, (Part(f"table {name}", frame.height),))


def _chunk(columns: list[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    by_column = zip(columns, zip(*rows, strict=True), strict=True)
    return pl.DataFrame([column_of(name, values) for name, values in by_column])
