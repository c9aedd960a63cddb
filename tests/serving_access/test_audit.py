"""The audit log: nothing with power happens without a line, and no line names a person."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.audit import AuditLog, Deed
from zhiyin.serving.access.keys import Allowance, ApiKeys
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.access.secret import Secrets

BOSS = Principal("boss", "tea", frozenset({"admin"}))


@pytest.fixture
def audit(store, clock) -> AuditLog:
    return AuditLog(store, Secrets(b"a secret"), clock)


def erasing(audit: AuditLog, user_id: str = "ann@example.com") -> Deed:
    return Deed.of(BOSS, "user.erase", audit.person("tea", user_id), "r1")


def outcomes(store) -> list[str]:
    return [entry.outcome for entry in store.entries]


def test_begun_and_done_around_the_deed(audit: AuditLog, store, clock) -> None:
    async def test() -> None:
        async with audit.noting(erasing(audit)):
            assert outcomes(store) == ["begun"]

    asyncio.run(test())
    assert outcomes(store) == ["begun", "done"]
    entry = store.entries[1]
    assert (entry.timestamp, entry.tenant, entry.actor) == (int(clock.now), "tea", "boss")
    assert (entry.action, entry.request_id) == ("user.erase", "r1")
    assert entry.subject == audit.person("tea", "ann@example.com")


def test_nobody_is_named(audit: AuditLog, store) -> None:
    async def test() -> None:
        with pytest.raises(KeyError):
            async with audit.noting(erasing(audit)):
                raise KeyError("ann@example.com")

    asyncio.run(test())
    assert outcomes(store) == ["begun", "failed: KeyError"]
    assert "ann" not in repr(store.entries)
    assert audit.person("tea", "ann") == audit.person("tea", "ann") != audit.person("coffee", "ann")


def test_what_cannot_be_noted_does_not_begin(audit: AuditLog, store) -> None:
    did: list[str] = []

    async def test() -> None:
        async with audit.noting(erasing(audit)):
            did.append("erased")

    store.is_broken = True
    with pytest.raises(StoreError):
        asyncio.run(test())
    assert not did


def test_a_deed_whose_end_cannot_be_noted_fails(audit: AuditLog, store) -> None:
    async def test() -> None:
        async with audit.noting(erasing(audit)):
            pass

    store.cannot_write_outcome = "done"
    with pytest.raises(StoreError):
        asyncio.run(test())
    assert outcomes(store) == ["begun"]
    with pytest.raises(StoreError), audit.noted(erasing(audit)):
        pass


def test_a_failure_counts_more_than_its_note(audit: AuditLog, store) -> None:
    async def test() -> None:
        async with audit.noting(erasing(audit)):
            store.is_broken = True
            raise ValueError("the deed itself")

    with pytest.raises(ValueError, match="itself"):
        asyncio.run(test())


def test_the_end_is_noted_though_the_caller_left(audit: AuditLog, store) -> None:
    async def test() -> None:
        began = asyncio.Event()

        async def deed() -> None:
            async with audit.noting(erasing(audit)):
                began.set()
                await asyncio.sleep(10)

        task = asyncio.create_task(deed())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)

    asyncio.run(test())
    assert outcomes(store) == ["begun", "failed: CancelledError"]


def test_the_event_loop_never_waits(audit: AuditLog, store) -> None:
    async def test() -> None:
        async with audit.noting(erasing(audit)):
            pass
        await audit.refused(BOSS, "GET /metrics", "r2")

    store.threads.clear()
    asyncio.run(test())
    assert threading.main_thread().name not in store.threads


def test_a_key_that_was_pasted_as_a_subject_is_cut(audit: AuditLog, store, keys: ApiKeys) -> None:
    new = keys.create("shop", Allowance(("admin",)))
    with audit.noted(Deed("tea", "cli", "key.revoke", new.text)):
        pass
    assert new.text.rpartition("_")[2] not in repr(store.entries)


def test_a_deed_about_a_person_needs_a_secret(store) -> None:
    with pytest.raises(ValueError, match="secret"):
        AuditLog(store).person("tea", "ann")
