"""Bundles in the store: published, activated, rolled back, cleared away."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zhiyin.domain.errors import StoreError
from zhiyin.pipeline.bundle import load_bundle, read_card
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import StoredBundle
from zhiyin.stores.unpacking import unpacking_folder

REFUSED = "refused"
"""Fact of a stored bundle that was refused: why."""
_REFUSED_KEPT = 1
_PIN_KIND, _PIN_NAME = "pin", "version"


def version_of(folder: Path) -> str:
    """Return a short name of what a bundle holds: the digest of its card, which holds those of its files."""
    return hashlib.sha256((folder / "bundle.toml").read_bytes()).hexdigest()[:12]


def publish(
    store: EventStore, folder: Path, *, activate: bool = False, facts: dict[str, Any] | None = None
) -> str:
    """Put a bundle into the store, whole or not at all.

    Args:
        store: Of the tenant.
        folder: The bundle; it is read once to be sure that it can be.
        activate: Make it the one to serve; every service process swaps as soon as it sees the change log, and
            the loop goes on from it, also where somebody had gone back to it.
        facts: Kept beside it, with what its card says of its training.

    Returns:
        Its version.

    Raises:
        BundleError: when the folder is no bundle, or damaged.
        StoreError: when it cannot be stored.
    """
    load_bundle(folder)
    training = read_card(folder).get("training", {})
    version = version_of(folder)
    told = {name: value for name, value in training.items() if isinstance(value, (str, int, float, dict))}
    position = int(training.get("position", 0))
    if position > store.position():  # of the log of another store
        position = 0
    store.put_bundle(version, folder, position=position, facts=told | (facts or {}))
    if activate:
        put_in_use(store, version)
    return version


def put_in_use(store: EventStore, version: str) -> None:
    """Serve a stored version from now on; the loop goes on from it.

    Raises:
        StoreError: when it is not there, or the store fails.
    """
    if pin(store) is not None:
        release(store)
    store.activate_bundle(version).result()


def active(store: EventStore) -> StoredBundle | None:
    """Return the version to serve; None before the first was activated."""
    return next((bundle for bundle in store.bundles() if bundle.is_active), None)


def rollback(store: EventStore, to: str | None = None) -> str:
    """Make an earlier version the one to serve, and keep it: the loop publishes nothing until `release`.

    Args:
        store: Of the tenant.
        to: Which one; the newest published before the one in use when None.

    Returns:
        The version that is served now.

    Raises:
        StoreError: when there is no such version, or none before.
        BundleError: when it is damaged; everything stays as it was.
    """
    to = to or version_before(store)
    if to not in {bundle.version for bundle in store.bundles()}:
        raise StoreError(f"There is no version '{to}'.", possible=_listed(store.bundles()))
    with _fetched(store, to) as folder:
        load_bundle(folder)  # no process could swap to what cannot be loaded
    _pin(store, to)
    store.activate_bundle(to).result()
    return to


@contextmanager
def _fetched(store: EventStore, version: str) -> Iterator[Path]:
    """Unpack a version for a moment; its files are compared with what was stored.

    Raises:
        BundleError: when they differ.
    """
    with unpacking_folder() as folder:
        place = folder / version
        store.fetch_bundle(version, place)
        yield place


def version_before(store: EventStore) -> str:
    """Return the newest version published before the one in use.

    Raises:
        StoreError: when there is none, or none is in use.
    """
    bundles = [bundle for bundle in store.bundles() if REFUSED not in bundle.facts]
    current = next((place for place, bundle in enumerate(bundles) if bundle.is_active), 0)
    if current == 0:
        raise StoreError(
            "There is no version before the one in use.",
            possible=_listed(store.bundles()),
            remedy="Name one:  zhiyin rollback --to VERSION",
        )
    return bundles[current - 1].version


def pin_if_earlier(store: EventStore, version: str) -> bool:
    """Keep a version that somebody is about to go back to: the loop publishes nothing until `release`.

    Returns:
        Whether it was stored before the version in use; others are not kept.

    Raises:
        BundleError: when its files are damaged; then nothing changes.
    """
    versions = [bundle.version for bundle in store.bundles()]
    in_use = active(store)
    if in_use is None or version not in versions[: versions.index(in_use.version)]:
        return False
    with _fetched(store, version):
        _pin(store, version)
    return True


def is_pinned(store: EventStore, version: str) -> bool:
    """Whether somebody went back to this version and has not released it since."""
    found = pin(store)
    return found is not None and found.version == version


@dataclass(frozen=True)
class Pin:
    """That somebody goes back to a version; it stays while that version is in use.

    Attributes:
        version: To which.
        token: Distinct each time, so that going back to the same version again is seen.
    """

    version: str
    token: str


def pin(store: EventStore) -> Pin | None:
    """Return the newest; None where nobody went back, or it was released."""
    bodies = (found.body for found in store.documents(_PIN_KIND) if found.name == _PIN_NAME)
    return next((Pin(body["version"], body.get("token", "")) for body in bodies if body is not None), None)


def _pin(store: EventStore, version: str) -> None:
    store.put_document(_PIN_KIND, _PIN_NAME, asdict(Pin(version, uuid.uuid4().hex))).result()


def release(store: EventStore) -> None:
    """Let the loop replace a version that somebody went back to."""
    store.put_document(_PIN_KIND, _PIN_NAME, None).result()


def refused_since(store: EventStore, parent: str, read: Mapping[str, Any]) -> str | None:
    """Return the newest version when it was refused in favour of a parent, after the same was read."""
    newest = max(store.bundles(), key=lambda bundle: bundle.position, default=None)
    if newest is None or REFUSED not in newest.facts:
        return None
    is_same = newest.facts.get("parent") == parent and newest.facts.get("read") == read
    return newest.version if is_same else None


def clear_away(store: EventStore, keep: int, *, needed: Collection[str] = ()) -> list[str]:
    """Drop old versions: all published ones but the newest ``keep``, all refused ones but the newest.

    The version in use stays, however old it is, and counts as one of those kept.

    Args:
        store: Of the tenant.
        keep: How many published ones are kept.
        needed: Versions that stay beside them, such as those that experiments answer with.

    Returns:
        What was dropped, oldest first.
    """
    bundles = [bundle for bundle in store.bundles() if bundle.is_active or bundle.version not in needed]
    published = [bundle for bundle in bundles if REFUSED not in bundle.facts]
    refused = [bundle for bundle in bundles if REFUSED in bundle.facts]
    spare = [bundle for bundle in published if not bundle.is_active]
    n_spare = max(keep - (len(published) - len(spare)), 0)
    old = spare[: max(len(spare) - n_spare, 0)]
    old += [bundle for bundle in refused[: max(len(refused) - _REFUSED_KEPT, 0)] if not bundle.is_active]
    for bundle in old:
        store.drop_bundle(bundle.version)
    return [bundle.version for bundle in old]


def _listed(bundles: list[StoredBundle]) -> str:
    if not bundles:
        return "The store holds no bundle; put one there:  zhiyin publish BUNDLE --store URL --activate"
    told = (f"{b.version}{' (in use)' if b.is_active else ''}" for b in bundles)
    return f"The versions are, oldest first: {', '.join(told)}."
