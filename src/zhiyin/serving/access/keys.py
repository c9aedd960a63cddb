"""API keys: how they look, how they are made, renewed and taken back.

A key reads ``zk_<key_id>_<secret>``. The id is public and names the key in lists and logs. The secret is 256
random bits, and only its SHA-256 is stored. Slow password hashes such as Argon2 make *guessable* secrets dear
to guess; 256 random bits cannot be guessed at any speed, so one fast hash is right and costs a microsecond.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.stores.events import DEFAULT_TENANT, AccessStore
from zhiyin.stores.records import StoredKey
from zhiyin.stores.tenants import refuse_unfit_tenant

INGEST, RECOMMEND, ADMIN = "ingest", "recommend", "admin"
SCOPES = (INGEST, RECOMMEND, ADMIN)
"""What a key may do. No scope includes another: a key does exactly what it names."""
KEY = re.compile(r"zk_(?P<key_id>[0-9a-f]{16})_(?P<secret>[a-z2-7]{52})")
"""How a key looks; 64 bits of id, 256 bits of secret."""
GRACE_SECONDS = 24 * 3600
"""How long an old key goes on working after it was renewed, unless told otherwise."""
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; the only moment at which its text is known.

    Attributes:
        text: What the caller sends.
        stored: What the store keeps.
    """

    text: str = dataclasses.field(repr=False)
    stored: StoredKey


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a new key may do.

    Attributes:
        scopes: Of `SCOPES`, at least one.
        tenant: Whose data it opens.
        lifetime_seconds: After which it is refused; None for never.
        requests_per_second: Its own limit; None for the limit of the service.
    """

    scopes: Sequence[str]
    tenant: str = DEFAULT_TENANT
    lifetime_seconds: int | None = None
    requests_per_second: float | None = None


class ApiKeys:
    """Makes, renews and takes back the keys of a database.

    Args:
        store: Where they are kept.
        clock: Returns UTC seconds.
    """

    def __init__(self, store: AccessStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def create(self, name: str, allowance: Allowance) -> NewKey:
        """Make a key.

        Args:
            name: What it is for, in words.
            allowance: What it may do.

        Raises:
            RequestError: when the name, a scope, the tenant or a number is not possible.
            StoreError: when it cannot be stored.
        """
        _check(name, allowance)
        now = int(self._clock())
        lifetime = allowance.lifetime_seconds
        new = _made(
            StoredKey(
                key_id=secrets.token_hex(8),
                digest="",
                tenant=allowance.tenant,
                name=name,
                scopes=tuple(scope for scope in SCOPES if scope in allowance.scopes),
                created=now,
                expires=None if lifetime is None else now + lifetime,
                requests_per_second=allowance.requests_per_second,
            )
        )
        self._store.put_key(new.stored)
        return new

    def rotate(self, key_id: str, *, grace_seconds: int = GRACE_SECONDS) -> NewKey:
        """Make a key with the name, scopes, limits and lifetime of another, which soon stops working.

        Args:
            key_id: The key to renew.
            grace_seconds: How long the old one goes on working, 0 or more.

        Raises:
            RequestError: when there is no such key, or it is revoked or expired, also meanwhile.
        """
        if grace_seconds < 0:
            raise RequestError("The time of grace cannot be negative.")
        old, now = self._named(key_id), int(self._clock())
        if state(old, now) != "valid":
            raise _cannot_renew(key_id, state(old, now))
        lifetime = None if old.expires is None else old.expires - old.created
        new = _made(
            dataclasses.replace(
                old,
                key_id=secrets.token_hex(8),
                created=now,
                expires=None if lifetime is None else now + lifetime,
            )
        )
        # The new one first: a failure in between leaves two working keys, never none.
        self._store.put_key(new.stored)
        ends = now + grace_seconds
        self._store.put_key(
            dataclasses.replace(old, expires=ends if old.expires is None else min(old.expires, ends))
        )
        if self._named(key_id).revoked is not None:  # by somebody else: its holder shall not have another
            self.revoke(new.stored.key_id)
            raise _cannot_renew(key_id, "revoked")
        return new

    def revoke(self, key_id: str) -> StoredKey:
        """Take a key back; every process refuses it within `AccessSettings.key_cache_seconds`.

        Raises:
            RequestError: when there is no such key.
        """
        key = self._named(key_id)
        if key.revoked is None:
            key = dataclasses.replace(key, revoked=int(self._clock()))
            self._store.put_key(key)
        return key

    def listed(self, tenant: str | None = None) -> list[StoredKey]:
        """Return the keys, of one tenant or of all, oldest first."""
        return self._store.keys(tenant)

    def _named(self, key_id: str) -> StoredKey:
        key = self._store.key(key_id)
        if key is None:
            known = [key.key_id for key in self.listed()]
            raise RequestError(
                f"There is no key {without_keys(key_id)}.{did_you_mean(key_id, known)}",
                remedy="`zhiyin keys list` lists them; the id is what stands between zk_ and the secret.",
            )
        return key


def _cannot_renew(key_id: str, now_is: str) -> RequestError:
    return RequestError(
        f"The key {key_id} is {now_is} and cannot be renewed.",
        remedy="Make a new one:  zhiyin keys create",
    )


def digest_of(text: str) -> str:
    """Return what is stored of a key: the SHA-256 of its whole text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, key: StoredKey) -> bool:
    """Tell, in constant time, whether this is the text of a key."""
    return hmac.compare_digest(digest_of(text), key.digest)


def state(key: StoredKey, now: float) -> str:
    """Return ``valid``, ``revoked`` or ``expired``."""
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and now >= key.expires else "valid"


def without_keys(text: str) -> str:
    """Return a text in which keys are cut down to their public id."""
    return _ANY_KEY.sub(r"zk_\1_…", text)


_ANY_KEY = re.compile(r"zk_([0-9a-zA-Z]{1,16})_[0-9a-zA-Z]+")


def _made(key: StoredKey) -> NewKey:
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    text = f"zk_{key.key_id}_{secret}"
    return NewKey(text, dataclasses.replace(key, digest=digest_of(text)))


def _check(name: str, allowance: Allowance) -> None:
    if not name.strip() or len(name) > _NAME_LENGTH or not name.isprintable():
        raise RequestError(f"The name of a key is 1 to {_NAME_LENGTH} printable characters.")
    for scope in allowance.scopes:
        if scope not in SCOPES:
            raise RequestError(
                f"The scope '{scope}' is not known.{did_you_mean(scope, SCOPES)}",
                possible=f"The scopes are {', '.join(SCOPES)}.",
            )
    if not allowance.scopes:
        raise RequestError("A key needs a scope.", possible=f"The scopes are {', '.join(SCOPES)}.")
    refuse_unfit_tenant(allowance.tenant)
    for number, said in (
        (allowance.lifetime_seconds, "lifetime"),
        (allowance.requests_per_second, "rate limit"),
    ):
        if number is not None and not 0 < number < float("inf"):
            raise RequestError(f"The {said} of a key is above 0.")
