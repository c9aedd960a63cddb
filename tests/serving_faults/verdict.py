"""What the log holds, compared with what clients were told and with what the service has in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from faulted import Histories
from shoppers import Shopper

Log = dict[str, dict[str, list[tuple[str, str]]]]
"""Tenant → user → (event id, item) in the order of the log."""
_EVENTS = "SELECT tenant, user_id, event_id, item_id FROM events ORDER BY tenant, position, sequence"
_POSITIONS = " UNION ".join(
    f"SELECT tenant, position FROM {table} WHERE position > 0" for table in ("events", "documents", "bundles")
)
_HEADS = "SELECT tenant, position FROM log_heads"


@dataclass
class Outcome:
    """What came of some rounds of one fault.

    Attributes:
        rounds: Times the fault was made.
        acknowledged: Events that were acknowledged.
        lost: Acknowledged events that the log does not hold.
        doubled: Events that stand in the log more often than once.
        strange: Events that nobody sent, or not for this tenant, or in another order.
        unlike: Users whose live history differs from the log.
        wrong: Everything else that should not have been, in words.
        slowest_seconds: Longest wait of a client for an answer, or of the service for itself.
        numbers: Further counts.
    """

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    strange: int = 0
    unlike: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.doubled or self.strange or self.unlike or self.wrong)

    def count(self, name: str, number: float = 1) -> None:
        """Add to a further count."""
        self.numbers[name] = round(self.numbers.get(name, 0) + number, 3)

    def at_most(self, name: str, number: float) -> None:
        """Keep the largest of a further number."""
        self.numbers[name] = round(max(self.numbers.get(name, 0), number), 3)

    def add(self, other: Outcome) -> None:
        """Take in what came of further rounds."""
        for name in ("rounds", "acknowledged", "lost", "doubled", "strange", "unlike"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.wrong = (self.wrong + other.wrong)[:50]
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        for name, number in other.numbers.items():
            (self.at_most if name.startswith("slowest") else self.count)(name, number)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON can hold it."""
        return asdict(self)

    def hear(self, shoppers: Iterable[Shopper]) -> None:
        """Take in what shoppers noted; call it once, when they are gone."""
        for shopper in shoppers:
            notes = shopper.notes
            self.acknowledged += len(notes.acknowledged)
            self.wrong += [f"{shopper.name}: {text}" for text in notes.wrong[:5]]
            self.slowest_seconds = max(self.slowest_seconds, notes.slowest_seconds)
            self.count("refused", notes.n_refused)
            self.count("broken", notes.n_broken)
            self.count("slates", notes.n_slates)
            self.count("stale", notes.n_stale)

    def compare_log(
        self, log: Log, shoppers: Sequence[Shopper], acknowledged_before: Sequence[set[str]] | None = None
    ) -> None:
        """Look for acknowledged events that are lost, for doubled ones, and for strangers' ones.

        Where shoppers go on, what each was acknowledged before the log was read is to be given: what comes
        after is not in it.
        """
        for place, shopper in enumerate(shoppers):
            acknowledged, sent = set(shopper.notes.acknowledged), list(shopper.notes.sent)
            if acknowledged_before is not None:
                acknowledged = acknowledged_before[place]
            stored = log.get(shopper.tenant.name, {}).get(shopper.user_id, [])
            ids = [event_id for event_id, _ in stored]
            self.lost += len(acknowledged - set(ids))
            self.doubled += len(ids) - len(set(ids))
            # One shopper sends one thing after the other, so the log is how the sent ones begin.
            self.strange += stored != sent[: len(stored)]

    def compare_memory(self, log: Log, histories: Histories) -> None:
        """Look for users whose live history is not what the log says."""
        for tenant, users in log.items():
            lives = histories.get(tenant, {})
            wanted = {user_id: [item for _, item in events] for user_id, events in users.items()}
            self.unlike += sum(lives.get(user_id) != items for user_id, items in wanted.items())
            self.unlike += len(lives.keys() - wanted.keys())


def log_of(store_url: str) -> Log:
    """Read the event log of every tenant, past the service."""
    log: Log = {}
    for tenant, user_id, event_id, item in _rows(store_url, _EVENTS):
        log.setdefault(tenant, {}).setdefault(user_id, []).append((event_id, item))
    return log


def gaps_of(store_url: str) -> list[str]:
    """Return what is wrong with the positions of the log: gaps, or a head that is not the newest."""
    taken: dict[str, list[int]] = {}
    for tenant, position in _rows(store_url, _POSITIONS):
        taken.setdefault(tenant, []).append(position)
    found = []
    for tenant, head in _rows(store_url, _HEADS):
        positions = sorted(taken.get(tenant, []))
        if positions != list(range(1, head + 1)):
            found.append(f"tenant {tenant}: {len(positions)} positions, the head is {head}")
    return found


def active_of(store_url: str, tenant: str) -> str:
    """Return the version that the store says is active."""
    statement = f"SELECT version FROM bundles WHERE tenant = '{tenant}' AND position IS NOT NULL"
    found = _rows(store_url, f"{statement} ORDER BY position DESC LIMIT 1")
    return str(found[0][0]) if found else ""


def _rows(store_url: str, statement: str) -> list[tuple[Any, ...]]:
    if store_url.startswith("sqlite:///"):
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), timeout=20)) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(store_url) as remote:
        return remote.execute(statement).fetchall()  # type: ignore[arg-type]
