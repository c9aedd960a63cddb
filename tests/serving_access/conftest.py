"""Keys in memory, a clock that stands still, and a small app behind the gate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.keys import ApiKeys
from zhiyin.stores.records import AuditEntry, StoredKey


class MemoryAccessStore:
    """Keys and audit log in memory; counts what it is asked and can be broken."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.entries: list[AuditEntry] = []
        self.n_reads = 0
        self.n_audited = 0
        self.is_broken = False
        self.cannot_write_outcome = ""
        self.threads: set[str] = set()

    def _work(self) -> None:
        self.threads.add(threading.current_thread().name)
        if self.is_broken:
            raise StoreError("The database is away.")

    def put_key(self, key: StoredKey) -> None:
        self._work()
        before = self.stored.get(key.key_id, key)
        ends = {
            name: min(
                (end for end in (getattr(before, name), getattr(key, name)) if end is not None), default=None
            )
            for name in ("expires", "revoked")
        }
        self.stored[key.key_id] = replace(key, **ends)

    def key(self, key_id: str) -> StoredKey | None:
        self._work()
        self.n_reads += 1
        return self.stored.get(key_id)

    def keys(self, tenant: str | None = None) -> list[StoredKey]:
        self._work()
        self.n_reads += 1
        return [key for key in self.stored.values() if tenant in (None, key.tenant)]

    def append_audit(self, entry: AuditEntry) -> None:
        self._work()
        if self.cannot_write_outcome and entry.outcome == self.cannot_write_outcome:
            raise StoreError("The disk is full.")
        self.entries.append(entry)

    def audit(self, tenant: str | None = None, *, limit: int = 1_000) -> list[AuditEntry]:
        self._work()
        return [entry for entry in reversed(self.entries) if tenant in (None, entry.tenant)][:limit]


@dataclass
class Clock:
    """Stands still until moved."""

    now: float = field(default=1_800_000_000.0)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> MemoryAccessStore:
    return MemoryAccessStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(store: MemoryAccessStore, clock: Callable[[], float]) -> ApiKeys:
    return ApiKeys(store, clock)
