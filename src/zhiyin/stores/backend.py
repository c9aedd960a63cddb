"""What SQLite and PostgreSQL do differently, as one promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import sqlalchemy as sql
from sqlalchemy import Connection, Engine

from zhiyin.domain.errors import StoreError
from zhiyin.stores.log import OpenLog


class Backend(ABC):
    """One kind of database: its engine, its fast statements, its errors.

    Attributes:
        is_shared: Whether several processes may use the database at once.
        label: The database in words for messages; never holds a password.
        engine: Connections for reading; a transaction sees what was committed.
        writing: The same connections; a transaction keeps other writers out as far as needed.
    """

    is_shared: ClassVar[bool]
    label: str
    engine: Engine
    writing: Engine

    @abstractmethod
    def identity(self) -> str:
        """Return what names this database alone, alike in every process, however it is reached."""

    @abstractmethod
    def open_logs(self, connection: Connection, tenants: Sequence[str]) -> dict[str, OpenLog]:
        """Lock the heads of the tenants in the given order until the transaction ends, and read them."""

    @abstractmethod
    def move_heads(self, connection: Connection, logs: Iterable[OpenLog]) -> None:
        """Write the new positions of logs to their heads."""

    @abstractmethod
    def insert(self, connection: Connection, table: sql.Table, columns: Sequence[Sequence[Any]]) -> int:
        """Add rows in the given order, without those whose key is there already.

        Args:
            connection: In a transaction.
            table: Its columns but ``sequence`` are filled; JSON is given as text.
            columns: For each of them the values of all rows.

        Returns:
            How many rows were new.
        """

    @abstractmethod
    def append_new_events(
        self, tenant: str, n_positions: int, steps: Sequence[int], columns: Sequence[Sequence[Any]]
    ) -> int | None:
        """Add T events that are all new, move the head, and commit, on a connection kept for this alone.

        Called by one thread at a time. What elsewhere lies between a statement and its driver costs more than
        a statement that adds one row.

        Args:
            tenant: Whose events.
            n_positions: How many positions of its log they take.
            steps: (T,) 1 to ``n_positions``: the place of each event after the newest position.
            columns: For each column from ``event_id`` on the T values; JSON is given as text.

        Returns:
            The newest position now; None when nothing was stored because some event was there already, the
            tenant has no head yet, or a value or the connection was not good.

        Raises:
            EveryWriteFails: when the commit failed, so that it is not known whether they are stored.
            Exception: of the driver, otherwise; nothing was stored then.
        """

    @abstractmethod
    def store_error(self, error: Exception) -> Exception:
        """Turn an error of the database into one that says what to do; others come back as they are."""

    def cannot_hold(self, cause: object) -> StoreError | None:
        """Return the error for a value that no database can hold, None for other causes."""
        if isinstance(cause, UnicodeEncodeError):
            return StoreError(f"{self.label} cannot hold text with a character that UTF-8 does not have.")
        if isinstance(cause, OverflowError):
            return StoreError(f"{self.label} cannot hold a whole number of more than 64 bits.")
        if isinstance(cause, TypeError) and "JSON" in str(cause):
            return StoreError(
                f"{self.label} cannot hold this value: {cause}.",
                possible="JSON holds texts, numbers, true, false, null, lists, and objects of these.",
            )
        return None

    @abstractmethod
    def fails_all(self, error: Exception) -> bool:
        """Whether an error has nothing to do with what was written, so that all writes meet it."""

    def check_room(self, n_bytes: int = 0) -> None:  # noqa: B027
        """Return when there is room for further writes, as far as that can be seen from here.

        Args:
            n_bytes: What is to be written, beside what a few groups of writes need.

        Raises:
            StoreError: when the next large write would fail.
        """

    @abstractmethod
    def after_commit(self, *, has_erased: bool) -> None:
        """Make sure that erased bytes are gone, where the database leaves that to its user."""

    def end_within(self, seconds: float) -> None:  # noqa: B027
        """Let nobody wait longer than that for a database that does not answer."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files."""


def filled_columns(table: sql.Table) -> list[sql.Column[Any]]:
    """Return the columns that `Backend.insert` fills, in their order."""
    return [column for column in table.columns if column.name != "sequence"]
