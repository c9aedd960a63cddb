"""The change log of a tenant while a transaction adds to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class OpenLog:
    """The head of one tenant's change log, locked until the transaction ends.

    Attributes:
        tenant: Whose log.
        position: The newest position, those taken in this transaction included.
        began_at: The newest position before this transaction.
    """

    tenant: str
    position: int
    began_at: int

    def take(self) -> int:
        """Return the next position; it is written to the head before the transaction commits."""
        self.position += 1
        return self.position

    @property
    def moved(self) -> bool:
        """Whether this transaction took a position."""
        return self.position > self.began_at
