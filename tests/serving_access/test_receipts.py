"""Receipts: what was signed verifies, anything else does not; and where the secret comes from."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.receipts import Receipts
from zhiyin.serving.access.secret import DOCUMENT_KIND, Secrets, open_secrets
from zhiyin.serving.settings import PrivacySettings
from zhiyin.stores.records import Erased, StoredDocument

SECRETS = Secrets(b"one secret of a service, long enough")
TEA = Receipts(SECRETS, "tea", lambda: 1_800_000_000.5)
ERASED = Erased(n_events=12, n_impressions=3, had_attributes=True, was_erased_before=False)
RECEIPT = TEA.sign("ann@example.com", ERASED, 77)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def over_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(json.dumps(document))
    return sent


def test_verifies_after_a_journey_as_json() -> None:
    sent = over_the_wire(RECEIPT.document())
    assert TEA.verify(sent).is_valid
    assert TEA.verify(dict(reversed(sent.items())), "ann@example.com").is_valid
    assert (sent["n_events"], sent["position"], sent["erased_at"]) == (12, 77, 1_800_000_000)


def test_names_nobody() -> None:
    assert "ann" not in json.dumps(RECEIPT.document())
    same = TEA.sign("ann@example.com", ERASED, 78)
    assert same.person == RECEIPT.person
    assert same.receipt_id != RECEIPT.receipt_id
    elsewhere = Receipts(SECRETS, "coffee").sign("ann@example.com", ERASED, 77)
    assert elsewhere.person != RECEIPT.person


@given(st.sampled_from([field.name for field in dataclasses.fields(RECEIPT)]), JSON)
def test_any_changed_field_fails(name: str, value: object) -> None:
    document = RECEIPT.document()
    # 12 and 12.0, and 1 and true, are equal in Python but not on paper.
    if json.dumps(value) == json.dumps(document[name]):
        return
    assert not TEA.verify(document | {name: value}).is_valid


@given(st.dictionaries(st.text(), JSON))
def test_anything_else_is_no_receipt(document: dict[str, Any]) -> None:
    found = TEA.verify(document)
    assert not found.is_valid
    assert found.reason.endswith(".")


@given(st.sampled_from(sorted(RECEIPT.document())), st.text(min_size=1), JSON)
def test_missing_and_further_fields_fail(missing: str, name: str, value: object) -> None:
    document = RECEIPT.document()
    if name not in document:
        assert not TEA.verify(document | {name: value}).is_valid
    del document[missing]
    assert not TEA.verify(document).is_valid


def test_nearly_the_same_number_fails() -> None:
    document = RECEIPT.document()
    assert not TEA.verify(document | {"n_events": 12.0}).is_valid
    assert not TEA.verify(document | {"had_attributes": 1}).is_valid
    assert not TEA.verify(document | {"signature": document["signature"].upper()}).is_valid


def test_each_reason_is_told() -> None:
    document = RECEIPT.document()
    assert "somebody else" in TEA.verify(document, "bob").reason
    assert "does not fit" in Receipts(SECRETS, "coffee").verify(document).reason
    assert "does not have" in Receipts(Secrets(b"another"), "tea").verify(document).reason
    assert "fields" in TEA.verify({}).reason
    assert "does not fit" in TEA.verify(document | {"position": 1}).reason


def test_survives_a_new_secret() -> None:
    renewed = Receipts(
        Secrets(b"a new secret of the service", [b"one secret of a service, long enough"]), "tea"
    )
    assert renewed.verify(RECEIPT.document(), "ann@example.com").is_valid
    assert renewed.sign("ann@example.com", ERASED, 1).key != RECEIPT.key


class Documents:
    """As much of a store as a secret needs."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.is_full = False

    def documents(self, kind: str) -> list[StoredDocument]:
        assert kind == DOCUMENT_KIND
        return [StoredDocument(kind, name, body) for name, body in sorted(self.kept.items())]

    def put_document(self, kind: str, name: str, body: dict[str, Any]) -> Future[None]:
        done: Future[None] = Future()
        if self.is_full:
            done.set_exception(StoreError("The disk is full."))
        else:
            self.kept[name] = body
            done.set_result(None)
        return done


def test_without_a_secret_one_is_made_once() -> None:
    store = Documents()
    first, again = open_secrets(PrivacySettings(), store), open_secrets(PrivacySettings(), store)
    receipt = Receipts(first, "tea").sign("ann", ERASED, 1)
    assert Receipts(again, "tea").verify(receipt.document(), "ann").is_valid
    assert len(store.kept) == 1
    # A secret that is set later signs from then on; what was signed before still verifies.
    later = Receipts(open_secrets(PrivacySettings(secret=SecretStr("x" * 40)), store), "tea")
    assert later.verify(receipt.document(), "ann").is_valid
    assert later.sign("ann", ERASED, 1).key != receipt.key


def test_two_processes_that_make_one_at_once_verify_each_other() -> None:
    store, empty = Documents(), Documents()
    one = open_secrets(PrivacySettings(), store)
    other = open_secrets(PrivacySettings(), empty)  # saw nothing when it looked
    store.kept |= empty.kept  # and wrote a moment later
    empty.kept = store.kept
    for signer, verifier in ((one, other), (other, one)):
        receipt = Receipts(signer, "tea").sign("ann", ERASED, 1)
        assert Receipts(verifier, "tea").verify(receipt.document()).is_valid
    # From the next start on all take the same.
    started = [open_secrets(PrivacySettings(), store).name_of_current() for _ in range(2)]
    assert started[0] == started[1]


def test_a_secret_that_cannot_be_kept_is_not_used() -> None:
    store = Documents()
    store.is_full = True
    with pytest.raises(StoreError, match="full"):
        open_secrets(PrivacySettings(), store)


def test_a_configured_secret_is_never_stored() -> None:
    store = Documents()
    open_secrets(PrivacySettings(secret=SecretStr("y" * 40)), store)
    assert not store.kept


def test_keys_of_purposes_and_tenants_differ() -> None:
    made = [SECRETS.key_for(*of) for of in (("a", "b"), ("a", "c"), ("b", "a"), ("ab", ""), ("a\0b", ""))]
    assert len(set(made[:4])) == 4
    assert all(len(key) == 32 for key in made)
