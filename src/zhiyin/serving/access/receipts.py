"""Receipts: proof, for whoever was erased, that it was done, and of what.

A receipt names nobody: it holds a keyed hash of the user id. It is signed with HMAC-SHA256 over its canonical
JSON (names sorted, no blanks, ASCII), by a key made from the secret of the service. So whoever holds the
secret can verify it, and nobody without the secret can make or change one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import secrets as random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zhiyin.serving.access.secret import Secrets
from zhiyin.stores.records import Erased

STATEMENT = (
    "Events, attributes and shown slates of this person were removed from log, live state, caches and "
    "features. A model trained on the log after this position holds nothing of what was removed."
)
"""What every receipt says; it is signed with the rest."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed, when, and who says so.

    Attributes:
        receipt_id: Names this receipt; 32 hexadecimal digits.
        tenant: Whose data it was.
        person: Keyed hash of the user id; 64 hexadecimal digits.
        erased_at: UTC seconds.
        n_events: Events that were removed.
        n_impressions: Shown slates that were removed.
        had_attributes: Whether attributes were removed.
        was_erased_before: Whether the person had been erased already.
        position: Place of the removal in the change log.
        statement: `STATEMENT`.
        key: Names the secret it was signed with.
        signature: 64 hexadecimal digits.
    """

    receipt_id: str
    tenant: str
    person: str
    erased_at: int
    n_events: int
    n_impressions: int
    had_attributes: bool
    was_erased_before: bool
    position: int
    statement: str
    key: str
    signature: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Verified:
    """What came out of a verification.

    Attributes:
        is_valid: Whether this service made the receipt and nothing in it was changed.
        reason: Why not; empty where it is valid.
    """

    is_valid: bool
    reason: str = ""


class Receipts:
    """Makes and verifies the receipts of one tenant.

    Args:
        secrets: The secret of the service.
        tenant: Whose users.
        clock: Returns UTC seconds.
    """

    def __init__(self, secrets: Secrets, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self._secrets = secrets
        self._tenant = tenant
        self._clock = clock

    def sign(self, user_id: str, erased: Erased, position: int) -> Receipt:
        """Make the receipt of an erasure that is durable.

        Args:
            user_id: As the shop calls the person, not the pseudonym.
            erased: What was removed.
            position: Where the removal stands in the change log.
        """
        unsigned = Receipt(
            receipt_id=random.token_hex(16),
            tenant=self._tenant,
            person=_person(self._secrets.key_for("receipt person", self._tenant), user_id),
            erased_at=int(self._clock()),
            n_events=erased.n_events,
            n_impressions=erased.n_impressions,
            had_attributes=erased.had_attributes,
            was_erased_before=erased.was_erased_before,
            position=position,
            statement=STATEMENT,
            key=self._secrets.name_of_current(),
        )
        key = self._secrets.key_for("receipt", self._tenant)
        return dataclasses.replace(unsigned, signature=_signature(key, unsigned.document()))

    def verify(self, document: Mapping[str, Any], user_id: str | None = None) -> Verified:
        """Tell whether a document is a receipt of this service and tenant, and unchanged.

        Args:
            document: What somebody shows; anything that JSON can hold.
            user_id: Whom it should be about, as the shop calls them; None leaves that open.
        """
        if set(document) != _FIELDS:
            return Verified(False, "It does not have the fields of a receipt, or has others.")
        name, signature = document["key"], document["signature"]
        if not isinstance(name, str) or not isinstance(signature, str):
            return Verified(False, "Its key or its signature is not a text.")
        key = self._secrets.key_of_named(name, "receipt", self._tenant)
        if key is None:
            return Verified(False, "It was signed with a secret that this service does not have.")
        try:
            expected = _signature(key, document)
        except (TypeError, ValueError, RecursionError):
            return Verified(False, "It holds values that no receipt holds.")
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            return Verified(False, "The signature does not fit: it was changed, or made by somebody else.")
        if user_id is None:
            return Verified(True)
        person_key = self._secrets.key_of_named(name, "receipt person", self._tenant)
        is_theirs = person_key is not None and hmac.compare_digest(
            _person(person_key, user_id), document["person"]
        )
        return Verified(True) if is_theirs else Verified(False, "It is about somebody else.")


_FIELDS = {field.name for field in dataclasses.fields(Receipt)}


def _person(key: bytes, user_id: str) -> str:
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()


def _signature(key: bytes, document: Mapping[str, Any]) -> str:
    signed = {name: value for name, value in document.items() if name != "signature"}
    canonical = json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hmac.digest(key, canonical.encode(), hashlib.sha256).hex()
