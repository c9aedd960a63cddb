"""Keys: their form, what is stored of them, and their life."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.domain.errors import RequestError
from zhiyin.serving.access.keys import KEY, Allowance, ApiKeys, matches, state, without_keys

BOTH = Allowance(("recommend", "ingest"))


def test_only_a_hash_is_stored(keys: ApiKeys, store) -> None:
    new = keys.create("shop backend", BOTH)
    assert KEY.fullmatch(new.text)
    kept = store.stored[new.stored.key_id]
    secret = new.text.rpartition("_")[2]
    assert secret not in repr(kept)
    assert secret not in repr(new)
    assert kept.digest == hashlib.sha256(new.text.encode()).hexdigest()
    assert (kept.scopes, kept.tenant, kept.expires) == (("ingest", "recommend"), "default", None)


def test_only_its_own_text_matches(keys: ApiKeys) -> None:
    one, other = keys.create("one", BOTH), keys.create("other", BOTH)
    assert matches(one.text, one.stored)
    assert not matches(other.text, one.stored)
    # The secret of one key under the id of another opens neither.
    mixed = f"zk_{one.stored.key_id}_{other.text.rpartition('_')[2]}"
    assert not matches(mixed, one.stored)
    assert not matches(mixed, other.stored)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_no_other_text_matches(keys: ApiKeys, text: str) -> None:
    assert not matches(text, keys.create("one", BOTH).stored)


def test_a_thousand_keys_are_distinct(keys: ApiKeys) -> None:
    made = [keys.create("many", BOTH) for _ in range(1_000)]
    assert len({new.text for new in made}) == 1_000
    assert len({new.stored.key_id for new in made}) == 1_000


def test_expiry_to_the_second(keys: ApiKeys, clock) -> None:
    key = keys.create("short", Allowance(("admin",), lifetime_seconds=60)).stored
    assert state(key, clock.now + 59.9) == "valid"
    assert state(key, clock.now + 60) == "expired"


def test_renewing_leaves_the_old_key_a_while(keys: ApiKeys, store, clock) -> None:
    old = keys.create(
        "shop", Allowance(("ingest",), "tea", lifetime_seconds=86_400 * 90, requests_per_second=7.0)
    )
    clock.now += 86_400 * 30
    new = keys.rotate(old.stored.key_id, grace_seconds=3_600)
    assert new.text != old.text
    same = ("tenant", "name", "scopes", "requests_per_second")
    assert [getattr(new.stored, name) for name in same] == [getattr(old.stored, name) for name in same]
    assert new.stored.expires == clock.now + 86_400 * 90
    kept = store.stored[old.stored.key_id]
    assert matches(old.text, kept)
    assert state(kept, clock.now + 3_599) == "valid"
    assert state(kept, clock.now + 3_600) == "expired"


def test_renewing_never_lengthens_the_old_key(keys: ApiKeys, store, clock) -> None:
    old = keys.create("shop", Allowance(("ingest",), lifetime_seconds=100))
    keys.rotate(old.stored.key_id, grace_seconds=3_600)
    assert store.stored[old.stored.key_id].expires == clock.now + 100


def test_a_failure_while_renewing_never_leaves_no_key(keys: ApiKeys, store, monkeypatch) -> None:
    old = keys.create("shop", BOTH)
    put = store.put_key

    def put_once(key) -> None:
        put(key)
        store.is_broken = True

    monkeypatch.setattr(store, "put_key", put_once)
    with pytest.raises(Exception, match="away"):
        keys.rotate(old.stored.key_id)
    assert {state(key, 2e9) for key in store.stored.values()} == {"valid"}
    assert len(store.stored) == 2


def test_revoked_stays_revoked(keys: ApiKeys, store, clock) -> None:
    key_id = keys.create("shop", BOTH).stored.key_id
    first = keys.revoke(key_id)
    clock.now += 10
    assert keys.revoke(key_id) == first
    assert state(store.stored[key_id], clock.now) == "revoked"
    with pytest.raises(RequestError, match="revoked and cannot be renewed"):
        keys.rotate(key_id)


def test_a_key_that_is_revoked_while_it_is_renewed_has_no_successor(
    keys: ApiKeys, store, monkeypatch
) -> None:
    old = keys.create("shop", BOTH)
    put = store.put_key

    def put_late(key) -> None:
        put(key)
        if len(store.stored) == 2 and store.stored[old.stored.key_id].revoked is None:
            keys.revoke(old.stored.key_id)

    monkeypatch.setattr(store, "put_key", put_late)
    with pytest.raises(RequestError, match="is revoked and cannot be renewed"):
        keys.rotate(old.stored.key_id)
    assert {state(key, 0.0) for key in store.stored.values()} == {"revoked"}
    assert len(store.stored) == 2


@pytest.mark.parametrize(
    ("name", "allowance", "said"),
    [
        ("", BOTH, "name"),
        ("a\nb", BOTH, "name"),
        ("x" * 101, BOTH, "name"),
        ("x", Allowance(()), "needs a scope"),
        ("x", Allowance(("admim",)), "Did you mean 'admin'"),
        ("x", Allowance(("admin",), "../other"), "tenant"),
        ("x", Allowance(("admin",), ""), "tenant"),
        ("x", Allowance(("admin",), lifetime_seconds=0), "lifetime"),
        ("x", Allowance(("admin",), requests_per_second=-1.0), "rate limit"),
    ],
)
def test_impossible_keys(keys: ApiKeys, store, name: str, allowance: Allowance, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        keys.create(name, allowance)
    assert not store.stored


def test_an_unknown_id_never_shows_a_key(keys: ApiKeys) -> None:
    new = keys.create("shop", BOTH)
    with pytest.raises(RequestError) as refused:
        keys.revoke(new.text)  # the whole key was pasted instead of its id
    assert new.text.rpartition("_")[2] not in str(refused.value)
    assert without_keys(f"Bearer {new.text}!") == f"Bearer zk_{new.stored.key_id}_…!"
