"""The secret of a service, and the keys made from it: one for each purpose and tenant."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Sequence

from zhiyin.serving.settings import PrivacySettings
from zhiyin.stores.events import EventStore

DOCUMENT_KIND = "service-secret"
"""Kind of the documents that hold a secret the service made itself."""


class Secrets:
    """The secret in use and those of before.

    Nothing is signed with the secret itself: each purpose and tenant has a key of its own,
    HMAC-SHA256(secret, purpose and tenant), so that what is made for one is worth nothing for another.

    Args:
        current: The secret in use.
        previous: Secrets of before.
        more: Returns secrets that other processes made meanwhile.
    """

    def __init__(
        self,
        current: bytes,
        previous: Sequence[bytes] = (),
        more: Callable[[], Sequence[bytes]] = tuple,
    ) -> None:
        self._current = current
        self._previous = tuple(previous)
        self._more = more

    def key_for(self, purpose: str, tenant: str = "") -> bytes:
        """Return 32 bytes, the same in every process with the same secret.

        Args:
            purpose: A word such as ``receipt``.
            tenant: Whose; empty for the whole service.
        """
        return _key(self._current, purpose, tenant)

    def name_of_current(self) -> str:
        """Return 16 hexadecimal digits that name the secret in use and tell nothing about it."""
        return _name(self._current)

    def key_of_named(self, name: str, purpose: str, tenant: str = "") -> bytes | None:
        """Return the key made from the secret of a name; None where that secret is not known here."""
        for secret in self._all():
            if _name(secret) == name:
                return _key(secret, purpose, tenant)
        return None

    def _all(self) -> Iterator[bytes]:
        yield self._current
        yield from self._previous
        yield from self._more()  # asks the store, so only when the others do not fit


def open_secrets(settings: PrivacySettings, store: EventStore) -> Secrets:
    """Return the secret of the settings, or one that is made at the first start and kept in the store.

    A secret in the store protects nothing from whoever can read the store: receipts made with it show that
    nobody on the way changed them, not that the operator did not. With ``production = true`` a secret must
    be set. Two processes that start at once may both make one; both stay, and each verifies what the other
    signs.

    Args:
        settings: Secret, secrets of before.
        store: Of the tenant `zhiyin.stores.events.DEFAULT_TENANT`.

    Raises:
        StoreError: when a secret that was made cannot be kept.
    """
    previous = [secret.get_secret_value().encode() for secret in settings.previous_secrets]
    if settings.secret is not None:
        configured = settings.secret.get_secret_value().encode()
        return Secrets(configured, [*previous, *_kept(store)], lambda: _kept(store))
    kept = _kept(store)
    if not kept:
        made = secrets.token_bytes(32)
        store.put_document(DOCUMENT_KIND, _name(made), {"secret": made.hex()}).result()
        kept = _kept(store)
    return Secrets(kept[0], [*kept[1:], *previous], lambda: _kept(store))


def _kept(store: EventStore) -> list[bytes]:
    """Return the secrets of the store in the order of their names, so that all processes take the same."""
    documents = sorted(store.documents(DOCUMENT_KIND), key=lambda document: document.name)
    return [bytes.fromhex(document.body["secret"]) for document in documents if document.body is not None]


def _key(secret: bytes, purpose: str, tenant: str) -> bytes:
    return hmac.digest(secret, f"zhiyin\0{purpose}\0{tenant}".encode(), hashlib.sha256)


def _name(secret: bytes) -> str:
    return _key(secret, "name", "").hex()[:16]
